//! The state of a gateway and its shards on the admin port: `/health` and `/readyz`.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use parking_lot::Mutex;
use wscluster_admin::AdminPart;
use wscluster_admin::health::{
    CapacityCheck, Checks, CpuCheck, GatewayHealth, KafkaCheck, MemoryCheck, ShardHealth, ShardView, State, Status,
    ViewState, percent,
};
use wscluster_runtime::usage::{CpuMeter, memory_limit_bytes, usage};

use super::gateway::Gateway;
use super::stage::Stage;

/// Answers `/health` and `/readyz`.
pub(crate) struct GatewayStatus {
    gateway: Arc<Gateway>,
    cpu: Mutex<CpuMeter>,
    memory_limit: u64,
}

impl GatewayStatus {
    /// Starts measuring CPU now.
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        let memory_limit = memory_limit_bytes().unwrap_or_default();
        Self { gateway, cpu: Mutex::new(CpuMeter::start()), memory_limit }
    }

    /// The answer of `GET /health`.
    pub(crate) fn report(&self) -> GatewayHealth {
        let gateway = &*self.gateway;
        let now = gateway.table.now_ms();
        let table = gateway.table.shards();
        let shards: Vec<ShardView> = table.iter().map(|shard| shard.view(now)).collect();
        let healths: Vec<ShardHealth> = table
            .iter()
            .zip(&shards)
            .filter(|(_, view)| view.state != ViewState::Unreachable)
            .filter_map(|(shard, _)| shard.health())
            .collect();
        let discovery = gateway.discovery.get();
        let shortage = gateway.fds.trouble().or_else(|| gateway.ports.trouble());
        let reason = shortage.or_else(|| discovery?.trouble());
        let status = match status(&shards, &healths, gateway.stage()) {
            Status::Healthy if reason.is_some() => Status::Degraded,
            status => status,
        };
        GatewayHealth {
            status,
            healthy: status != Status::Unhealthy,
            reason,
            state: self.state(),
            incarnation: gateway.incarnation.clone(),
            tunnels: gateway.tunnels.load(Relaxed),
            queued: gateway.queue.len() as u32,
            checks: Checks {
                capacity: capacity(&shards),
                cpu: self.cpu(&healths),
                memory: self.memory(&healths),
                kafka: kafka(&healths),
            },
            discovery: discovery.map(|discovery| discovery.health()),
            imbalance_percent: imbalance(&shards),
            shards,
            uptime: gateway.started.elapsed().as_secs_f64(),
        }
    }

    fn state(&self) -> State {
        match self.gateway.stage() {
            Stage::Open if self.has_shard() => State::Ready,
            Stage::Open => State::Starting,
            _ => State::Draining,
        }
    }

    fn has_shard(&self) -> bool {
        self.gateway.table.shards().iter().any(|shard| shard.heard_ms() > 0)
    }

    fn cpu(&self, healths: &[ShardHealth]) -> CpuCheck {
        let own = self.cpu.lock().percentage();
        CpuCheck { percentage: healths.iter().map(|shard| shard.checks.cpu.percentage).sum::<f64>() + own }
    }

    /// Resident bytes are summed; the percentage is that of the process nearest to its limit.
    fn memory(&self, healths: &[ShardHealth]) -> MemoryCheck {
        let own = usage("self").unwrap_or_default().rss_bytes;
        let share = if self.memory_limit == 0 { 0.0 } else { 100.0 * own as f64 / self.memory_limit as f64 };
        MemoryCheck {
            percentage: healths.iter().map(|shard| shard.checks.memory.percentage).fold(share, f64::max),
            bytes: healths.iter().map(|shard| shard.checks.memory.bytes).sum::<u64>() + own,
            limit_bytes: self.memory_limit,
        }
    }
}

impl AdminPart for GatewayStatus {
    fn health(&self) -> serde_json::Value {
        serde_json::to_value(self.report()).unwrap_or_default()
    }

    fn ready(&self) -> Result<(), String> {
        match self.gateway.stage() {
            Stage::Open if self.has_shard() => Ok(()),
            Stage::Open if self.gateway.discovery.get().is_some_and(|discovery| !discovery.has_listed()) => {
                Err("the API server has not listed the shards yet".to_owned())
            }
            Stage::Open => Err("no shard has answered yet".to_owned()),
            _ => Err("draining".to_owned()),
        }
    }
}

fn status(shards: &[ShardView], healths: &[ShardHealth], stage: Stage) -> Status {
    if !shards.iter().any(|view| view.state.is_serving()) {
        Status::Unhealthy
    } else if stage == Stage::Open
        && shards.iter().all(|view| view.state == ViewState::Ready)
        && healths.iter().all(|shard| shard.status == Status::Healthy)
    {
        Status::Healthy
    } else {
        Status::Degraded
    }
}

fn capacity(shards: &[ShardView]) -> CapacityCheck {
    let current = shards.iter().map(|view| view.connections).sum();
    let max = shards.iter().map(|view| view.max_connections).sum();
    CapacityCheck { current, max, percentage: percent(current, max) }
}

/// The most severe status of all shards.
fn kafka(healths: &[ShardHealth]) -> KafkaCheck {
    let worst = healths.iter().map(|shard| &shard.checks.kafka).max_by_key(|check| check.status);
    let Some(worst) = worst else { return KafkaCheck::default() };
    let lag = healths.iter().map(|shard| shard.checks.kafka.lag).max().unwrap_or_default();
    KafkaCheck { lag, ..worst.clone() }
}

fn imbalance(shards: &[ShardView]) -> f64 {
    let serving = shards.iter().filter(|view| view.state.is_serving());
    let (min, max) =
        serving.fold((u32::MAX, 0), |(min, max), view| (min.min(view.connections), max.max(view.connections)));
    if max == 0 { 0.0 } else { percent(max - min, max) }
}
