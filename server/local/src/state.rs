//! What is known of the children right now: the truth behind `/health`, the live line, "ready" and every plan. Does no I/O.
//!
//! [`health`] says what it means.

mod health;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wscluster_admin::health::{GatewayHealth, ShardHealth, State};

use super::event::Listening;
use super::program::{At, Kind};
use super::supervise::Hung;

/// The children and what they last said.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    capacity: u32,
    shards: Vec<Row<ShardHealth>>,
    gateways: Vec<Row<GatewayHealth>>,
    waiting: Option<String>,
}

/// One child.
#[derive(Debug)]
pub struct Row<H> {
    /// Its place among its kind.
    pub ordinal: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Where clients connect.
    pub ws: SocketAddr,
    /// Where its health is.
    pub admin: SocketAddr,
    /// Its process, while it listens.
    pub pid: Option<u32>,
    /// Restarts so far.
    pub restarts: u32,
    /// What it said when it was asked last; none when it said nothing.
    pub health: Option<H>,
    /// The last thing it said in this life, and when it was asked.
    pub said: Option<(Instant, H)>,
    /// When this life began to listen.
    pub since: Instant,
    /// Whether it was ready in this life.
    pub was_ready: bool,
    /// Whether it keeps ending, since it was ready last.
    pub is_failing: bool,
    /// Whether it was told to end.
    pub is_leaving: bool,
    /// Questions in a row that it did not answer.
    unanswered: u32,
}

/// A child that has not answered for this long hangs, as three failed probes ten seconds apart are in Kubernetes: one that is
/// stopped for half a minute goes on where it was.
const HANGS: Duration = Duration::from_secs(40);
/// Nor does it hang before it missed this many questions: this process may have been stopped itself.
const MISSED: u32 = 20;

impl Board {
    /// A board without children, of shards that may hold `capacity` connections each.
    pub fn new(capacity: u32) -> Self {
        Self { started: Instant::now(), capacity, shards: Vec::new(), gateways: Vec::new(), waiting: None }
    }

    /// What the next step towards the manifest waits for, if it does.
    pub fn set_waiting(&mut self, waiting: Option<String>) {
        self.waiting = waiting;
    }

    /// The same.
    pub fn waiting(&self) -> Option<&str> {
        self.waiting.as_deref()
    }

    /// Connections that a shard may hold which has not said so itself.
    pub fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// A child that is about to be started.
    pub fn add(&mut self, kind: Kind, ordinal: u32, name: &Arc<str>, at: At) {
        fn insert<H>(rows: &mut Vec<Row<H>>, row: Row<H>) {
            let place = rows.partition_point(|other| other.ordinal < row.ordinal);
            rows.insert(place, row);
        }
        match kind {
            Kind::Shard => insert(&mut self.shards, Row::new(ordinal, name, at)),
            Kind::Gateway => insert(&mut self.gateways, Row::new(ordinal, name, at)),
        }
    }

    /// A child that is gone for good.
    pub fn remove(&mut self, name: &str) {
        self.shards.retain(|row| &*row.name != name);
        self.gateways.retain(|row| &*row.name != name);
    }

    /// The shards, by ordinal.
    pub fn shards(&self) -> &[Row<ShardHealth>] {
        &self.shards
    }

    /// The gateways, oldest first.
    pub fn gateways(&self) -> &[Row<GatewayHealth>] {
        &self.gateways
    }

    /// A child listens: whatever was known of its earlier life is void.
    pub fn listens(&mut self, at: &Listening) {
        fn note<H>(row: &mut Row<H>, at: &Listening) {
            row.begin_life();
            (row.pid, row.restarts) = (Some(at.pid), at.restarts);
        }
        self.on(&at.name, |row| note(row, at), |row| note(row, at));
    }

    /// A child ended.
    pub fn ended(&mut self, name: &str) {
        self.on(name, Row::begin_life, Row::begin_life);
    }

