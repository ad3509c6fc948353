//! Listening sockets and the limits of this process. Options set on a listener are inherited by what it accepts
//! (Linux), so that no accepted socket costs a `setsockopt`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

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
    addr: SocketAddr,
    source: io::Error,
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
    let open = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share == Share::ReusePort)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| ListenError { addr, source })
}

/// Fails when somebody listens on `addr`. A listener of another program would share its port with ours through
/// `SO_REUSEPORT` and get part of the clients: only an exclusive one tells.
pub fn ensure_free(addr: SocketAddr) -> Result<(), ListenError> {
    if addr.port() == 0 { Ok(()) } else { listen(addr, Share::Exclusive).map(drop) }
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
