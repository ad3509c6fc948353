//! Derives from the state which problems exist, whether clients are served, and the JSON of `GET /health`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use wscluster_admin::health::{Checks, GatewayHealth, ShardHealth, ShardView, State, Status, ViewState, percent};

use super::{ChildState, RunState};

/// The JSON of `GET /health` of a run: the fields of a gateway, over all gateways, and the child processes.
#[derive(Debug, Serialize)]
pub(crate) struct LocalHealth {
    #[serde(flatten)]
    cluster: GatewayHealth,
    /// One sentence for each problem.
    reasons: Vec<String>,
    /// The condition that the next step of an edit waits for.
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

/// A problem of one child.
struct Problem {
    child: Arc<str>,
    cause: Cause,
}

enum Cause {
    Leaving,
    NotRunning,
    NoAnswer {
        admin: SocketAddr,
    },
    Starting {
        kafka: String,
    },
    Draining,
    /// A shard that takes clients and needs attention.
    Unwell {
        status: Status,
        reason: String,
    },
    /// A gateway's own problem, such as too few file descriptors.
    Gateway {
        reason: String,
    },
    ShardsNotReady {
        shards: Vec<Arc<str>>,
    },
}

impl Problem {
    /// Whether the child serves clients despite the problem.
    fn serves(&self) -> bool {
        matches!(self.cause, Cause::Unwell { status: Status::Degraded, .. } | Cause::Gateway { .. })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let child = &self.child;
        match &self.cause {
            Cause::Leaving => write!(f, "{child} is shutting down"),
            Cause::NotRunning => write!(f, "{child} is not running"),
            Cause::NoAnswer { admin } => write!(f, "{child} does not answer on {admin}"),
            Cause::Starting { kafka } => write!(f, "{child} is starting{kafka}"),
            Cause::Draining => write!(f, "{child} is draining"),
            Cause::Unwell { status, reason } => {
                write!(f, "{child} is {status}{reason}")
            }
            Cause::Gateway { reason } => write!(f, "{child}: {reason}"),
            Cause::ShardsNotReady { shards } => write!(f, "{child} does not see {} as ready", shards.join(", ")),
        }
    }
}

impl<H> ChildState<H> {
    /// The answer to the last poll, or why it does not count.
    fn current(&self) -> Result<&H, Cause> {
        match (&self.pid, &self.health) {
            _ if self.is_leaving => Err(Cause::Leaving),
            (None, _) => Err(Cause::NotRunning),
            (_, None) => Err(Cause::NoAnswer { admin: self.admin }),
            (_, Some(health)) => Ok(health),
        }
    }
}

impl RunState {
    /// One sentence for each problem.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.problems().iter().map(ToString::to_string).collect()
    }

