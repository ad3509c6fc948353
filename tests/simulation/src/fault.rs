//! Faults: processes, connections or whole parts fail for a while.

use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::Ms;
use crate::event::Event;
use crate::world::World;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process of a shard is killed; its kubelet starts another.
    Killed(u32),
    /// The process of a shard is stopped.
    Stopped(u32),
    /// The operator does not reach a shard.
    OperatorCut(u32),
    /// The operator reaches no shard, while kubelets and gateways do.
    OperatorBlind,
    /// A gateway does not reach a shard.
    GatewayCut(usize, u32),
    /// The API server is unreachable.
    ApiAway,
    /// A gateway does not reach the API server.
    GatewayBlind(usize),
    /// The operator's process is killed and loses its memory.
    OperatorKilled,
    /// A gateway's process is killed, and its tunnels end.
    GatewayKilled(usize),
    /// Shards cannot read from Kafka.
    KafkaAway,
    /// A pod is evicted, as by a drain of its node.
    Evicted(u32),
}

/// Shards that may exist during a fault, including the extra one.
const ORDINALS: u32 = 7;

impl Fault {
    /// Shards that the operator does not reach during the fault.
    fn hides(self) -> std::ops::Range<u32> {
        match self {
            Self::Stopped(ordinal) | Self::OperatorCut(ordinal) => ordinal..ordinal + 1,
            Self::OperatorBlind => 0..ORDINALS,
            _ => 0..0,
        }
    }

    /// Generates a fault: start, duration, kind. It ends before `calm`.
    pub fn draw(calm: Ms, gateways: usize, rng: &mut SmallRng) -> (Ms, Ms, Self) {
        let ordinal = rng.random_range(0..6);
        let gateway = rng.random_range(0..gateways);
        let fault = match rng.random_range(0..14) {
            0 | 1 => Self::Killed(ordinal),
            2 | 3 => Self::Stopped(ordinal),
            4 => Self::OperatorCut(ordinal),
            5 => Self::GatewayCut(gateway, ordinal),
            6 => Self::ApiAway,
            7 => Self::OperatorKilled,
            8 => Self::GatewayKilled(gateway),
            9 => Self::KafkaAway,
            10 => Self::GatewayBlind(gateway),
            11 => Self::OperatorBlind,
            _ => Self::Evicted(ordinal),
        };
        let at = rng.random_range(1_000..calm);
        let length = rng.random_range(500..30_000).min(calm - at);
        (at, length, fault)
    }

    /// A fault that no client should notice.
    pub fn draw_quiet(calm: Ms, gateways: usize, rng: &mut SmallRng) -> (Ms, Ms, Self) {
        let fault =
            if rng.random_bool(0.5) { Self::ApiAway } else { Self::GatewayBlind(rng.random_range(0..gateways)) };
        let at = rng.random_range(20_000..calm);
        (at, rng.random_range(500..30_000).min(calm - at), fault)
    }
}

impl World {
    pub(crate) fn break_something(&mut self, index: usize) {
        let (_, length, fault) = self.scenario.faults[index];
        self.trace(|| format!("FAULT {fault:?} for {:.1} s", length as f64 / 1_000.0));
        self.trouble();
        self.active.push((index, fault, self.now));
        self.queue.plan(self.now + length, Event::Mend(index));
        for ordinal in fault.hides() {
            if !self.dark.iter().any(|(dark, _)| *dark == ordinal) {
                self.dark.push((ordinal, self.now));
            }
        }
        match fault {
            Fault::Killed(ordinal) => {
                if let Some(uid) = self.pods.iter().find(|pod| pod.ordinal == ordinal).map(|pod| pod.uid) {
                    self.crash(uid);
                }
            }
            Fault::Stopped(ordinal) => {
                let now = self.now;
                for pod in self.pods.iter_mut().filter(|pod| pod.ordinal == ordinal) {
                    pod.process.stopped_at = Some(now);
                    pod.process.reader.stop(now);
                }
            }
            Fault::KafkaAway => {
                let now = self.now;
                self.pods.iter_mut().for_each(|pod| pod.process.reader.stop(now));
            }
            Fault::OperatorKilled => {
                self.operator.forget();
                self.queue.plan(self.now + length, Event::OperatorStarts);
            }
            Fault::GatewayKilled(gateway) => self.kill_gateway(gateway, length),
            Fault::Evicted(ordinal) => self.evict_pod(ordinal),
            Fault::OperatorCut(_)
            | Fault::OperatorBlind
            | Fault::GatewayCut(..)
            | Fault::GatewayBlind(_)
            | Fault::ApiAway => {}
        }
    }

    pub(crate) fn mend(&mut self, index: usize) {
        let Some(at) = self.active.iter().position(|(active, ..)| *active == index) else { return };
        let (_, fault, began) = self.active.swap_remove(at);
        self.trouble();
        self.trace(|| format!("mended: {fault:?}"));
        for ordinal in fault.hides() {
            if self.unheard_since(ordinal).is_some() {
                continue;
            }
            let since = self.dark.iter().position(|(dark, _)| *dark == ordinal).map(|at| self.dark.swap_remove(at).1);
            self.heals.push((ordinal, since.unwrap_or(began), self.now));
        }
        match fault {
            Fault::Stopped(ordinal) => self.resume(ordinal),
            Fault::KafkaAway => {
                for pod in self.pods.iter_mut().filter(|pod| pod.process.stopped_at.is_none()) {
                    pod.process.reader.stopped = None;
                }
            }
            Fault::ApiAway => self.plan_sync(),
            _ => {}
        }
    }

    /// Whether such a fault is active.
    pub(crate) fn is_broken(&self, like: impl Fn(Fault) -> bool) -> bool {
        self.active.iter().any(|(_, fault, _)| like(*fault))
    }

    /// Since when the operator does not reach the shard `ordinal`.
    pub(crate) fn operator_cut_since(&self, ordinal: u32) -> Option<Ms> {
        let is_cut = |fault| matches!(fault, Fault::OperatorBlind) || fault == Fault::OperatorCut(ordinal);
        self.active.iter().find(|(_, fault, _)| is_cut(*fault)).map(|(_, _, at)| *at)
    }

    /// Since when the operator has had no answer of the shard `ordinal`, over successive faults.
    pub(crate) fn unheard_since(&self, ordinal: u32) -> Option<Ms> {
        let is_dark = self.is_broken(|fault| fault.hides().contains(&ordinal));
        self.dark.iter().find(|(dark, _)| is_dark && *dark == ordinal).map(|(_, since)| *since)
    }

    pub(crate) fn is_api_away(&self) -> bool {
        self.is_broken(|fault| fault == Fault::ApiAway)
    }

    pub(crate) fn is_blind(&self, gateway: usize) -> bool {
        self.is_broken(|fault| fault == Fault::ApiAway || fault == Fault::GatewayBlind(gateway))
    }

    /// Since when `gateway` does not reach the shard `ordinal`.
    pub(crate) fn gateway_cut_since(&self, gateway: usize, ordinal: u32) -> Option<Ms> {
        let cut = self.active.iter().find(|(_, fault, _)| *fault == Fault::GatewayCut(gateway, ordinal));
        cut.map(|(_, _, at)| *at)
    }
}
