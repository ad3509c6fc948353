//! One client from accept to its tunnel or its refusal: read the head, admit, pick a shard, ask it, try others, wait
//! for a slot. `docs/handshake.md` draws it.
//!
//! Three limits bound the time: for the head, for all attempts together, for all waits together. A client that
//! disconnects is noticed in every phase. Guards return everything that was taken, so dropping the future at any
//! point is safe.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use scopeguard::ScopeGuard;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::Instant;
use wscluster_routing::backend::{Lease, ShardId};
use wscluster_runtime::fds::Permit;
use wscluster_runtime::places::Place;

use super::admission;
use super::answer::answer;
use super::client::{Client, ClientRequest};
use super::dial::{self, Reply, ShardStream};
use super::gateway::Gateway;
use super::outcome::{Outcome, Phase, Retry, Unavailable};
use super::ports;
use super::queue::Ticket;
use super::record::HandshakeRecord;
use super::socket::Socket as _;
use super::stage::Stage;
use super::tunnel::{First, Tunnel};
use super::worker::WorkerContext;

/// Serves one client until its tunnel is open or its refusal sent.
pub(crate) async fn serve(worker: Rc<WorkerContext>, stream: TcpStream, peer: SocketAddr, permit: Permit) {
    let gateway = &worker.gateway;
    let mut record = HandshakeRecord::start(gateway, peer);
    let client = Client::new(stream);
    let read = client.read_head(peer, &gateway.settings).await;
    record.lap(Phase::Head);
    let granted = match read {
        Ok(_) if gateway.stage() == Stage::Refusing => Err(Outcome::Unavailable(Unavailable::Draining).into()),
        Ok(request) => place(gateway, &client, &request, &mut record).await.map(|granted| (granted, request.early)),
        Err(outcome) => Err(Ending::from(outcome)),
    };
    match granted {
        Ok((granted, early)) => {
            let written = client.into_stream().and_then(|stream| match stream.write(&granted.bytes) {
                Ok(written) => Ok((stream, written)),
                // The socket is full: the tunnel sends the 101 later.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok((stream, 0)),
                Err(error) => Err(error),
            });
            let Ok((stream, written)) = written else {
                record.lap(Phase::Write);
                record.end(Outcome::ClientGone(Phase::Write), Some(&granted.lease.shard().member().name));
                return;
            };
            let handle = worker.registry.reserve(granted.lease.shard(), permit);
            record.lap(Phase::Write);
            record.end(Outcome::Upgraded, Some(&granted.lease.shard().member().name));
            let first = First { unsent: &granted.bytes[written..], frames: &granted.bytes[granted.head_len..] };
            handle.open(|handle| {
                let shard = ScopeGuard::into_inner(granted.stream);
                spawn_local(Tunnel::new(stream, shard, &early, first, handle));
            });
        }
        Err(ending) => {
            let answer = if ending.relayed.is_empty() { answer(ending.outcome, gateway) } else { ending.relayed };
            record.end(ending.outcome, ending.shard.as_deref());
            client.farewell(&answer).await;
        }
    }
}

/// Refuses a client because descriptors are short. Reads its head first: closing a socket with unread bytes resets
/// the connection, and the answer would be lost. Ends early if the client has to make room for another one.
pub(crate) async fn turn_away(worker: Rc<WorkerContext>, stream: TcpStream, peer: SocketAddr, place: Place) {
    let gateway = &worker.gateway;
    let mut record = HandshakeRecord::start(gateway, peer);
    let client = Client::new(stream);
    let read = tokio::select! {
        biased;
        read = client.read_head(peer, &gateway.settings) => Some(read),
        () = place.lost() => None,
    };
    record.lap(Phase::Head);
    let fd_limit = Outcome::Unavailable(Unavailable::FdLimit);
    let Some(read) = read else { return record.end(fd_limit, None) };
    place.heard();
    let outcome = read.err().unwrap_or(fd_limit);
    let answer = answer(outcome, gateway);
    record.end(outcome, None);
    tokio::select! {
        biased;
        () = client.farewell(&answer) => {}
        () = place.lost() => {}
    }
}