    /// The problems that keep a child from serving; empty when every child serves.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.problems().iter().filter(|problem| !problem.serves()).map(ToString::to_string).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let shards = self.shards.iter().filter_map(|child| {
            let cause = child.current().map_or_else(Some, shard_problem)?;
            Some(Problem { child: child.name.clone(), cause })
        });
        let gateways = self.gateways.iter().flat_map(|child| {
            let causes = child.current().map_or_else(|cause| vec![cause], |health| self.gateway_problems(health));
            causes.into_iter().map(|cause| Problem { child: child.name.clone(), cause })
        });
        shards.chain(gateways).collect()
    }

    fn gateway_problems(&self, health: &GatewayHealth) -> Vec<Cause> {
        let own = health.reason.iter().map(|reason| Cause::Gateway { reason: reason.clone() });
        let ready: BTreeSet<_> =
            health.shards.iter().filter(|shard| shard.state.is_serving()).map(|shard| &*shard.id).collect();
        let missing = self.shards.iter().filter(|shard| !shard.is_leaving && !ready.contains(&*shard.name));
        let shards: Vec<_> = missing.map(|shard| shard.name.clone()).collect();
        let draining = (health.state == State::Draining).then_some(Cause::Draining);
        own.chain(draining).chain((!shards.is_empty()).then_some(Cause::ShardsNotReady { shards })).collect()
    }

    /// Healthy without problems, unhealthy when no client can be served, degraded in between.
    pub(crate) fn status(&self) -> Status {
        let serves =
            |child: &ChildState<ShardHealth>| child.health.as_ref().is_some_and(|health| health.state.is_serving());
        let reachable = self.gateways.iter().any(|child| child.health.is_some() && !child.is_leaving);
        match self.reasons().is_empty() {
            true => Status::Healthy,
            false if reachable && self.shards.iter().any(serves) => Status::Degraded,
            false => Status::Unhealthy,
        }
    }

    /// The JSON of `GET /health`.
    pub(crate) fn health(&self) -> LocalHealth {
        let shards: Vec<ShardView> = self.shards.iter().map(|child| self.view(child)).collect();
        let checks = self.checks(&shards);
        let ready = || shards.iter().filter(|shard| shard.state.is_serving());
        let most = ready().map(|shard| shard.connections).max().unwrap_or(0);
        let least = ready().map(|shard| shard.connections).min().unwrap_or(0);
        let status = self.status();
        let gateways = || self.gateways.iter().filter_map(|child| child.health.as_ref());
        let cluster = GatewayHealth {
            status,
            healthy: status != Status::Unhealthy,
            reason: self.own_reason(),
            // One gateway that takes upgrades is enough.
            state: [State::Ready, State::Draining]
                .into_iter()
                .find(|state| gateways().any(|health| health.state == *state))
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
        let shards = self.shards.iter().map(|child| process("shard", child));
        let processes = shards.chain(self.gateways.iter().map(|child| process("gateway", child))).collect();
        LocalHealth { cluster, reasons: self.reasons(), waiting: self.waiting.clone(), processes }
    }

    /// The checks of all shards, summed up; the Kafka state is the worst.
    fn checks(&self, shards: &[ShardView]) -> Checks {
        let mut checks = Checks::default();
        for shard in self.shards.iter().filter_map(|child| child.health.as_ref()) {
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
        checks
    }

    /// The first problem that a process reports of itself.
    fn own_reason(&self) -> Option<String> {
        let shards =
            self.shards.iter().filter_map(|child| Some((&child.name, child.health.as_ref()?.reason.as_ref()?)));
        let gateways =
            self.gateways.iter().filter_map(|child| Some((&child.name, child.health.as_ref()?.reason.as_ref()?)));
        shards.chain(gateways).next().map(|(name, reason)| format!("{name}: {reason}"))
    }

    fn view(&self, child: &ChildState<ShardHealth>) -> ShardView {
        let state = match (&child.pid, &child.health) {
            (Some(_), Some(health)) => health.state.into(),
            _ => ViewState::Unreachable,
        };
        let health = child.health.as_ref();
        let (connections, max) = health.map_or((0, self.capacity), |health| (health.connections, health.capacity));
        ShardView {
            id: child.name.to_string(),
            address: child.ws.to_string(),
            state,
            connections,
            max_connections: max,
            available_slots: health.map_or(0, |health| health.available),
            utilization: percent(connections, max),
            age_ms: child
                .answered
                .as_ref()
                .map_or(self.started, |(asked, _)| *asked)
                .elapsed()
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
        }
    }
}

fn process<H>(part: &'static str, child: &ChildState<H>) -> Process {
    Process { part, id: child.name.clone(), admin: child.admin, pid: child.pid, restarts: child.restarts }
}

fn shard_problem(health: &ShardHealth) -> Option<Cause> {
    match health.state {
        State::Ready | State::Full if health.status == Status::Healthy => None,
        State::Ready | State::Full => {
            let reason = health.reason.as_ref().map_or_else(|| kafka(health), |reason| format!(": {reason}"));
            Some(Cause::Unwell { status: health.status, reason })
        }
        State::Starting => Some(Cause::Starting { kafka: kafka(health) }),
        State::Draining => Some(Cause::Draining),
    }
}

fn kafka(health: &ShardHealth) -> String {
    let kafka = &health.checks.kafka;
    match &kafka.error {
        Some(error) => format!(" (Kafka {}: {error})", kafka.status),
        None => format!(" (Kafka {}, {} records behind)", kafka.status, kafka.lag),
    }
}
