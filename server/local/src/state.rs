//! The state of every child process, as last reported. `/health`, the live line and every plan are derived from it.
//! No I/O.
//!
//! [`health`] derives problems, the overall status and the JSON of `/health`.

mod health;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wscluster_admin::health::{GatewayHealth, ShardHealth, State};
use wscluster_api::Part;
use wscluster_runtime::child_process::Addresses;

use super::event::ListeningChild;
use super::supervise::HungChild;

/// All children and their last answers.
#[derive(Debug)]
pub(crate) struct RunState {
    started: Instant,
    capacity: u32,
    shards: Vec<ChildState<ShardHealth>>,
    gateways: Vec<ChildState<GatewayHealth>>,
    waiting: Option<String>,
}

/// The state of one child.
#[derive(Debug)]
pub(crate) struct ChildState<H> {
    pub(crate) ordinal: u32,
    pub(crate) name: Arc<str>,
    /// Address for clients.
    pub(crate) ws: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The process id, while the process listens.
    pub(crate) pid: Option<u32>,
    pub(crate) restarts: u32,
    /// The answer to the last poll; `None` if there was none.
    pub(crate) health: Option<H>,
    /// The last answer of this process, and when it was polled.
    pub(crate) answered: Option<(Instant, H)>,
    /// When this process began to listen, or the previous one ended.
    pub(crate) since: Instant,
    /// Whether this process was ever ready.
    pub(crate) was_ready: bool,
    /// Whether it is in a crash loop; cleared when it is ready.
    pub(crate) is_failing: bool,
    /// Whether it was asked to end.
    pub(crate) is_leaving: bool,
    /// Polls in a row without an answer.
    unanswered: u32,
}

/// A child without an answer for this long hangs, as after three failed liveness probes ten seconds apart on
/// Kubernetes. A process that is stopped for half a minute is left alone.
const HANGS: Duration = Duration::from_secs(40);
/// The child must also miss this many polls: this process may have been stopped itself.
const MISSED: u32 = 20;

/// The state, shared by the event loop, the poller and the admin server.
pub(crate) type SharedState = Arc<Mutex<RunState>>;

