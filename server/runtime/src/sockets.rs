//! Listening sockets and the limits of this process. On Linux, accepted sockets inherit the options of their
//! listener, so no accepted socket costs a `setsockopt`.

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

/// Completed TCP handshakes that the kernel may queue; it caps this at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4_096;

/// A peer that has not acknowledged sent data for this long counts as gone (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Unsent bytes that the kernel may hold for one peer (`TCP_NOTSENT_LOWAT`). Without it, a stalled reader would have
/// megabytes in the kernel before its own queue, which has a limit and a policy, fills.
const UNSENT: u32 = 128 << 10;

/// Why a socket cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {addr}: {source}{}", remedy(source))]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// The cause.
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
    /// Only this socket.
    Exclusive,
    /// `SO_REUSEPORT`.
    ReusePort,
}

/// A non-blocking listener with [`BACKLOG`], `TCP_NODELAY`, `TCP_USER_TIMEOUT` and `TCP_NOTSENT_LOWAT`.
pub fn listen(addr: SocketAddr, share: Share) -> Result<TcpListener, ListenError> {
    listen_for_clients(addr, share, Duration::ZERO)
}

/// A listener as [`listen`] makes it, for clients with this `delivery.pongTimeout`.
pub fn listen_for_clients(addr: SocketAddr, share: Share, pong_timeout: Duration) -> Result<TcpListener, ListenError> {
    let socket = bind(addr, share)?;
    listen_on(&socket, pong_timeout).map_err(|source| ListenError { addr, source })?;
    Ok(socket)
}

/// A socket bound to `addr`, which gets no connections before [`listen_on`].
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

/// Makes a bound socket a listener with these options. Another process may have opened it, or have called
/// [`refuse_new`] on it.
///
/// A client that reads nothing acknowledges nothing either. If it may be silent for a `pong_timeout` above the default
/// `TCP_USER_TIMEOUT`, the kernel must not give it up earlier.
pub fn listen_on(socket: &impl AsFd, pong_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT.max(pong_timeout)))?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    // Removes the filter of `refuse_new`. Usually there is none, which is an error.
    let _ = socket.detach_filter();
    socket.listen(BACKLOG)
}

/// Whether `socket` listens.
pub fn listens(socket: &impl AsFd) -> bool {
    SockRef::from(socket).is_listener().unwrap_or(false)
}

/// Stops listening for all processes that hold the socket, and resets connections in its backlog.
pub fn stop_listening(listener: &impl AsFd) {
    if let Err(error) = SockRef::from(listener).shutdown(std::net::Shutdown::Both) {
        tracing::debug!(%error, "stop listening");
    }
}

/// Fails if another process listens on `addr`. With `SO_REUSEPORT` a listener would share the port with it and get
/// only a part of the clients; only an exclusive bind detects it.
pub fn ensure_free(addr: SocketAddr) -> Result<(), ListenError> {
    if addr.port() == 0 { Ok(()) } else { listen(addr, Share::Exclusive).map(drop) }
}

/// Whether another process listens on `addr`, so that a listener of this process would share it. The check blocks no
/// other bind.
pub fn is_shared(addr: SocketAddr) -> bool {
    let bind = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // Without SO_REUSEPORT and without listening, only a listening socket is in conflict.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())
    };
    bind().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Writes what fits; `WouldBlock` if nothing does. Does not check tokio's readiness first: the kernel knows better,
/// and a fan-out to thousands of sockets would have to load that state for each.
pub fn send(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        // Clears the readiness, so that waiting for it waits.
        Err(Errno::AGAIN) => socket.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into())),
        sent => Ok(sent?),
    }
}

/// Drops the SYN of new TCP handshakes at `listener`; handshakes under way may complete. The client's kernel sends
/// the SYN again a second later, to another listener of the port if there is one by then. Best effort: without
/// support in the kernel nothing changes.
pub fn refuse_new(listener: impl AsFd) {
    const RETURN: u16 = 0x06;
    let program = [
        // Load the byte with the flags, mask SYN and ACK, drop segments with SYN only.
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

/// Whether `error` means a shortage of descriptors or memory, so that an attempt at once fails again.
pub fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&Errno::from_raw_os_error(code)))
}

/// Raises the soft limit of open files to the hard one, and returns the limit.
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
    fn stops_listening_for_all_holders_of_the_socket() {
        let any = "127.0.0.1:0".parse().unwrap();
        let held = bind(any, Share::ReusePort).unwrap();
        let addr = held.local_addr().unwrap();
        let refused = || TcpStream::connect(addr).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        assert!(refused(), "a socket that is only bound accepts nothing");
        let child = held.try_clone().unwrap();
        for _ in 0..2 {
            listen_on(&child, Duration::ZERO).unwrap();
            assert!(listens(&held));
            TcpStream::connect(addr).unwrap();
            refuse_new(&child);
        }
        stop_listening(&child);
        assert!(refused() && !listens(&held), "the other copy does not go on listening");
    }

    #[test]
    fn gives_a_client_up_no_earlier_than_its_pong_timeout() {
        let any = "127.0.0.1:0".parse().unwrap();
        for (pong_timeout, expected) in [(1, 30), (30, 30), (600, 600)] {
            let listener = listen_for_clients(any, Share::Exclusive, Duration::from_secs(pong_timeout)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = loop {
                match listener.accept() {
                    Ok((accepted, _)) => break accepted,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            };
            let timeout = SockRef::from(&accepted).tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(Duration::from_secs(expected)));
            drop(client);
        }
    }
}
