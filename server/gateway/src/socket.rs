//! The operations of a socket that a tunnel needs, so that another readiness backend could replace tokio.
//!
//! Nothing here blocks. A read that fills less than the buffer has emptied the socket, so it clears the readiness,
//! and saves the `recv` that would return `EAGAIN`. That holds after the peer's end of stream too, because the
//! readiness keeps the closed state.

use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connected, non-blocking byte stream.
pub(crate) trait Socket: Unpin {
    /// Ready when a read may succeed.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ready when a write may succeed.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads available bytes; 0 at the end of the stream; `WouldBlock` if none are available.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes what fits; `WouldBlock` if nothing does.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Closes the direction of writes. The other direction stays open.
    fn finish(&self);
    /// Ends the connection at once, with a reset. Whoever closes an open connection first keeps its port for a minute
    /// (`TIME_WAIT`), unless it resets it.
    fn reset(&self);
}

impl Socket for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut got = None;
        let result = self.try_io(Interest::READABLE, || {
            let len = buf.len();
            let (_, n) = rustix::net::recv(self, &mut *buf, rustix::net::RecvFlags::empty())?;
            got = Some(n);
            if n > 0 && n < len { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
        });
        got.map_or(result, Ok)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        wscluster_runtime::sockets::send(self, bytes)
    }

    fn finish(&self) {
        // An error means that the peer is gone already.
        let _ = socket2::SockRef::from(self).shutdown(Shutdown::Write);
    }

    fn reset(&self) {
        // An error means that the connection has ended already.
        let _ = rustix::net::connect_unspec(self);
    }
}

/// Whether the peer of `socket` has disconnected, even if bytes from it wait to be read: the kernel reports the end of
/// the stream (`EPOLLRDHUP`) apart from them. If not, the readiness is cleared, so that waiting for it waits for the
/// next bytes or the end.
pub(crate) fn has_hung_up(socket: &TcpStream) -> bool {
    match socket.ready(Interest::READABLE).now_or_never() {
        Some(Ok(ready)) if !ready.is_read_closed() => {
            let _ = socket.try_io(Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
            false
        }
        Some(_) => true,
        None => false,
    }
}
