//! What is known of the children right now: the truth behind `/health`, the live line and "ready". Does no I/O.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::event::Listening;
use super::plan::{Kind, Planned};
use crate::health::{GatewayHealth, ShardHealth, ShardView, State, Status, percent};

/// The children and what they last said.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    capacity: u32,
    shards: Vec<Row<ShardHealth>>,
    gateways: Vec<Row<GatewayHealth>>,
}

/// One child.
#[derive(Debug)]
pub struct Row<H> {
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
    /// Its last health answer in this life.
    pub health: Option<H>,
    /// When that came.
    pub seen: Option<Instant>,
}

/// The JSON of `GET /health` of a run: that of a gateway over all gateways, and the processes behind it.
#[derive(Debug, Serialize)]
pub struct LocalHealth {
    #[serde(flatten)]
    cluster: GatewayHealth,
    /// What is not as it should be.
    reasons: Vec<String>,
    processes: Vec<Process>,
}

#[derive(Clone, Debug, Serialize)]
struct Process {
    id: Arc<str>,
    part: &'static str,
    admin: SocketAddr,
    pid: Option<u32>,
    restarts: u32,
}

impl Board {
    /// A board on which nothing runs yet.
    pub fn new(children: &[Planned], capacity: u32) -> Self {
        fn rows<H>(children: &[Planned], kind: Kind) -> Vec<Row<H>> {
            let of_kind = children.iter().filter(|child| child.kind == kind);
            let row = |child: &Planned| Row {
                name: child.program.name.clone(),
                ws: child.ws,
                admin: child.admin,
                pid: None,
                restarts: 0,
                health: None,
                seen: None,
            };
            of_kind.map(row).collect()
        }
        let (shards, gateways) = (rows(children, Kind::Shard), rows(children, Kind::Gateway));
        Self { started: Instant::now(), capacity, shards, gateways }
    }

    /// The shards.
    pub fn shards(&self) -> &[Row<ShardHealth>] {
        &self.shards
    }

    /// The gateways.
    pub fn gateways(&self) -> &[Row<GatewayHealth>] {
        &self.gateways
    }

    /// A child listens: whatever was known of its earlier life is void.
    pub fn listens(&mut self, at: &Listening) {
        fn note<H>(rows: &mut [Row<H>], at: &Listening) {
            for row in rows.iter_mut().filter(|row| row.name == at.name) {
                (row.pid, row.restarts, row.health, row.seen) = (Some(at.pid), at.restarts, None, None);
            }
        }
        note(&mut self.shards, at);
        note(&mut self.gateways, at);
    }

    /// A child ended.
    pub fn ended(&mut self, name: &str) {
        fn note<H>(rows: &mut [Row<H>], name: &str) {
            for row in rows.iter_mut().filter(|row| &*row.name == name) {
                (row.pid, row.health, row.seen) = (None, None, None);
            }
        }
        note(&mut self.shards, name);
        note(&mut self.gateways, name);
    }

    /// A shard that was asked while it was process `pid` answered, or did not.
    pub fn shard_said(&mut self, name: &str, pid: Option<u32>, health: Option<ShardHealth>) {
        said(&mut self.shards, name, pid, health);
    }

    /// The same of a gateway.
    pub fn gateway_said(&mut self, name: &str, pid: Option<u32>, health: Option<GatewayHealth>) {
        said(&mut self.gateways, name, pid, health);
    }

    /// Names of all children.
    pub fn names(&self) -> Vec<String> {
        self.shards
            .iter()
            .map(|row| row.name.to_string())
            .chain(self.gateways.iter().map(|row| row.name.to_string()))
            .collect()
    }

    /// Connections held by all shards.
    pub fn connections(&self) -> u64 {
        self.shards.iter().filter_map(|row| row.health.as_ref()).map(|health| u64::from(health.connections)).sum()
    }

