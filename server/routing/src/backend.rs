//! The state of one shard, as known to a gateway; [`super::table`] explains where the values come from.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use wscluster_admin::health::{ShardHealth, ShardView, State, ViewState, percent};

use super::flow::FlowBytes;
use super::member::Member;
use super::pick::Candidate;

/// Without news for this long, a shard is of doubtful availability: four missed polls.
pub const STALE_MS: u64 = 2_000;

/// Without news for this long, a shard is unreachable: it gets no upgrades, and its silent tunnels are ended.
pub const GONE_MS: u64 = 10_000;

/// First and longest penalty of a failing shard: meanwhile other shards are preferred. It doubles with each failure
/// in a row.
const PENALTY_MS: (u64, u64) = (100, 5_000);

/// Identifies a shard in this process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardId(u32);

impl ShardId {
    /// Only the table assigns ids.
    pub(super) const fn new(id: u32) -> Self {
        Self(id)
    }
}

/// Whether a shard is asked for slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It accepts upgrades.
    Available,
    /// It accepted upgrades when last heard from, but has failed or been silent since.
    Doubtful,
    /// It is starting, draining or unreachable, or has never answered.
    Unavailable,
}

/// Load of a shard; `CONNECTIONS/CAPACITY` in `X-Wscluster-Load`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Live connections.
    pub connections: u32,
    /// Connections it may hold.
    pub capacity: u32,
    /// Handshakes of this gateway that are under way to it.
    pub in_flight: u32,
}

impl Load {
    /// The input for [`super::pick`].
    pub fn candidate(self) -> Candidate {
        Candidate { used: self.connections.saturating_add(self.in_flight), capacity: self.capacity }
    }
}

impl FromStr for Load {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (connections, capacity) = text.split_once('/').ok_or(())?;
        let number = |text: &str| text.trim().parse().map_err(drop);
        Ok(Self { connections: number(connections)?, capacity: number(capacity)?, in_flight: 0 })
    }
}

/// One shard that a gateway routes clients to.
#[derive(Debug)]
pub struct Backend {
    id: ShardId,
    member: Member,
    connections: AtomicU32,
    capacity: AtomicU32,
    in_flight: AtomicU32,
    state: AtomicU8,
    heard_ms: AtomicU64,
    failures: AtomicU32,
    penalty_until_ms: AtomicU64,
    removed: AtomicBool,
    health: Mutex<Option<ShardHealth>>,
    flows: Mutex<Vec<Arc<FlowBytes>>>,
}

impl Backend {
    pub(super) fn new(id: ShardId, member: Member) -> Self {
        Self {
            id,
            member,
            connections: AtomicU32::new(0),
            capacity: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            state: AtomicU8::new(code(State::Starting)),
            heard_ms: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            penalty_until_ms: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            health: Mutex::new(None),
            flows: Mutex::new(Vec::new()),
        }
    }

    /// Its id in this process.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Its name and addresses.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Last known load.
    pub fn load(&self) -> Load {
        Load {
            connections: self.connections.load(Relaxed),
            capacity: self.capacity.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
        }
    }

