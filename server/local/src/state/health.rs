//! What the board means: what is wrong, whether clients are served, and the JSON of `GET /health`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use wscluster_admin::health::{GatewayHealth, ShardHealth, ShardView, State, Status, ViewState, percent};

use super::{Board, Row};

/// The JSON of `GET /health` of a run: that of a gateway over all gateways, and the processes behind it.
#[derive(Debug, Serialize)]
pub struct LocalHealth {
    #[serde(flatten)]
    cluster: GatewayHealth,
    /// What is not as it should be.
    reasons: Vec<String>,
    /// What the next step towards the manifest waits for: no fault of any part.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<String>,
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

/// Something that is not as it should be.
struct Trouble {
    text: String,
    /// Whether the part serves all the same.
    serves: bool,
}

impl Board {
    /// What is not as it should be.
    pub fn reasons(&self) -> Vec<String> {
        self.troubles().into_iter().map(|trouble| trouble.text).collect()
    }

    /// That of it for which a part does not serve; empty when every part does, whatever else it lacks.
    pub fn missing(&self) -> Vec<String> {
        self.troubles().into_iter().filter(|trouble| !trouble.serves).map(|trouble| trouble.text).collect()
    }

    fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let mut add = |serves: bool, text: String| troubles.push(Trouble { text, serves });
        for row in &self.shards {
            match (&row.pid, &row.health) {
                _ if row.is_leaving => add(false, format!("{} is leaving", row.name)),
                (None, _) => add(false, format!("{} does not run", row.name)),
                (_, None) => add(false, format!("{} does not answer on {}", row.name, row.admin)),
                (_, Some(health)) => match health.state {
                    State::Ready | State::Full if health.status == Status::Healthy => {}
                    State::Ready | State::Full => {
                        let status = health.status;
                        let why = health.reason.as_ref().map_or_else(|| kafka(health), |reason| format!(": {reason}"));
                        add(health.status == Status::Degraded, format!("{} is {status}{why}", row.name));
                    }
                    State::Starting => add(false, format!("{} is starting{}", row.name, kafka(health))),
                    State::Draining => add(false, format!("{} is draining", row.name)),
                },
            }
        }
        for row in &self.gateways {
            match (&row.pid, &row.health) {
                _ if row.is_leaving => add(false, format!("{} is leaving", row.name)),
                (None, _) => add(false, format!("{} does not run", row.name)),
                (_, None) => add(false, format!("{} does not answer on {}", row.name, row.admin)),
                (_, Some(health)) => {
                    if let Some(reason) = &health.reason {
                        add(true, format!("{}: {reason}", row.name));
                    }
                    let serving = health.shards.iter().filter(|shard| shard.state.is_serving());
                    let ready: BTreeSet<_> = serving.map(|shard| &*shard.id).collect();
                    let unseen = |shard: &&Row<_>| !shard.is_leaving && !ready.contains(&*shard.name);
                    let missing = self.shards.iter().filter(unseen);
                    let missing: Vec<_> = missing.map(|shard| &*shard.name).collect();
                    if !missing.is_empty() {
                        add(false, format!("{} does not see {} as ready", row.name, missing.join(", ")));
                    }
                }
            }
        }
        troubles
    }

    /// Healthy when nothing is wrong, unhealthy when no client can be served, degraded between.
    pub fn status(&self) -> Status {
        let serves = |row: &Row<ShardHealth>| row.health.as_ref().is_some_and(|health| health.state.is_serving());
        let reachable = self.gateways.iter().any(|row| row.health.is_some() && !row.is_leaving);
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
        let mut checks = wscluster_admin::health::Checks::default();
        for shard in known() {
            checks.cpu.percentage += shard.checks.cpu.percentage;
            checks.memory.bytes += shard.checks.memory.bytes;
            checks.memory.limit_bytes = shard.checks.memory.limit_bytes;
            checks.kafka.lag = checks.kafka.lag.max(shard.checks.kafka.lag);
            if shard.checks.kafka.status > checks.kafka.status {
                checks.kafka.status = shard.checks.kafka.status;
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
        let ready = || shards.iter().filter(|shard| shard.state.is_serving());
        let most = ready().map(|shard| shard.connections).max().unwrap_or(0);
        let least = ready().map(|shard| shard.connections).min().unwrap_or(0);
        let status = self.status();
        let gateways = || self.gateways.iter().filter_map(|row| row.health.as_ref());
        let cluster = GatewayHealth {
            status,
            healthy: status != Status::Unhealthy,
            reason: self.lacks(),
            // That of the door as a whole: one gateway that takes upgrades is enough.
            state: gateways()
                .map(|health| health.state)
                .find(|state| *state == State::Ready)
                .unwrap_or(State::Starting),
            incarnation: std::process::id().to_string(),
            tunnels: gateways().map(|health| health.tunnels).sum(),
            queued: gateways().map(|health| health.queued).sum(),
            checks,
            imbalance_percent: percent(most - least, most),
            shards,
            discovery: None,
            uptime: self.started.elapsed().as_secs_f64(),
        };
        let shards = self.shards.iter().map(|row| process("shard", row));
        let processes = shards.chain(self.gateways.iter().map(|row| process("gateway", row))).collect();
        LocalHealth { cluster, reasons: self.reasons(), waiting: self.waiting.clone(), processes }
    }

    /// What the first process that lacks something lacks.
    fn lacks(&self) -> Option<String> {
        let shards = self.shards.iter().filter_map(|row| Some((&row.name, row.health.as_ref()?.reason.as_ref()?)));
        let gateways = self.gateways.iter().filter_map(|row| Some((&row.name, row.health.as_ref()?.reason.as_ref()?)));
        shards.chain(gateways).next().map(|(name, reason)| format!("{name}: {reason}"))
    }

    fn view(&self, row: &Row<ShardHealth>) -> ShardView {
        let state = match (&row.pid, &row.health) {
            (Some(_), Some(health)) => health.state.into(),
            _ => ViewState::Unreachable,
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
            age_ms: row
                .said
                .as_ref()
                .map_or(self.started, |(asked, _)| *asked)
                .elapsed()
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
        }
    }
}

fn process<H>(part: &'static str, row: &Row<H>) -> Process {
    Process { part, id: row.name.clone(), admin: row.admin, pid: row.pid, restarts: row.restarts }
}

fn kafka(health: &ShardHealth) -> String {
    let kafka = &health.checks.kafka;
    match &kafka.error {
        Some(error) => format!(" (Kafka {}: {error})", kafka.status),
        None => format!(" (Kafka {}, {} records behind)", kafka.status, kafka.lag),
    }
}