/// Admits the client and finds it a slot.
async fn place(
    gateway: &Gateway,
    client: &Client,
    request: &ClientRequest,
    record: &mut HandshakeRecord,
) -> Result<Granted, Ending> {
    let admitted = tokio::select! {
        biased;
        admitted = admission::admit(&gateway.settings, &request.credentials) => admitted,
        () = client.gone() => return Err(Outcome::ClientGone(Phase::Head).into()),
    };
    record.identified(admitted.map_err(Outcome::Refused)?);
    Placement::new(gateway, client, request, record).run().await
}

/// A slot, and the connection to its shard.
struct Granted {
    stream: ShardStream,
    lease: Lease,
    bytes: Vec<u8>,
    /// Where the frames in `bytes` begin.
    head_len: usize,
}

/// The end of a handshake without a tunnel.
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

/// The way of an admitted request to a slot.
struct Placement<'a> {
    gateway: &'a Gateway,
    client: &'a Client,
    request: &'a ClientRequest,
    record: &'a mut HandshakeRecord,
    /// End of all attempts; waits push it back.
    deadline: Instant,
    /// Time left for waits.
    patience: Duration,
    tried: Vec<ShardId>,
    ticket: Option<Ticket>,
}

/// How a wait ended.
enum Wait {
    Called,
    Over,
}

impl<'a> Placement<'a> {
    fn new(
        gateway: &'a Gateway,
        client: &'a Client,
        request: &'a ClientRequest,
        record: &'a mut HandshakeRecord,
    ) -> Self {
        Self {
            gateway,
            client,
            request,
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
            if self.record.last_retry == Some(Retry::PortLimit) {
                // Waiting does not help: shards have slots, and this gateway cannot connect to them.
                return Err(Outcome::Unavailable(Unavailable::PortLimit).into());
            }
            match self.wait().await? {
                Wait::Called => self.tried.clear(),
                Wait::Over => return self.last_try(began_ms).await,
            }
        }
    }

    /// Picks a shard unless other clients wait: a new client must not overtake them.
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

    /// Tries once more when the time for waits is over. Waiting clients are not called for shards of doubtful
    /// availability, and a shard that has not answered since the wait began may have had a slot all the time.
    async fn last_try(&mut self, began_ms: u64) -> Result<Granted, Ending> {
        let table = &self.gateway.table;
        let pick =
            |tried: &[ShardId]| table.pick(tried, &mut rand::rng()).or_else(|| table.pick_silent(began_ms, tried));
        while Instant::now() < self.deadline
            && let Some(lease) = pick(&self.tried)
        {
            if let Some(granted) = self.attempt(lease).await? {
                return Ok(granted);
            }
        }
        let at_fault = self.record.last_retry.is_some_and(Retry::is_fault);
        let reason = if self.record.last_retry == Some(Retry::PortLimit) {
            Unavailable::PortLimit
        } else if self.gateway.table.has_open_shard() && !at_fault {
            Unavailable::NoCapacity
        } else {
            Unavailable::NoShard
        };
        Err(Outcome::Unavailable(reason).into())
    }

    /// Asks one shard; `None` if another shard or a wait is needed.
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
        // Another client may be waiting for the slot that this attempt had reserved.
        self.gateway.offer_slots();
        Ok(None)
    }

    /// Connects and reads the answer, both within the time of one attempt.
    async fn ask(&mut self, lease: &Lease) -> Result<Result<(ShardStream, Reply), Retry>, Ending> {
        let end = self.deadline.min(Instant::now() + self.gateway.settings.shard_timeout);
        let mut timer = pin!(tokio::time::sleep_until(end));
        let (client, request) = (self.client, self.request);
        let mut gone = pin!(client.gone());
        let connected = tokio::select! {
            biased;
            connected = dial::connect(lease.shard().member().ws, &request.head, &self.gateway.ports) => match connected {
                // This gateway lacks descriptors: no fault of the shard.
                Err(error) if wscluster_runtime::sockets::is_shortage(&error) => {
                    return Err(Outcome::Unavailable(Unavailable::FdLimit).into());
                }
                Err(error) if ports::is_shortage(&error) => Err(Retry::PortLimit),
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
            reply = dial::answer(&stream, self.gateway.settings.head, &request.accept) => reply,
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
