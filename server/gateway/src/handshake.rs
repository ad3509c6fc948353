//! One client from accept to its tunnel or its refusal: read the head, pick a shard, ask it, try others, wait for a
//! slot. `docs/handshake.md` draws it.
//!
//! Time is bounded three ways: the head, all tries together, all waits together. The client's leaving is noticed in every
//! phase. Everything taken on the way is given back by a guard, so that dropping the future at any point is safe.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::Instant;
use wscluster_routing::backend::{Lease, ShardId};
use wscluster_runtime::drain::hint_ms;
use wscluster_runtime::fds::Permit;

use super::client::{Asked, Client};
use super::dial::{self, Reply};
use super::outcome::{Outcome, Phase, Retry, Unavailable};
use super::queue::Ticket;
use super::record::Record;
use super::socket::Socket as _;
use super::state::{Gateway, Stage};
use super::tunnel::{First, Tunnel};
use super::worker::Worker;

/// Serves one client; ends when its tunnel is open or its refusal was sent.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr, permit: Permit) {
    let gateway = &worker.gateway;
    let mut record = Record::start(gateway, peer);
    let client = Client::new(stream);
    let read = client.read_head(peer.ip(), &gateway.settings).await;
    record.lap(Phase::Head);
    let admitted = match read {
        Ok(_) if gateway.stage() == Stage::Refusing => Err(Outcome::Unavailable(Unavailable::Draining).into()),
        Ok(asked) => {
            Admission::new(gateway, &client, &asked, &mut record).run().await.map(|granted| (granted, asked.early))
        }
        Err(outcome) => Err(Ending::from(outcome)),
    };
    match admitted {
        Ok((granted, early)) => {
            let written = match client.stream.write(&granted.bytes) {
                Ok(written) => written,
                // Not writable at this moment: the tunnel sends it.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
                Err(_) => {
                    record.lap(Phase::Write);
                    record.end(Outcome::ClientGone(Phase::Write), Some(&granted.lease.shard().member().name));
                    return;
                }
            };
            let seat = worker.registry.seat(granted.lease.shard(), permit);
            record.lap(Phase::Write);
            record.end(Outcome::Upgraded, Some(&granted.lease.shard().member().name));
            let first = First { unsent: &granted.bytes[written..], frames: &granted.bytes[granted.head_len..] };
            seat.occupy(|seat| {
                spawn_local(Tunnel::new(client.stream, granted.stream, &early, first, seat));
            });
        }
        Err(ending) => {
            let answer = if ending.relayed.is_empty() { answer(ending.outcome, gateway) } else { ending.relayed };
            record.end(ending.outcome, ending.shard.as_deref());
            client.farewell(&answer).await;
        }
    }
}

/// Refuses a client for want of descriptors, after its head was read: an answer to a request that was not read yet
/// would be lost to a reset.
pub async fn turn_away(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let gateway = &worker.gateway;
    let mut record = Record::start(gateway, peer);
    let client = Client::new(stream);
    let read = client.read_head(peer.ip(), &gateway.settings).await;
    record.lap(Phase::Head);
    let outcome = read.err().unwrap_or(Outcome::Unavailable(Unavailable::FdLimit));
    let answer = answer(outcome, gateway);
    record.end(outcome, None);
    client.farewell(&answer).await;
}

/// What we answer by ourselves; empty where nobody is there to read it.
fn answer(outcome: Outcome, gateway: &Gateway) -> Vec<u8> {
    match outcome {
        Outcome::Refused(refusal) => refusal.answer(),
        Outcome::Unavailable(reason) => {
            let message = (reason == Unavailable::FdLimit).then(|| gateway.fds.shortage());
            let retry_after_ms = hint_ms(&gateway.settings.drain.retry_after);
            let (reason, message) = (reason.code(), message.as_deref());
            wscluster_ws::upgrade::Unavailable { reason, message, retry_after_ms, fields: &[] }.answer()
        }
        _ => Vec::new(),
    }
}

/// A slot, and the connection to its shard.
struct Granted {
    stream: TcpStream,
    lease: Lease,
    bytes: Vec<u8>,
    /// Where the frames in `bytes` begin.
    head_len: usize,
}

/// An end without a tunnel.
struct Ending {
    outcome: Outcome,
    shard: Option<String>,
    relayed: Vec<u8>,
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, shard: None, relayed: Vec::new() }
    }
}

/// The way from a good request to a slot.
struct Admission<'a> {
    gateway: &'a Gateway,
    client: &'a Client,
    asked: &'a Asked,
    record: &'a mut Record,
    /// End of all tries; waits push it back.
    deadline: Instant,
    /// What is left for waits.
    patience: Duration,
    tried: Vec<ShardId>,
    ticket: Option<Ticket>,
}

/// How a wait ended.
enum Wait {
    Called,
    Over,
}

impl<'a> Admission<'a> {
    fn new(gateway: &'a Gateway, client: &'a Client, asked: &'a Asked, record: &'a mut Record) -> Self {
        Self {
            gateway,
            client,
            asked,
            record,
            deadline: Instant::now() + gateway.settings.handshake_timeout,
            patience: gateway.settings.queue_timeout,
            tried: Vec::new(),
            ticket: None,
        }
    }

    async fn run(mut self) -> Result<Granted, Ending> {
        let began_ms = self.gateway.table.now_ms();
        loop {
            if let Some(lease) = self.pick() {
                if let Some(granted) = self.attempt(lease).await? {
                    return Ok(granted);
                }
                if Instant::now() >= self.deadline {
                    return Err(Outcome::Unavailable(Unavailable::Timeout).into());
                }
                continue;
            }
            match self.wait().await? {
                Wait::Called => self.tried.clear(),
                Wait::Over => return self.last_try(began_ms).await,
            }
        }
    }