    /// What is not as it should be; empty when the service is ready.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for row in &self.shards {
            match (&row.pid, &row.health) {
                (None, _) => reasons.push(format!("{} does not run", row.name)),
                (_, None) => reasons.push(format!("{} does not answer on {}", row.name, row.admin)),
                (_, Some(health)) => match health.state {
                    State::Ready | State::Full if health.status == Status::Healthy => {}
                    State::Ready | State::Full => {
                        let status = format!("{:?}", health.status).to_lowercase();
                        reasons.push(format!("{} is {status}{}", row.name, kafka(health)));
                    }
                    State::Starting => reasons.push(format!("{} is starting{}", row.name, kafka(health))),
                    State::Draining => reasons.push(format!("{} is draining", row.name)),
                },
            }
        }
        for row in &self.gateways {
            match (&row.pid, &row.health) {
                (None, _) => reasons.push(format!("{} does not run", row.name)),
                (_, None) => reasons.push(format!("{} does not answer on {}", row.name, row.admin)),
                (_, Some(health)) => {
                    let known = |shard: &&ShardView| matches!(shard.state.as_str(), "ready" | "full");
                    let ready: BTreeSet<_> = health.shards.iter().filter(known).map(|shard| &*shard.id).collect();
                    let missing = self.shards.iter().filter(|shard| !ready.contains(&*shard.name));
                    let missing: Vec<_> = missing.map(|shard| &*shard.name).collect();
                    if !missing.is_empty() {
                        reasons.push(format!("{} does not see {} as ready", row.name, missing.join(", ")));
                    }
                }
            }
        }
        reasons
    }

    /// Healthy when nothing is wrong, unhealthy when no client can be served, degraded between.
    pub fn status(&self) -> Status {
        let serves = |row: &Row<ShardHealth>| {
            row.health.as_ref().is_some_and(|health| matches!(health.state, State::Ready | State::Full))
        };
        let reachable = self.gateways.iter().any(|row| row.health.is_some());
        match self.reasons().is_empty() {
            true => Status::Healthy,
            false if reachable && self.shards.iter().any(serves) => Status::Degraded,
            false => Status::Unhealthy,
        }
    }

    /// The JSON of `GET /health`.
    pub fn health(&self) -> LocalHealth {
        let shards: Vec<ShardView> = self.shards.iter().map(|row| self.view(row)).collect();
        let known = || self.shards.iter().filter_map(|row| row.health.as_ref());
        let mut checks = crate::health::Checks::default();
        for shard in known() {
            checks.cpu.percentage += shard.checks.cpu.percentage;
            checks.memory.bytes += shard.checks.memory.bytes;
            checks.memory.limit_bytes = shard.checks.memory.limit_bytes;
            checks.kafka.lag = checks.kafka.lag.max(shard.checks.kafka.lag);
            if checks.kafka.status.is_empty() || shard.checks.kafka.status != "connected" {
                checks.kafka.status.clone_from(&shard.checks.kafka.status);
                checks.kafka.error.clone_from(&shard.checks.kafka.error);
            }
        }
        checks.memory.percentage = match checks.memory.limit_bytes {
            0 => 0.0,
            limit => 100.0 * checks.memory.bytes as f64 / limit as f64,
        };
        checks.capacity.current = shards.iter().map(|shard| shard.connections).sum();
        checks.capacity.max = shards.iter().map(|shard| shard.max_connections).sum();
        checks.capacity.percentage = percent(checks.capacity.current, checks.capacity.max);
        let ready = || shards.iter().filter(|shard| matches!(shard.state.as_str(), "ready" | "full"));
        let most = ready().map(|shard| shard.connections).max().unwrap_or(0);
        let least = ready().map(|shard| shard.connections).min().unwrap_or(0);
        let status = self.status();
        let gateways = || self.gateways.iter().filter_map(|row| row.health.as_ref());
        let cluster = GatewayHealth {
            status,
            healthy: status != Status::Unhealthy,
            reason: None,
            incarnation: std::process::id().to_string(),
            tunnels: gateways().map(|health| health.tunnels).sum(),
            queued: gateways().map(|health| health.queued).sum(),
            checks,
            imbalance_percent: percent(most - least, most),
            shards,
            uptime: self.started.elapsed().as_secs_f64(),
        };
        let shards = self.shards.iter().map(|row| process("shard", row));
        let processes = shards.chain(self.gateways.iter().map(|row| process("gateway", row))).collect();
        LocalHealth { cluster, reasons: self.reasons(), processes }
    }

    fn view(&self, row: &Row<ShardHealth>) -> ShardView {
        let state = match (&row.pid, &row.health) {
            (Some(_), Some(health)) => format!("{:?}", health.state).to_lowercase(),
            _ => "unreachable".to_owned(),
        };
        let health = row.health.as_ref();
        let (connections, max) = health.map_or((0, self.capacity), |health| (health.connections, health.capacity));
        ShardView {
            id: row.name.to_string(),
            address: row.ws.to_string(),
            state,
            connections,
            max_connections: max,
            available_slots: health.map_or(0, |health| health.available),
            utilization: percent(connections, max),
            age_ms: row.seen.unwrap_or(self.started).elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        }
    }
}

fn process<H>(part: &'static str, row: &Row<H>) -> Process {
    Process { part, id: row.name.clone(), admin: row.admin, pid: row.pid, restarts: row.restarts }
}

fn said<H>(rows: &mut [Row<H>], name: &str, pid: Option<u32>, health: Option<H>) {
    // An answer that was on its way while the child ended tells nothing of the one that runs now.
    let asked = rows.iter_mut().find(|row| &*row.name == name && row.pid == pid && pid.is_some());
    if let Some(row) = asked {
        if health.is_some() {
            row.seen = Some(Instant::now());
        }
        row.health = health;
    }
}

fn kafka(health: &ShardHealth) -> String {
    let kafka = &health.checks.kafka;
    match &kafka.error {
        Some(error) => format!(" (Kafka {}: {error})", kafka.status),
        None => format!(" (Kafka {}, {} records behind)", kafka.status, kafka.lag),
    }
}

#[cfg(test)]
mod tests;
