//! From an accepted socket to a connection or a refusal, within the manifest's `headTimeout`.
//!
//! The steps: read the head; check the path; admit the client ([`admission`]); take a slot; answer. The handshake owns
//! the slot, so every way to end returns it. Bytes after the head are the client's first frames. [`Attempt`] counts
//! each handshake under exactly one outcome (invariant A4).

mod admission;
mod answer;
mod attempt;
mod client_address;
mod outcome;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use wscluster_protocol::reply::Reply;
use wscluster_runtime::fds::{Budget, Permit};
use wscluster_runtime::places::Place;
use wscluster_ws::upgrade::{Refusal, UpgradeRequest, accept_key, parse_request};

pub(crate) use self::admission::Principal;
use self::attempt::Attempt;
use self::client_address::client_address;
use self::outcome::HandshakeOutcome;
use super::connection::read;
use super::shared::{NoSlot, Shared};
use super::slots::Slot;
use super::worker::{Upgraded, Worker};

/// The subprotocol whose clients get a `hello`.
const PROTOCOL: &str = "wscluster.v1";

/// Time limit for a refused client to read the answer.
const READ_ANSWER: Duration = Duration::from_secs(1);

/// File descriptors for an accepted client: for a connection, for a refusal only, or none. Without any, the
/// connection is closed unanswered.
pub(super) struct Room {
    connection: Option<Permit>,
    refusal: Option<Place>,
}

impl Room {
    /// Takes the descriptors for one client.
    pub(super) fn take(fds: &Arc<Budget>) -> Self {
        let connection = fds.take(Permit::CONNECTION);
        if connection.is_some() {
            return Self { connection, refusal: None };
        }
        fds.refused();
        Self { connection, refusal: fds.take_refusal() }
    }

    fn is_none(&self) -> bool {
        self.connection.is_none() && self.refusal.is_none()
    }

    /// Another client had to make room for this one, and its descriptor is still open.
    pub(super) fn has_replaced(&self) -> bool {
        self.refusal.as_ref().is_some_and(|place| place.has_replaced)
    }
}

/// What to do with a connection.
enum Verdict {
    Accept(Accepted),
    /// The answer, and the outcome to count.
    Refuse(Vec<u8>, HandshakeOutcome),
}

/// An upgrade with its slot.
struct Accepted {
    slot: Slot,
    principal: Principal,
    answer: Vec<u8>,
    echo: bool,
    v1: bool,
    /// Length of the head, bytes.
    len: usize,
}

/// Runs the handshake of one accepted socket.
pub(super) async fn run(worker: Rc<RefCell<Worker>>, stream: TcpStream, peer: SocketAddr, mut room: Room) {
    let shared = Arc::clone(&worker.borrow().shared);
    let mut attempt = Attempt::begin(&shared, peer);
    if room.is_none() {
        return attempt.end(HandshakeOutcome::Unavailable(NoSlot::FdLimit));
    }
    let deadline = Instant::now() + shared.settings.head_timeout;
    let mut head = Vec::new();
    let refusal = room.refusal.take();
    let decided = tokio::select! {
        biased;
        decided = timeout_at(deadline, decide(&worker, &stream, peer, &mut head, &mut room)) => decided,
        () = lost(refusal.as_ref()) => return attempt.end(HandshakeOutcome::Unavailable(NoSlot::FdLimit)),
    };
    let verdict = match decided {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(outcome)) => return attempt.end(outcome),
        Err(_) => refuse(Refusal::HeadTimeout),
    };
    if let Some(place) = &refusal {
        place.heard();
    }
    attempt.head_complete();
    match verdict {
        Verdict::Accept(Accepted { slot, principal, answer, echo, v1, len }) => {
            match timeout_at(deadline, write_all(&stream, &answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return attempt.end(HandshakeOutcome::ClientLeft),
                Err(_) => return attempt.end(HandshakeOutcome::AnswerTimeout),
            }
            attempt.end(HandshakeOutcome::Accepted);
            let settings = &shared.settings;
            let hello = v1.then(|| {
                let session = format!("{:016x}", rand::random::<u64>());
                let ping_ms = u64::try_from(settings.delivery.ping_interval.0.as_millis()).unwrap_or(u64::MAX);
                Reply::Hello { shard: settings.name.clone(), ping_ms, session }.frame(None)
            });
            worker.borrow_mut().add(Upgraded { stream, slot, principal, echo }, &head[len..], hello);
        }
        Verdict::Refuse(answer, outcome) => {
            // Counted after the write, so that the phase times include it.
            let written = timeout(READ_ANSWER, write_all(&stream, &answer)).await;
            attempt.end(outcome);
            if matches!(written, Ok(Ok(()))) {
                tokio::select! {
                    _ = timeout(READ_ANSWER, end_politely(&worker, &stream)) => {}
                    () = lost(refusal.as_ref()) => {}
                }
            }
        }
    }
}

