//! The process of a shard: slots, drain, health, and its end.

use rand::RngExt as _;

use crate::Ms;
use crate::client::State as ClientState;
use crate::event::Event;
use crate::fault::Fault;
use crate::log::{self, Reader};
use crate::mutant::Mutant;
use crate::scenario::Quality;
use crate::world::World;

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its container does not run.
    Down,
    /// In a crash loop, which the API server shows.
    Looping,
    /// Filling its window.
    Filling,
    /// Serving.
    Up,
}

/// A drain in progress.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Its start.
    pub began: Ms,
    /// Its longest duration.
    pub deadline: Ms,
    /// Evictions per second.
    pub rate: u32,
    /// Whether the process ends after it.
    pub is_last: bool,
}

/// The process of a pod.
#[derive(Clone, Debug)]
pub struct Process {
    /// The number of its starts.
    pub incarnation: u32,
    /// Its state.
    pub life: Life,
    /// When it became ready.
    pub up_since: Ms,
    /// Its clients.
    pub slots: Vec<u32>,
    /// Slots of clients that left without a Close.
    pub ghosts: u32,
    /// All slots.
    pub capacity: u32,
    /// The drain in progress.
    pub drain: Option<Drain>,
    /// The number of its drains.
    pub drains: u32,
    /// When it was stopped (SIGSTOP).
    pub stopped_at: Option<Ms>,
    /// Its reader.
    pub reader: Reader,
}

impl Process {
    /// Slots in use.
    pub fn connections(&self) -> u32 {
        self.slots.len() as u32 + self.ghosts
    }

    /// Whether it takes upgrades, unless it is full.
    pub fn is_open(&self) -> bool {
        self.life == Life::Up && self.drain.is_none()
    }

    /// Whether it answers.
    pub fn is_running(&self) -> bool {
        matches!(self.life, Life::Up | Life::Filling) && self.stopped_at.is_none()
    }
}

impl World {
    /// A container starts.
    pub(crate) fn start(&mut self, uid: u32) {
        let (now, window) = (self.now, self.scenario.pace.window);
        let is_kafka_away = self.is_broken(|fault| fault == Fault::KafkaAway);
        let Some(pod) = self.pod(uid) else { return };
        if pod.deleting.is_some() || pod.process.life != Life::Down {
            return;
        }
        let quality = self.scenario.templates[pod.revision].quality;
        let (fill, lag) = (self.rng.random_range(300..4_000), self.rng.random_range(2..200));
        let is_early = self.mutant == Some(Mutant::ReadyTooEarly);
        let Some(pod) = self.pod_mut(uid) else { return };
        pod.started = now;
        let process = &mut pod.process;
        process.incarnation += 1;
        process.drain = None;
        let incarnation = process.incarnation;
        let filled_from = if is_early { log::end(now) } else { log::end(now.saturating_sub(window)) };
        process.reader = Reader { lag, stopped: None, filled_from, window };
        if is_kafka_away {
            process.reader.stop(now);
        }
        match quality {
            Quality::Good => {
                process.life = Life::Filling;
                self.queue.plan(now + if is_early { 10 } else { fill }, Event::Filled(uid, incarnation));
            }
            Quality::Hangs => process.life = Life::Filling,
            Quality::Crashes => process.life = Life::Looping,
        }
    }

    /// The window is filled, unless Kafka is unreachable.
    pub(crate) fn filled(&mut self, uid: u32, incarnation: u32) {
        let (now, is_early) = (self.now, self.mutant == Some(Mutant::ReadyTooEarly));
        let Some(pod) = self.pod_mut(uid).filter(|pod| pod.process.incarnation == incarnation) else { return };
        if pod.process.life != Life::Filling {
            return;
        }
        if pod.process.stopped_at.is_some() || (pod.process.reader.stopped.is_some() && !is_early) {
            self.queue.plan(now + 300, Event::Filled(uid, incarnation));
            return;
        }
        pod.process.life = Life::Up;
        pod.process.up_since = now;
        let ordinal = pod.ordinal;
        self.trace(|| format!("shard {ordinal} (pod {uid}) is ready"));
        self.plan_sync();
    }

    /// `POST /drain`, or SIGTERM for the last drain.
    pub(crate) fn begin_drain(&mut self, uid: u32, drain: Drain) {
        let now = self.now;
        let gap = 1_000 / Ms::from(drain.rate);
        let first = now + self.jitter(gap);
        let Some(pod) = self.pod_mut(uid) else { return };
        if pod.process.drain.is_some_and(|drain| drain.is_last) {
            return;
        }
        pod.process.drain = Some(drain);
        pod.process.drains += 1;
        let number = pod.process.drains;
        self.queue.plan(first, Event::Evict(uid, number));
        self.queue.plan(now + drain.deadline, Event::DrainOver(uid, number));
    }

    /// `DELETE /drain`.
    pub(crate) fn cancel_drain(&mut self, uid: u32) {
        if let Some(pod) = self.pod_mut(uid).filter(|pod| !pod.process.drain.is_some_and(|drain| drain.is_last)) {
            pod.process.drain = None;
        }
    }