    /// A child keeps ending.
    pub fn fails(&mut self, name: &str) {
        self.on(name, |row| row.is_failing = true, |row| row.is_failing = true);
    }

    /// A child was told to end, or (not `leaving`) is another one of that name from now on.
    pub fn leaves(&mut self, name: &str, leaving: bool) {
        fn note<H>(row: &mut Row<H>, leaving: bool) {
            (row.is_leaving, row.is_failing) = (leaving, false);
        }
        self.on(name, |row| note(row, leaving), |row| note(row, leaving));
    }

    /// A shard that was asked at `asked`, while it was process `pid`, answered or did not.
    pub fn shard_said(&mut self, name: &str, pid: Option<u32>, asked: Instant, health: Option<ShardHealth>) {
        let ready = health.as_ref().is_some_and(|health| matches!(health.state, State::Ready | State::Full));
        if let Some(row) = said(&mut self.shards, name, pid, asked, health)
            && ready
        {
            (row.was_ready, row.is_failing) = (true, false);
        }
    }

    /// The same of a gateway.
    pub fn gateway_said(&mut self, name: &str, pid: Option<u32>, asked: Instant, health: Option<GatewayHealth>) {
        said(&mut self.gateways, name, pid, asked, health);
    }

    /// Children that run and have not answered for [`HANGS`], by name.
    pub fn hung(&self, now: Instant) -> Vec<(Arc<str>, Hung)> {
        let shards = self.shards.iter().filter_map(|row| Some((row.name.clone(), row.hung(now)?)));
        let gateways = self.gateways.iter().filter_map(|row| Some((row.name.clone(), row.hung(now)?)));
        shards.chain(gateways).collect()
    }

    /// Connections held by all shards.
    pub fn connections(&self) -> u64 {
        self.shards.iter().filter_map(|row| row.health.as_ref()).map(|health| u64::from(health.connections)).sum()
    }

    fn on(
        &mut self,
        name: &str,
        shard: impl FnOnce(&mut Row<ShardHealth>),
        gateway: impl FnOnce(&mut Row<GatewayHealth>),
    ) {
        if let Some(row) = self.shards.iter_mut().find(|row| &*row.name == name) {
            shard(row);
        } else if let Some(row) = self.gateways.iter_mut().find(|row| &*row.name == name) {
            gateway(row);
        }
    }
}

impl<H> Row<H> {
    fn new(ordinal: u32, name: &Arc<str>, at: At) -> Self {
        Self {
            ordinal,
            name: name.clone(),
            ws: at.ws,
            admin: at.admin,
            pid: None,
            restarts: 0,
            health: None,
            said: None,
            since: Instant::now(),
            was_ready: false,
            is_failing: false,
            is_leaving: false,
            unanswered: 0,
        }
    }

    fn begin_life(&mut self) {
        (self.pid, self.health, self.said) = (None, None, None);
        (self.since, self.was_ready, self.unanswered) = (Instant::now(), false, 0);
    }

    /// When it was heard last in this life, or when that began.
    pub fn heard(&self) -> Instant {
        self.said.as_ref().map_or(self.since, |(asked, _)| *asked)
    }

    fn hung(&self, now: Instant) -> Option<Hung> {
        let silent = now.saturating_duration_since(self.heard());
        (self.unanswered >= MISSED && silent >= HANGS).then_some(Hung { pid: self.pid?, silent })
    }
}

fn said<'a, H: Clone>(
    rows: &'a mut [Row<H>],
    name: &str,
    pid: Option<u32>,
    asked: Instant,
    health: Option<H>,
) -> Option<&'a mut Row<H>> {
    // An answer that was on its way while the child ended tells nothing of the one that runs now.
    let row = rows.iter_mut().find(|row| &*row.name == name && row.pid == pid && pid.is_some())?;
    match &health {
        Some(health) => (row.said, row.unanswered) = (Some((asked, health.clone())), 0),
        None => row.unanswered += 1,
    }
    row.health = health;
    Some(row)
}

#[cfg(test)]
mod tests;
