//! Health and readiness of a shard, for its admin port.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use wscluster_admin::AdminPart;
use wscluster_admin::health::{
    CapacityCheck, Checks, CpuCheck, KafkaCheck, KafkaStatus, MemoryCheck, ShardHealth, State, Status, percent,
};
use wscluster_runtime::usage::{CpuMeter, memory_limit_bytes, usage};

use super::gateway_presence::GatewayPresence;
use super::shared::Shared;

/// Reports the state of the source.
pub(crate) type SourceStatus = Box<dyn Fn() -> KafkaCheck + Send + Sync>;

/// Reports the state of a shard.
pub(crate) struct Admin {
    shared: Arc<Shared>,
    source: SourceStatus,
    cpu: Mutex<CpuMeter>,
    gateways: GatewayPresence,
}

impl Admin {
    /// Reports about `shared` and its `source`.
    pub(crate) fn new(shared: Arc<Shared>, source: SourceStatus) -> Self {
        Self { shared, source, cpu: Mutex::new(CpuMeter::start()), gateways: GatewayPresence::default() }
    }

    /// The current health.
    pub(crate) fn shard_health(&self) -> ShardHealth {
        let Shared { settings, slots, .. } = &*self.shared;
        let (current, max) = (slots.used(), slots.capacity());
        let state = self.shared.state();
        let kafka = (self.source)();
        let usage = usage("self").unwrap_or_default();
        let limit_bytes = memory_limit_bytes().unwrap_or(0);
        let reason = slots.fds().trouble();
        let status = if self.shared.is_broken() {
            Status::Unhealthy
        } else if state == State::Starting
            || reason.is_some()
            || kafka.status > KafkaStatus::Connected
            || kafka.error.is_some()
        {
            Status::Degraded
        } else {
            Status::Healthy
        };
        let cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner).percentage();
        ShardHealth {
            status,
            healthy: status != Status::Unhealthy,
            reason,
            state,
            shard: settings.name.clone(),
            incarnation: settings.incarnation.clone(),
            revision: settings.revision.clone(),
            connections: current,
            capacity: max,
            gateways: self.gateways.count(),
            available: if state == State::Ready { max - current.min(max) } else { 0 },
            utilization: percent(current, max),
            checks: Checks {
                capacity: CapacityCheck { current, max, percentage: percent(current, max) },
                cpu: CpuCheck { percentage: cpu },
                memory: MemoryCheck {
                    percentage: if limit_bytes == 0 {
                        0.0
                    } else {
                        100.0 * usage.rss_bytes as f64 / limit_bytes as f64
                    },
                    bytes: usage.rss_bytes,
                    limit_bytes,
                },
                kafka,
            },
            uptime: self.shared.started.elapsed().as_secs_f64(),
        }
    }
}

impl AdminPart for Admin {
    fn health(&self) -> Value {
        serde_json::to_value(self.shard_health()).unwrap_or_default()
    }

    fn asked_by(&self, gateway: &str) {
        self.gateways.polled(gateway);
    }

    fn ready(&self) -> Result<(), String> {
        if self.shared.is_broken() {
            return Err("a worker or another critical thread has ended, see the log".to_owned());
        }
        match self.shared.state() {
            State::Ready | State::Full => Ok(()),
            State::Starting => Err("starting: the window is being filled from Kafka".to_owned()),
            State::Draining => Err("draining".to_owned()),
        }
    }
}