    /// One eviction of drain `number`.
    pub(crate) fn evict(&mut self, uid: u32, number: u32) {
        let Some(pod) = self.pod(uid).filter(|pod| pod.process.drains == number) else { return };
        let Some(drain) = pod.process.drain else { return };
        let count = pod.process.slots.len();
        let is_running = pod.process.is_running();
        if is_running && count > 0 {
            let at = self.rng.random_range(0..count);
            if let Some(client) = self.pod(uid).map(|pod| pod.process.slots[at]) {
                self.close(client);
            }
        }
        if is_running && drain.is_last && count <= 1 {
            self.exit(uid);
        } else {
            let next = self.now + self.jitter(1_000 / Ms::from(drain.rate));
            self.queue.plan(next, Event::Evict(uid, number));
        }
    }

    /// The deadline of drain `number`: the remaining clients are closed at once.
    pub(crate) fn drain_over(&mut self, uid: u32, number: u32) {
        let Some(pod) = self.pod(uid).filter(|pod| pod.process.drains == number) else { return };
        let Some(drain) = pod.process.drain.filter(|_| pod.process.is_running()) else { return };
        let left = pod.process.slots.clone();
        if !left.is_empty() {
            let ordinal = pod.ordinal;
            self.trace(|| format!("shard {ordinal} closes {} at its deadline", left.len()));
        }
        for client in left {
            self.close(client);
        }
        if drain.is_last {
            self.exit(uid);
        }
    }

    /// A shard closes a client with 1012, after it has written everything that it has read.
    fn close(&mut self, client: u32) {
        let hint = self.rng.random_range(100..=self.scenario.pace.hint.max(101));
        self.end_session(client, None);
        self.back_off(client, hint);
    }

    /// The process ends by itself.
    fn exit(&mut self, uid: u32) {
        let gone = self.now + self.rng.random_range(50..500);
        self.end_process(uid);
        self.queue.plan(gone, Event::Gone(uid));
    }

    /// The process has ended; its connections break.
    pub(crate) fn end_process(&mut self, uid: u32) {
        let Some(pod) = self.pod_mut(uid) else { return };
        pod.process.life = Life::Down;
        pod.process.stopped_at = None;
        pod.process.ghosts = 0;
        pod.process.drains += 1;
        let held = pod.process.slots.clone();
        for client in held {
            self.cut_off(client, None);
        }
        if let Some(pod) = self.pod_mut(uid) {
            pod.process.drain = None;
        }
    }

    /// `kill -9`: the kubelet starts another process in the same pod.
    pub(crate) fn crash(&mut self, uid: u32) {
        let Some(pod) = self.pod(uid) else { return };
        let (is_up, is_leaving, ordinal) =
            (pod.process.is_running() || pod.process.stopped_at.is_some(), pod.deleting.is_some(), pod.ordinal);
        if !is_up {
            return;
        }
        self.trace(|| format!("shard {ordinal} (pod {uid}) is killed"));
        self.end_process(uid);
        let again = self.now + self.rng.random_range(200..2_000);
        let event = if is_leaving { Event::Gone(uid) } else { Event::Start(uid) };
        self.queue.plan(again, event);
    }

    /// SIGCONT for all pods of an ordinal.
    pub(crate) fn resume(&mut self, ordinal: u32) {
        let is_kafka_away = self.is_broken(|fault| fault == Fault::KafkaAway);
        let mut over = Vec::new();
        let now = self.now;
        for pod in self.pods.iter_mut().filter(|pod| pod.ordinal == ordinal && pod.process.stopped_at.is_some()) {
            pod.stop = (pod.process.stopped_at.take().unwrap_or(now), now);
            pod.process.ghosts = 0;
            if !is_kafka_away {
                pod.process.reader.stopped = None;
            }
            over.push((pod.uid, pod.process.drain, pod.process.drains, pod.deleting));
        }
        for (uid, drain, number, deleting) in over {
            if deleting.is_some() && !drain.is_some_and(|drain| drain.is_last) {
                // SIGTERM was pending.
                self.terminate(uid);
            } else if drain.is_some_and(|drain| self.now >= drain.began + drain.deadline) {
                self.drain_over(uid, number);
            }
        }
    }

    /// A random time between 0.5 and 1.5 times `gap`.
    pub(crate) fn jitter(&mut self, gap: Ms) -> Ms {
        self.rng.random_range(gap / 2..=gap + gap / 2).max(1)
    }

    /// Frees the slot of a client.
    pub(crate) fn free_slot(&mut self, client: u32) {
        let ClientState::Connected { uid, place, .. } = self.clients[client as usize].state else { return };
        let leaks = self.mutant == Some(Mutant::LeaksSlots) && self.rng.random_bool(0.05);
        let Some(pod) = self.pod_mut(uid) else { return };
        pod.process.slots.swap_remove(place);
        pod.process.ghosts += u32::from(leaks);
        if let Some(&moved) = pod.process.slots.get(place)
            && let ClientState::Connected { place: at, .. } = &mut self.clients[moved as usize].state
        {
            *at = place;
        }
    }
}
