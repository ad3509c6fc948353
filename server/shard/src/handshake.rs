//! From an accepted socket to a connection or a refusal, within the manifest's `headTimeout`.
//!
//! A slot is asked for only by a head that keeps every rule, and travels with the handshake: whatever ends it gives the
//! slot back. Bytes right behind the head are the client's first frames. This state is dropped after the 101. Every
//! handshake is counted under exactly one outcome (invariant A4), by [`Attempt`].

mod answer;
mod attempt;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use wscluster_protocol::reply;
use wscluster_runtime::fds::{Budget, Permit, RefusalPermit};
use wscluster_ws::upgrade::{Refusal, UpgradeRequest, accept_key, parse_request};

use self::attempt::Attempt;
use super::connection::read;
use super::shared::{FD_LIMIT, Shared};
use super::slots::Slot;
use super::worker::Worker;

/// The subprotocol whose clients are greeted.
const PROTOCOL: &str = "wscluster.v1";

/// How long a refused client may take to read the answer.
const READ_ANSWER: Duration = Duration::from_secs(1);

/// What is left of the descriptors for a client that was accepted: enough to keep it, or to tell it that there is no
/// more, or nothing, so that it only sees its connection closed.
pub(super) struct Room {
    connection: Option<Permit>,
    refusal: Option<RefusalPermit>,
}

impl Room {
    /// For one client.
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
}

/// What to do with a connection.
enum Verdict {
    Accept(Accepted),
    /// The answer, and the outcome to count.
    Refuse(Vec<u8>, &'static str),
}

/// An upgrade with its slot.
struct Accepted {
    slot: Slot,
    answer: Vec<u8>,
    echo: bool,
    v1: bool,
    /// Bytes of the head.
    len: usize,
}

/// Handles one accepted socket.
pub(super) async fn run(worker: Rc<RefCell<Worker>>, stream: TcpStream, peer: SocketAddr, mut room: Room) {
    let shared = Arc::clone(&worker.borrow().shared);
    let mut attempt = Attempt::begin(&shared, peer);
    if room.is_none() {
        return attempt.end(FD_LIMIT);
    }
    let deadline = Instant::now() + shared.settings.head_timeout;
    let mut head = Vec::new();
    let verdict = match timeout_at(deadline, read_head(&worker, &stream, &shared, &mut head, &mut room)).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(outcome)) => return attempt.end(outcome),
        Err(_) => refuse(Refusal::HeadTimeout),
    };
    attempt.head_is_there();
    match verdict {
        Verdict::Accept(Accepted { slot, answer, echo, v1, len }) => {
            match timeout_at(deadline, write_all(&stream, &answer)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return attempt.end("client_left"),
                Err(_) => return attempt.end("answer_timeout"),
            }
            attempt.end("accepted");
            let settings = &shared.settings;
            let hello = v1.then(|| {
                let session = format!("{:016x}", rand::random::<u64>());
                reply::hello(&settings.name, settings.delivery.ping_interval.0.as_millis(), &session)
            });
            worker.borrow_mut().add(stream, slot, echo, &head[len..], hello);
        }
        Verdict::Refuse(answer, outcome) => {
            // Counted after the write, so that the phase times say when the client could know.
            let written = timeout(READ_ANSWER, write_all(&stream, &answer)).await;
            attempt.end(outcome);
            if matches!(written, Ok(Ok(()))) {
                let _ = timeout(READ_ANSWER, end_politely(&worker, &stream)).await;
            }
        }
    }
}

/// Reads until the head says what to do; `Err` is the outcome when the client left before.
async fn read_head(
    worker: &Rc<RefCell<Worker>>,
    stream: &TcpStream,
    shared: &Arc<Shared>,
    head: &mut Vec<u8>,
    room: &mut Room,
) -> Result<Verdict, &'static str> {
    loop {
        stream.readable().await.map_err(|_| "client_left")?;
        {
            let scratch = Rc::clone(&worker.borrow().scratch);
            let mut scratch = scratch.borrow_mut();
            match read(stream, &mut scratch) {
                Ok(0) if head.is_empty() => return Err("closed_silently"),
                Ok(0) => return Err("client_left"),
                Ok(len) => head.extend_from_slice(&scratch[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return Err("client_left"),
            }
        }
        match parse_request(head, shared.settings.head) {
            Ok(None) => {}
            Ok(Some(request)) => return Ok(admit(shared, &request, room)),
            Err(refusal) => return Ok(refuse(refusal)),
        }
    }
}

/// Decides about a head that is valid.
fn admit(shared: &Arc<Shared>, request: &UpgradeRequest<'_>, room: &mut Room) -> Verdict {
    let settings = &shared.settings;
    let echo = match request.path {
        "/ws" => false,
        "/echo" if settings.echo => true,
        _ => return refuse(Refusal::NotFound),
    };
    if let Err(refusal) = request.check_origin(&settings.allowed_origins) {
        return refuse(refusal);
    }
    match shared.admit(&mut room.connection) {
        Ok(slot) => {
            let v1 = !echo && request.protocols().any(|protocol| protocol == PROTOCOL);
            let answer = answer::switching(&accept_key(request.key), v1.then_some(PROTOCOL), &shared.slots);
            Verdict::Accept(Accepted { slot, answer, echo, v1, len: request.len })
        }
        Err(reason) => Verdict::Refuse(answer::unavailable(reason, &shared.slots, &settings.drain.retry_after), reason),
    }
}

fn refuse(refusal: Refusal) -> Verdict {
    Verdict::Refuse(refusal.answer(), refusal.code())
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

/// Shuts our side and reads to the peer's end: closing with unread bytes would reset the answer away.
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
