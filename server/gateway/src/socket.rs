//! What a tunnel needs of a socket, so that another readiness backend can take tokio's place under it.
//!
//! Nothing here blocks. A read that fills less than the buffer has emptied the socket: it clears the readiness, which
//! saves the `recv` that would only say so. After the peer's end-of-file this still holds, because readiness keeps
//! the closed state.

use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connected, non-blocking byte stream.
pub trait Socket: Unpin {
    /// Ready when a read is worth trying.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ready when a write is worth trying.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads what is there; 0 is the end; `WouldBlock` when nothing is.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes what fits; `WouldBlock` when nothing does.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Says that nothing more will be written. The other direction stays open.
    fn finish(&self);
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
        // A peer that is gone already needs no goodbye.
        let _ = socket2::SockRef::from(self).shutdown(Shutdown::Write);
    }
}

/// Whether the peer of `socket` has hung up, seen without taking bytes that are there.
pub fn has_hung_up(socket: &TcpStream) -> bool {
    let mut byte = [0];
    let peeked =
        socket.try_io(Interest::READABLE, || Ok(rustix::net::recv(socket, &mut byte, rustix::net::RecvFlags::PEEK)?.1));
    match peeked {
        Ok(n) => n == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