/// Resolves when a client that is only refused has to make room for another one.
async fn lost(place: Option<&Place>) {
    match place {
        Some(place) => place.lost().await,
        None => std::future::pending().await,
    }
}

/// Reads the head and decides about it; `Err` is the outcome of a client that left before.
async fn decide(
    worker: &Rc<RefCell<Worker>>,
    stream: &TcpStream,
    peer: SocketAddr,
    head: &mut Vec<u8>,
    room: &mut Room,
) -> Result<Verdict, HandshakeOutcome> {
    let shared = Arc::clone(&worker.borrow().shared);
    loop {
        stream.readable().await.map_err(|_| HandshakeOutcome::ClientLeft)?;
        {
            let scratch = Rc::clone(&worker.borrow().scratch);
            let mut scratch = scratch.borrow_mut();
            match read(stream, &mut scratch) {
                Ok(0) if head.is_empty() => return Err(HandshakeOutcome::ClosedSilently),
                Ok(0) => return Err(HandshakeOutcome::ClientLeft),
                Ok(len) => head.extend_from_slice(&scratch[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return Err(HandshakeOutcome::ClientLeft),
            }
        }
        match parse_request(head, shared.settings.head) {
            Ok(None) => {}
            Ok(Some(request)) => return Ok(judge(&shared, &request, peer, room).await),
            Err(refusal) => return Ok(refuse(refusal)),
        }
    }
}

/// Decides about a valid head.
async fn judge(shared: &Shared, request: &UpgradeRequest<'_>, peer: SocketAddr, room: &mut Room) -> Verdict {
    let settings = &shared.settings;
    let echo = match request.path {
        "/ws" => false,
        "/echo" if settings.echo => true,
        _ => return refuse(Refusal::NotFound),
    };
    let principal = match admission::admit(settings, request, client_address(peer, request)).await {
        Ok(principal) => principal,
        Err(refusal) => return refuse(refusal),
    };
    match shared.take_slot(&mut room.connection) {
        Ok(slot) => {
            let v1 = !echo && request.protocols().any(|protocol| protocol == PROTOCOL);
            let answer = answer::switching(&accept_key(request.key), v1.then_some(PROTOCOL), &shared.slots);
            Verdict::Accept(Accepted { slot, principal, answer, echo, v1, len: request.len })
        }
        Err(reason) => {
            let answer = answer::unavailable(reason, &shared.slots, &settings.drain.retry_after);
            Verdict::Refuse(answer, HandshakeOutcome::Unavailable(reason))
        }
    }
}

fn refuse(refusal: Refusal) -> Verdict {
    Verdict::Refuse(refusal.answer(), HandshakeOutcome::Refused(refusal))
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Shuts our side and reads up to the peer's end: closing a socket with unread bytes sends a reset, which may destroy
/// the answer.
async fn end_politely(worker: &Rc<RefCell<Worker>>, stream: &TcpStream) -> io::Result<()> {
    rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?;
    loop {
        stream.readable().await?;
        match read(stream, &mut worker.borrow().scratch.borrow_mut()) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