/// Reads or changes the state. The lock is never held across an await.
pub(crate) fn with<T>(state: &SharedState, f: impl FnOnce(&mut RunState) -> T) -> T {
    f(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
}

impl RunState {
    /// No children yet; `capacity` is that of each shard in the manifest.
    pub(crate) fn new(capacity: u32) -> Self {
        Self { started: Instant::now(), capacity, shards: Vec::new(), gateways: Vec::new(), waiting: None }
    }

    /// Sets the condition that the next step of an edit waits for.
    pub(crate) fn set_waiting(&mut self, waiting: Option<String>) {
        self.waiting = waiting;
    }

    /// The condition that the next step of an edit waits for.
    pub(crate) fn waiting(&self) -> Option<&str> {
        self.waiting.as_deref()
    }

    /// The capacity of a shard that has not reported its own.
    pub(crate) fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// Adds a child that is about to start.
    pub(crate) fn add(&mut self, part: Part, ordinal: u32, name: &Arc<str>, at: Addresses) {
        fn insert<H>(children: &mut Vec<ChildState<H>>, child: ChildState<H>) {
            let place = children.partition_point(|other| other.ordinal < child.ordinal);
            children.insert(place, child);
        }
        match part {
            Part::Shard => insert(&mut self.shards, ChildState::new(ordinal, name, at)),
            Part::Gateway => insert(&mut self.gateways, ChildState::new(ordinal, name, at)),
        }
    }

    /// Forgets a child that was removed.
    pub(crate) fn remove(&mut self, name: &str) {
        self.shards.retain(|child| &*child.name != name);
        self.gateways.retain(|child| &*child.name != name);
    }

    /// The shards, by ordinal.
    pub(crate) fn shards(&self) -> &[ChildState<ShardHealth>] {
        &self.shards
    }

    /// The gateways, oldest first.
    pub(crate) fn gateways(&self) -> &[ChildState<GatewayHealth>] {
        &self.gateways
    }

    /// A child listens. Answers of its earlier process are void.
    pub(crate) fn listens(&mut self, at: &ListeningChild) {
        fn note<H>(child: &mut ChildState<H>, at: &ListeningChild) {
            child.begin_life();
            (child.pid, child.restarts) = (Some(at.pid), at.restarts);
        }
        self.on(&at.name, |child| note(child, at), |child| note(child, at));
    }

    /// The process of a child ended.
    pub(crate) fn ended(&mut self, name: &str) {
        self.on(name, ChildState::begin_life, ChildState::begin_life);
    }

    /// A child is in a crash loop.
    pub(crate) fn fails(&mut self, name: &str) {
        self.on(name, |child| child.is_failing = true, |child| child.is_failing = true);
    }

    /// A child was asked to end; with `leaving` false, its successor of the same name starts.
    pub(crate) fn leaves(&mut self, name: &str, leaving: bool) {
        fn note<H>(child: &mut ChildState<H>, leaving: bool) {
            (child.is_leaving, child.is_failing) = (leaving, false);
        }
        self.on(name, |child| note(child, leaving), |child| note(child, leaving));
    }

    /// Records the answer of a shard, or its absence, to a poll of process `pid` at `asked`.
    pub(crate) fn shard_answered(&mut self, name: &str, pid: Option<u32>, asked: Instant, health: Option<ShardHealth>) {
        let ready = health.as_ref().is_some_and(|health| matches!(health.state, State::Ready | State::Full));
        if let Some(child) = record_answer(&mut self.shards, name, pid, asked, health)
            && ready
        {
            (child.was_ready, child.is_failing) = (true, false);
        }
    }

    /// Records the answer of a gateway, as [`Self::shard_answered`].
    pub(crate) fn gateway_answered(
        &mut self,
        name: &str,
        pid: Option<u32>,
        asked: Instant,
        health: Option<GatewayHealth>,
    ) {
        record_answer(&mut self.gateways, name, pid, asked, health);
    }

    /// Children that run and have not answered for [`HANGS`].
    pub(crate) fn hung(&self, now: Instant) -> Vec<(Arc<str>, HungChild)> {
        let shards = self.shards.iter().filter_map(|child| Some((child.name.clone(), child.hung(now)?)));
        let gateways = self.gateways.iter().filter_map(|child| Some((child.name.clone(), child.hung(now)?)));
        shards.chain(gateways).collect()
    }

    /// Whether a child drains, by an answer to a poll after `ordered`.
    pub(crate) fn is_draining(&self, name: &str, ordered: Option<Instant>) -> bool {
        fn drains<H>(
            children: &[ChildState<H>],
            name: &str,
            ordered: Option<Instant>,
            state: impl Fn(&H) -> State,
        ) -> bool {
            let child = children.iter().find(|child| &*child.name == name);
            let answered = child.filter(|child| child.pid.is_some()).and_then(|child| child.answered.as_ref());
            answered.is_some_and(|(asked, health)| {
                ordered.is_none_or(|ordered| *asked > ordered) && state(health) == State::Draining
            })
        }
        drains(&self.shards, name, ordered, |health| health.state)
            || drains(&self.gateways, name, ordered, |health| health.state)
    }

    /// Connections of all shards.
    pub(crate) fn connections(&self) -> u64 {
        self.shards.iter().filter_map(|child| child.health.as_ref()).map(|health| u64::from(health.connections)).sum()
    }

    fn on(
        &mut self,
        name: &str,
        shard: impl FnOnce(&mut ChildState<ShardHealth>),
        gateway: impl FnOnce(&mut ChildState<GatewayHealth>),
    ) {
        if let Some(child) = self.shards.iter_mut().find(|child| &*child.name == name) {
            shard(child);
        } else if let Some(child) = self.gateways.iter_mut().find(|child| &*child.name == name) {
            gateway(child);
        }
    }
}

impl<H> ChildState<H> {
    fn new(ordinal: u32, name: &Arc<str>, at: Addresses) -> Self {
        Self {
            ordinal,
            name: name.clone(),
            ws: at.ws,
            admin: at.admin,
            pid: None,
            restarts: 0,
            health: None,
            answered: None,
            since: Instant::now(),
            was_ready: false,
            is_failing: false,
            is_leaving: false,
            unanswered: 0,
        }
    }

    fn begin_life(&mut self) {
        (self.pid, self.health, self.answered) = (None, None, None);
        (self.since, self.was_ready, self.unanswered) = (Instant::now(), false, 0);
    }

    /// The last answered poll of this process, or its start.
    pub(crate) fn last_answer(&self) -> Instant {
        self.answered.as_ref().map_or(self.since, |(asked, _)| *asked)
    }

    fn hung(&self, now: Instant) -> Option<HungChild> {
        let silent = now.saturating_duration_since(self.last_answer());
        (self.unanswered >= MISSED && silent >= HANGS).then_some(HungChild { pid: self.pid?, silent })
    }
}

fn record_answer<'a, H: Clone>(
    children: &'a mut [ChildState<H>],
    name: &str,
    pid: Option<u32>,
    asked: Instant,
    health: Option<H>,
) -> Option<&'a mut ChildState<H>> {
    // The answer may be that of an earlier process, which has ended meanwhile.
    let child = children.iter_mut().find(|child| &*child.name == name && child.pid == pid && pid.is_some())?;
    match &health {
        Some(health) => (child.answered, child.unanswered) = (Some((asked, health.clone())), 0),
        None => child.unanswered += 1,
    }
    child.health = health;
    Some(child)
}

#[cfg(test)]
mod tests;