    /// Time of the last news from it, in milliseconds of the table's clock; 0 for never.
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Relaxed)
    }

    /// Its availability at `now_ms`.
    pub fn availability(&self, now_ms: u64) -> Availability {
        let age = now_ms.saturating_sub(self.heard_ms());
        let open = matches!(self.state(), State::Ready | State::Full) && self.heard_ms() > 0;
        if !open || age > GONE_MS || self.is_removed() {
            Availability::Unavailable
        } else if age > STALE_MS || now_ms < self.penalty_until_ms.load(Relaxed) {
            Availability::Doubtful
        } else {
            Availability::Available
        }
    }

    fn state(&self) -> State {
        [State::Starting, State::Ready, State::Full, State::Draining][usize::from(self.state.load(Relaxed) & 3)]
    }

    /// Records the answer to an upgrade: its load and, for a refusal, its state.
    pub fn answered(&self, load: Option<Load>, state: Option<State>, now_ms: u64) {
        if let Some(load) = load {
            self.connections.store(load.connections, Relaxed);
            self.capacity.store(load.capacity, Relaxed);
        }
        if let Some(state) = state {
            self.state.store(code(state), Relaxed);
            self.limit_to_connections(state);
        }
        self.heard_ms.store(now_ms, Relaxed);
    }

    /// A shard that is full below its capacity lacks descriptors: it has no slot until there is news from it.
    fn limit_to_connections(&self, state: State) {
        if state == State::Full {
            self.capacity.fetch_min(self.connections.load(Relaxed), Relaxed);
        }
    }

    /// Records a granted slot whose answer had no load.
    pub fn granted_silently(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// Records the end of a tunnel. An estimate until there is news: the shard may count the slot a little longer.
    pub fn slot_left(&self) {
        let _ = self.connections.fetch_update(Relaxed, Relaxed, |connections| connections.checked_sub(1));
    }

    /// Records a health answer. Returns the previous incarnation if the process was replaced.
    pub fn polled(&self, health: ShardHealth, now_ms: u64) -> Option<String> {
        self.connections.store(health.connections, Relaxed);
        self.capacity.store(health.capacity, Relaxed);
        self.state.store(code(health.state), Relaxed);
        self.limit_to_connections(health.state);
        self.heard_ms.store(now_ms, Relaxed);
        let mut last = self.health.lock();
        let incarnation = health.incarnation.clone();
        let before = last.replace(health)?;
        (before.incarnation != incarnation).then_some(before.incarnation)
    }

    /// Forgets its failures, after an attempt that succeeded.
    pub fn succeeded(&self) {
        self.failures.store(0, Relaxed);
        self.penalty_until_ms.store(0, Relaxed);
    }

    /// Records a failure that is not a refusal: other shards are preferred for a while.
    pub fn failed(&self, now_ms: u64) {
        let failures = self.failures.fetch_add(1, Relaxed).min(16);
        let penalty = (PENALTY_MS.0 << failures).min(PENALTY_MS.1);
        self.penalty_until_ms.store(now_ms + penalty, Relaxed);
    }

    /// The last health answer.
    pub fn health(&self) -> Option<ShardHealth> {
        self.health.lock().clone()
    }

    /// Whether it is no longer in the table.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Relaxed)
    }

    pub(super) fn remove(&self) {
        self.removed.store(true, Relaxed);
    }

    /// Adds the byte counters of a worker.
    pub fn add_flow(&self, bytes: Arc<FlowBytes>) {
        self.flows.lock().push(bytes);
    }

    /// Tunnels of all workers whose shard, and whose client, accepts no bytes at the moment.
    pub fn stalled(&self) -> (u64, u64) {
        let flows = self.flows.lock();
        flows.iter().fold((0, 0), |(up, down), flow| (up + flow.stalled_up.get(), down + flow.stalled_down.get()))
    }

    /// Bytes relayed by all workers: to the shard, to clients.
    pub fn relayed(&self) -> (u64, u64) {
        self.flows.lock().iter().fold((0, 0), |(up, down), flow| (up + flow.up.get(), down + flow.down.get()))
    }

    /// Its entry in `/health`.
    pub fn view(&self, now_ms: u64) -> ShardView {
        let load = self.load();
        let age_ms = if self.heard_ms() == 0 { now_ms } else { now_ms.saturating_sub(self.heard_ms()) };
        let unreachable = self.heard_ms() == 0 || age_ms > GONE_MS;
        let state = if unreachable {
            ViewState::Unreachable
        } else {
            match self.state() {
                State::Ready | State::Full if load.connections >= load.capacity => ViewState::Full,
                State::Ready | State::Full => ViewState::Ready,
                state => state.into(),
            }
        };
        let free = if state == ViewState::Ready { load.capacity - load.connections } else { 0 };
        ShardView {
            id: self.member.name.clone(),
            address: self.member.ws.to_string(),
            state,
            connections: load.connections,
            max_connections: load.capacity,
            available_slots: free,
            utilization: percent(load.connections, load.capacity),
            age_ms,
        }
    }
}

const fn code(state: State) -> u8 {
    match state {
        State::Starting => 0,
        State::Ready => 1,
        State::Full => 2,
        State::Draining => 3,
    }
}

/// One handshake under way to a shard; counted in its load until dropped.
#[derive(Debug)]
pub struct Lease(Arc<Backend>);

impl Lease {
    /// Takes a slot if one is free as far as known.
    pub fn take(shard: &Arc<Backend>) -> Option<Self> {
        let in_flight = shard.in_flight.fetch_add(1, Relaxed);
        let lease = Self(Arc::clone(shard));
        let before = Load { in_flight, ..shard.load() };
        before.candidate().has_room().then_some(lease)
    }

    /// Takes a lease even if the shard is believed to be full.
    pub fn force(shard: &Arc<Backend>) -> Self {
        shard.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(shard))
    }

    /// The shard it is for.
    pub fn shard(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
