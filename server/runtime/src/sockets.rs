//! Listening sockets and the limits of this process. Options set on a listener are inherited by what it accepts
//! (Linux), so that no accepted socket costs a `setsockopt`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Handshakes the kernel may hold for us; it caps this at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4_096;

/// After this long without an acknowledgement for sent data a peer is gone (RFC 5482).
pub const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that may wait unsent in the kernel for one peer (`TCP_NOTSENT_LOWAT`): without it a reader that stalls has
/// megabytes there before its own queue, which has a limit and a policy, sees any of it.
const UNSENT: u32 = 128 << 10;

/// Why a socket cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {addr}: {source}{}", remedy(source))]
pub struct ListenError {
    /// Where.
    pub addr: SocketAddr,
    /// Why.
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process holds the port: choose another one, or 0 for any free one",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}

/// Whether several sockets may listen on one port, the kernel spreading connections over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// This socket alone.
    Exclusive,
    /// `SO_REUSEPORT`.
    ReusePort,
}

/// A non-blocking listener with our backlog, `TCP_NODELAY`, `TCP_USER_TIMEOUT` and `TCP_NOTSENT_LOWAT`.
pub fn listen(addr: SocketAddr, share: Share) -> Result<TcpListener, ListenError> {
    let socket = bind(addr, share)?;
    listen_on(&socket).map_err(|source| ListenError { addr, source })?;
    Ok(socket)
}

/// A socket that holds `addr` and gets no connection before [`listen_on`].
pub fn bind(addr: SocketAddr, share: Share) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share == Share::ReusePort)?;
        socket.bind(&addr.into())?;
        Ok(socket.into())
    };
    open().map_err(|source| ListenError { addr, source })
}

/// Makes a bound socket a listener of ours, also one that another process has opened, or has left behind [`refuse_new`].
pub fn listen_on(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    // That of `refuse_new`. There is none in most cases, which is an error.
    let _ = socket.detach_filter();
    socket.listen(BACKLOG)
}

/// Whether it listens.
pub fn listens(socket: &impl AsFd) -> bool {
    SockRef::from(socket).is_listener().unwrap_or(false)
}

/// Ends the listening for good, also for whoever else holds the socket; who waits in its backlog is reset.
pub fn stop_listening(listener: &impl AsFd) {
    if let Err(error) = SockRef::from(listener).shutdown(std::net::Shutdown::Both) {
        tracing::debug!(%error, "stop listening");
    }
}

/// Fails when somebody listens on `addr`. A listener of another program would share its port with ours through
/// `SO_REUSEPORT` and get part of the clients: only an exclusive one tells.
pub fn ensure_free(addr: SocketAddr) -> Result<(), ListenError> {
    if addr.port() == 0 { Ok(()) } else { listen(addr, Share::Exclusive).map(drop) }
}

/// Whether somebody listens on `addr` with whom a listener of ours would share it. Nobody is kept from it by this question.
pub fn is_shared(addr: SocketAddr) -> bool {
    let bind = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // Without SO_REUSEPORT, and without listening: only a socket that listens is in its way.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())
    };
    bind().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Writes what fits; `WouldBlock` when nothing does. The runtime's view of the socket is not asked, since it is wrong
/// only where the kernel says so too; it lies in memory that a fan-out to thousands would have to fetch for each.
pub fn send(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        // Told, so that waiting for room waits.
        Err(Errno::AGAIN) => socket.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into())),
        sent => Ok(sent?),
    }
}

/// Lets no new TCP handshake begin at `listener`, while those that have begun may end. It is as if the first segment
/// (SYN) were lost, so that the client's kernel sends it again a second later: to another listener of the port, if there is
/// one by then. Best effort: a kernel without filters goes on as before.
pub fn refuse_new(listener: impl AsFd) {
    const RETURN: u16 = 0x06;
    let program = [
        // The byte with the flags, of these SYN and ACK: drop what has only the first, keep the rest.
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(&listener).attach_filter(&program) {
        tracing::debug!(%error, "no filter for new connections");
    }
}

/// Whether `error` of `accept` means that there is no room for another socket, so that trying at once fails again.
pub fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&Errno::from_raw_os_error(code)))
}

/// Raises the soft limit of open files to the hard one and says what it is.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current == limit.maximum {
        return most;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn ends_to_listen_for_all_who_hold_the_socket() {
        let any = "127.0.0.1:0".parse().unwrap();
        let held = bind(any, Share::ReusePort).unwrap();
        let addr = held.local_addr().unwrap();
        let refused = || TcpStream::connect(addr).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        assert!(refused(), "a socket that is only bound gets nobody");
        let child = held.try_clone().unwrap();
        for _ in 0..2 {
            listen_on(&child).unwrap();
            assert!(listens(&held));
            TcpStream::connect(addr).unwrap();
            refuse_new(&child);
        }
        stop_listening(&child);
        assert!(refused() && !listens(&held), "the copy that is held does not go on");
    }
}
