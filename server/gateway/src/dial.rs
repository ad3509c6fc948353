//! One attempt: connects to a shard, sends it the request, reads its answer.
//!
//! It has no timer: the caller drops the future when time is up or the client has disconnected. That resets the
//! connection, and the shard frees the slot it may have granted.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use scopeguard::{ScopeGuard, guard};
use tokio::net::TcpStream;
use wscluster_admin::health::State;
use wscluster_routing::backend::Load;
use wscluster_ws::upgrade::{Answer, Head, HeadLimits, parse_response};

use super::forward;
use super::outcome::Retry;
use super::ports::{self, Ports};
use super::socket::Socket as _;
use super::tunnel::with_scratch;

/// Bytes that the kernel may hold of a connection to a shard, in each direction. What waits for a client that reads
/// nothing belongs in the shard's queue, which has a limit and a policy. Without a bound, the kernel would enlarge the
/// buffer of a connection that was fast before to many megabytes. The kernel takes twice this value, for its own
/// structures.
pub(crate) const BUFFER: usize = 128 << 10;

/// Longest body of a refusal that is relayed.
const MAX_BODY: usize = 64 << 10;

/// A shard's answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A 101 that keeps every rule.
    Upgraded {
        /// The 101 as it is sent to the client, then the first frames.
        bytes: Vec<u8>,
        /// Where the frames begin.
        head_len: usize,
        /// The load that the shard reports.
        load: Option<Load>,
    },
    /// A final answer.
    Final {
        /// HTTP status.
        status: u16,
        /// Head and body as they are sent to the client.
        bytes: Vec<u8>,
    },
    /// The shard has no slot.
    Refused {
        /// Why the attempt failed.
        cause: Retry,
        /// The state that the shard reports.
        state: Option<State>,
        /// The load that the shard reports.
        load: Option<Load>,
    },
}

/// A connection to a shard that is not yet part of a tunnel. Dropped, it is reset: a refused or abandoned attempt must
/// not keep its port.
pub(crate) type ShardStream = ScopeGuard<TcpStream, fn(TcpStream)>;

/// Connects to `addr` and sends `head`.
///
/// The head is sent right after `connect`. On the same machine the connection is established by then, which saves a
/// wake-up. With `TCP_QUICKACK` off, the last segment of the TCP handshake is sent together with the head: one packet
/// less each way, and one wake-up less for the shard.
pub(crate) async fn connect(addr: SocketAddr, head: &[u8], ports: &Ports) -> io::Result<ShardStream> {
    let socket = ports.connect(addr, |source| begin(addr, source))?;
    let mut sent = match rustix::net::send(&socket, head, SendFlags::NOSIGNAL) {
        Ok(sent) => sent,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOTCONN) => 0,
        Err(error) => return Err(error.into()),
    };
    let reset: fn(TcpStream) = |stream| stream.reset();
    let stream = guard(TcpStream::from_std(std::net::TcpStream::from(socket))?, reset);
    while sent < head.len() {
        stream.writable().await?;
        match stream.try_write(&head[sent..]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(stream)
}

/// Begins to connect to `addr`.
fn begin(addr: SocketAddr, source: Option<IpAddr>) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::sockopt::set_tcp_quickack(&socket, false)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    if let Some(source) = source {
        ports::bind(&socket, source)?;
    }
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Reads the answer to an upgrade whose key is answered by `accept`.
pub(crate) async fn answer(stream: &TcpStream, limits: HeadLimits, accept: &str) -> Result<Reply, Retry> {
    let mut before = Vec::new();
    loop {
        let ended = read_more(stream, &mut before, |bytes, ended| read_reply(bytes, ended, limits, accept).transpose());
        if let Some(reply) = ended.await? {
            return Ok(reply);
        }
    }
}

/// Reads once, and passes all bytes received so far to `parse`. Keeps them in `before` only if `parse` needs more.
async fn read_more(
    stream: &TcpStream,
    before: &mut Vec<u8>,
    parse: impl Fn(&[u8], bool) -> Option<Result<Reply, Retry>>,
) -> Result<Option<Reply>, Retry> {
    poll_fn(|cx| stream.poll_readable(cx)).await.map_err(|_| Retry::Closed)?;
    with_scratch(|space| {
        let n = match stream.read(space) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(_) => return Err(Retry::Closed),
        };
        let parsed = if before.is_empty() {
            parse(&space[..n], n == 0)
        } else {
            before.extend_from_slice(&space[..n]);
            parse(before, n == 0)
        };
        match parsed {
            Some(result) => result.map(Some),
            None if n == 0 => Err(Retry::Closed),
            None => {
                if before.is_empty() {
                    before.extend_from_slice(&space[..n]);
                }
                Ok(None)
            }
        }
    })
}

/// The reply in `bytes`; `None` while more bytes are needed. `ended`: there are no more.
fn read_reply(bytes: &[u8], ended: bool, limits: HeadLimits, accept: &str) -> Result<Option<Reply>, Retry> {
    match parse_response(bytes, limits, accept).map_err(Retry::Answer)? {
        None => Ok(None),
        Some(Answer::Upgraded(head)) => {
            let mut out = forward::switching(&head);
            let head_len = out.len();
            out.extend_from_slice(&bytes[head.len..]);
            Ok(Some(Reply::Upgraded { bytes: out, head_len, load: load(&head) }))
        }
        Some(Answer::Refused(head)) => match head.status {
            503 => Ok(Some(refused(&head))),
            300..=499 => Ok(relayed(&head, &bytes[head.len..], ended)),
            status => Err(Retry::Status(status)),
        },
    }
}

fn load(head: &Head<'_>) -> Option<Load> {
    head.headers.get("X-Wscluster-Load")?.parse().ok()
}

fn refused(head: &Head<'_>) -> Reply {
    let load = load(head);
    let (cause, state) = match head.headers.get("X-Wscluster-Reason") {
        Some("draining") => (Retry::Draining, Some(State::Draining)),
        Some("starting") => (Retry::Starting, Some(State::Starting)),
        // The shard can accept no connection, whatever its capacity.
        Some("fd_limit") => (Retry::FdLimit, Some(State::Full)),
        Some("full") if load.is_some_and(|load| load.connections < load.capacity) => (Retry::Contradiction, None),
        Some("full") if load.is_some() => (Retry::Full, None),
        // Another kind of server, or a reason unknown to this gateway.
        _ => (Retry::Status(503), None),
    };
    Reply::Refused { cause, state, load }
}

/// A final answer once its body is complete. A body without a length ends with the connection. A chunked body is not
/// decoded, as shards send none: such an answer is relayed without its body.
fn relayed(head: &Head<'_>, rest: &[u8], ended: bool) -> Option<Reply> {
    let length = match head.headers.get("Content-Length") {
        _ if head.headers.get("Transfer-Encoding").is_some() => Some(0),
        Some(length) => length.parse::<usize>().ok(),
        None => None,
    };
    let wanted = length.unwrap_or(MAX_BODY).min(MAX_BODY);
    if rest.len() < wanted && !ended {
        return None;
    }
    let body = &rest[..rest.len().min(wanted)];
    Some(Reply::Final { status: head.status, bytes: forward::refusal(head, body) })
}