    /// Nobody overtakes those who wait.
    fn pick(&mut self) -> Option<Lease> {
        let lease = if self.ticket.is_none() && !self.gateway.queue.is_empty() {
            None
        } else {
            self.gateway.table.pick(&self.tried, &mut rand::rng())
        };
        if let (Some(ticket), Some(_)) = (&self.ticket, &lease) {
            ticket.picked();
        }
        self.record.lap(Phase::Pick);
        lease
    }

    async fn wait(&mut self) -> Result<Wait, Ending> {
        let ticket = match self.ticket.take() {
            Some(ticket) => {
                ticket.wait_again();
                ticket
            }
            None => self.gateway.queue.join().ok_or(Outcome::Unavailable(Unavailable::QueueFull))?,
        };
        let ticket = self.ticket.insert(ticket);
        self.gateway.offer_slots();
        let began = Instant::now();
        let ended = tokio::select! {
            biased;
            () = ticket.called() => Ok(Wait::Called),
            () = self.client.gone() => Err(Outcome::ClientGone(Phase::Queue).into()),
            () = self.gateway.reached(Stage::Refusing) => Err(Outcome::Unavailable(Unavailable::Draining).into()),
            () = tokio::time::sleep(self.patience) => Ok(Wait::Over),
        };
        self.patience = self.patience.saturating_sub(began.elapsed());
        self.deadline += began.elapsed();
        self.record.lap(Phase::Queue);
        ended
    }

    /// The wait is over. A shard of doubtful standing, for which nobody is called, or one that was not heard since it
    /// began, may have had a slot all the time: ask it.
    async fn last_try(&mut self, began_ms: u64) -> Result<Granted, Ending> {
        let table = &self.gateway.table;
        let pick =
            |tried: &[ShardId]| table.pick(tried, &mut rand::rng()).or_else(|| table.pick_unheard(began_ms, tried));
        while Instant::now() < self.deadline
            && let Some(lease) = pick(&self.tried)
        {
            if let Some(granted) = self.attempt(lease).await? {
                return Ok(granted);
            }
        }
        let at_fault = self.record.last_retry.is_some_and(Retry::is_fault);
        let reason = if self.gateway.table.has_open_shard() && !at_fault {
            Unavailable::NoCapacity
        } else {
            Unavailable::NoShard
        };
        Err(Outcome::Unavailable(reason).into())
    }

    /// Asks one shard; `None` when another one, or a wait, is needed.
    async fn attempt(&mut self, lease: Lease) -> Result<Option<Granted>, Ending> {
        self.tried.push(lease.shard().id());
        self.record.tried();
        let asked = self.ask(&lease).await;
        let now = self.gateway.table.now_ms();
        let shard = lease.shard();
        let cause = match asked? {
            Ok((stream, Reply::Upgraded { bytes, head_len, load })) => {
                match load {
                    Some(_) => shard.answered(load, None, now),
                    None => shard.granted_silently(),
                }
                shard.succeeded();
                self.gateway.metrics.granted();
                return Ok(Some(Granted { stream, lease, bytes, head_len }));
            }
            Ok((_, Reply::Final { status, bytes })) => {
                shard.succeeded();
                let shard = Some(shard.member().name.clone());
                return Err(Ending { outcome: Outcome::Relayed(status), shard, relayed: bytes });
            }
            Ok((_, Reply::Refused { cause, state, load })) => {
                shard.answered(load, state, now);
                cause
            }
            Err(cause) => cause,
        };
        if cause.is_fault() {
            shard.failed(now);
        }
        self.record.retried(cause);
        drop(lease);
        // The slot that was in flight may be the one that somebody waits for.
        self.gateway.offer_slots();
        Ok(None)
    }

    /// Connects and reads the answer, both within the time of one try.
    async fn ask(&mut self, lease: &Lease) -> Result<Result<(TcpStream, Reply), Retry>, Ending> {
        let end = self.deadline.min(Instant::now() + self.gateway.settings.shard_timeout);
        let mut timer = pin!(tokio::time::sleep_until(end));
        let (client, asked) = (self.client, self.asked);
        let mut gone = pin!(client.gone());
        let connected = tokio::select! {
            biased;
            connected = dial::connect(lease.shard().member().ws, &asked.head) => match connected {
                // Our own want, and no fault of the shard.
                Err(error) if wscluster_runtime::sockets::is_shortage(&error) => {
                    return Err(Outcome::Unavailable(Unavailable::FdLimit).into());
                }
                connected => connected.map_err(|_| Retry::Dial),
            },
            () = &mut gone => return Err(self.gone(Phase::Dial)),
            () = &mut timer => Err(Retry::Timeout),
        };
        self.record.lap(Phase::Dial);
        let stream = match connected {
            Ok(stream) => stream,
            Err(cause) => return Ok(Err(cause)),
        };
        let reply = tokio::select! {
            biased;
            reply = dial::answer(&stream, self.gateway.settings.head, &asked.accept) => reply,
            () = &mut gone => return Err(self.gone(Phase::Answer)),
            () = &mut timer => Err(Retry::Timeout),
        };
        self.record.lap(Phase::Answer);
        Ok(reply.map(|reply| (stream, reply)))
    }

    fn gone(&mut self, phase: Phase) -> Ending {
        self.record.lap(phase);
        Outcome::ClientGone(phase).into()
    }
}
