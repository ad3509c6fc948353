//! A thousand shards, a million clients, fifty gateways: measures how the age of the gateways' views affects their
//! picks.
//!
//! The model has only what matters for that: the view that each gateway has of each shard (from polls, and from
//! answers to its own handshakes), its handshakes in flight, the real picker, and shards that grant or refuse. A run
//! depends on its seed only.

use std::collections::BinaryHeap;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use wscluster_routing::pick::{Candidate, choose};

use crate::Ms;

/// The size of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Number of shards.
    pub shards: u32,
    /// Connections that a shard may hold.
    pub capacity: u32,
    /// Number of clients.
    pub clients: u32,
    /// Number of gateways.
    pub gateways: u32,
    /// Milliseconds between two polls of a shard by a gateway, ± 20 %.
    pub poll: Ms,
}

/// What happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// All clients connect within a minute.
    Fill,
    /// All clients are connected. This many shards are killed at once, and their clients reconnect within a second.
    Crash(u32),
    /// All clients are connected. This many empty shards are added; then a tenth of the clients is replaced within a
    /// minute.
    Grow(u32),
}

/// The measured figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// 100 · (max − min) / max over the connections of serving shards at the end.
    pub imbalance: f64,
    /// Upgrades refused by a shard, per thousand handshakes.
    pub wrong_picks: f64,
    /// Handshakes that waited in a queue, per thousand.
    pub queued: f64,
    /// Milliseconds of a handshake: the 99.9th percentile, and the slowest.
    pub slow: [Ms; 2],
    /// Milliseconds from the first handshake to the last granted slot.
    pub settled: Ms,
}

const STALE: Ms = 2_000;
const GONE: Ms = 10_000;

/// The view that a gateway has of a shard.
#[derive(Clone, Copy, Debug, Default)]
struct Belief {
    used: u32,
    in_flight: u32,
    heard: u32,
    is_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Knock { began: u32, gateway: u16 },
    Arrive { began: u32, gateway: u16, shard: u16, tries: u8 },
    Poll { gateway: u16, shard: u16 },
    Leave,
    Kill { shard: u16 },
}

struct Model {
    size: Size,
    now: Ms,
    rng: SmallRng,
    queue: BinaryHeap<std::cmp::Reverse<(Ms, u64, Event)>>,
    planned: u64,
    used: Vec<u32>,
    is_up: Vec<bool>,
    beliefs: Vec<Belief>,
    open: Vec<u16>,
    coming: u64,
    wrong: u64,
    queued: u64,
    waits: Vec<u32>,
    last: Ms,
}

/// Runs `case` at this size.
pub fn play(size: Size, case: Case, seed: u64) -> Figures {
    let mut model = Model {
        size,
        now: 1_000,
        rng: SmallRng::seed_from_u64(seed),
        queue: BinaryHeap::new(),
        planned: 0,
        used: vec![0; size.shards as usize],
        is_up: vec![true; size.shards as usize],
        beliefs: vec![Belief::default(); (size.shards * size.gateways) as usize],
        open: Vec::new(),
        coming: 0,
        wrong: 0,
        queued: 0,
        waits: Vec::new(),
        last: 0,
    };
    model.begin(case);
    model.run();
    model.figures()
}

impl Model {
    fn plan(&mut self, at: Ms, event: Event) {
        self.queue.push(std::cmp::Reverse((at, self.planned, event)));
        self.planned += 1;
    }

    fn begin(&mut self, case: Case) {
        let Size { shards, clients, gateways, poll, .. } = self.size;
        let (begin, length) = (3 * poll, 60_000);
        // All clients are connected, spread evenly over the shards that are not new.
        let (new, there) = match case {
            Case::Fill => (shards, 0),
            Case::Crash(_) => (0, clients),
            Case::Grow(new) => (new, clients),
        };
        let old = shards - new;
        for shard in 0..old {
            self.used[shard as usize] = there / old + u32::from(shard < there % old);
        }
        for gateway in 0..gateways {
            for shard in 0..shards {
                let first = 1_000 + self.rng.random_range(0..poll);
                self.plan(first, Event::Poll { gateway: gateway as u16, shard: shard as u16 });
            }
        }
        let coming = match case {
            Case::Fill => clients,
            Case::Crash(killed) => {
                let killed = killed.min(old) as u16;
                (0..killed).for_each(|shard| self.plan(1_000 + begin, Event::Kill { shard }));
                self.used[..usize::from(killed)].iter().sum()
            }
            Case::Grow(_) => clients / 10,
        };
        for _ in 0..coming {
            let within = if matches!(case, Case::Crash(_)) { 50..1_000 } else { 0..length };
            let at = 1_000 + begin + self.rng.random_range(within);
            let gateway = self.rng.random_range(0..gateways) as u16;
            self.plan(at, Event::Knock { began: at as u32, gateway });
            if matches!(case, Case::Grow(_)) {
                self.plan(at, Event::Leave);
            }
        }
        self.coming = u64::from(coming);
    }

    /// Runs until every client has a slot.
    fn run(&mut self) {
        while self.waits.len() < self.coming as usize {
            let Some(std::cmp::Reverse((at, _, event))) = self.queue.pop() else { return };
            self.now = at;
            match event {
                Event::Knock { began, gateway } => self.pick(began, gateway, 0),
                Event::Arrive { began, gateway, shard, tries } => self.arrive(began, gateway, shard, tries),
                Event::Poll { gateway, shard } => self.poll(gateway, shard),
                Event::Leave => self.leave(),
                Event::Kill { shard } => {
                    (self.is_up[usize::from(shard)], self.used[usize::from(shard)]) = (false, 0);
                }
            }
        }
    }

    fn belief(&mut self, gateway: u16, shard: u16) -> &mut Belief {
        &mut self.beliefs[usize::from(gateway) * self.size.shards as usize + usize::from(shard)]
    }

    fn pick(&mut self, began: u32, gateway: u16, tries: u8) {
        let (now, capacity, shards) = (self.now, self.size.capacity, self.size.shards as usize);
        let row = &self.beliefs[usize::from(gateway) * shards..][..shards];
        let candidate = |belief: &Belief| Candidate { used: belief.used + belief.in_flight, capacity };
        for is_doubtful in [false, true] {
            self.open.clear();
            let is_open = |belief: &Belief| {
                let age = now - Ms::from(belief.heard);
                let is_right = belief.is_open && age <= GONE && (age > STALE) == is_doubtful;
                is_right && candidate(belief).has_room()
            };
            self.open.extend((0..).zip(row).filter(|(_, belief)| is_open(belief)).map(|(shard, _): (u16, _)| shard));
            let open = &self.open;
            let chosen = choose(open.len(), |at| candidate(&row[usize::from(open[at])]), &mut self.rng);
            if let Some(at) = chosen {
                let shard = open[at];
                self.belief(gateway, shard).in_flight += 1;
                let arrives = now + self.rng.random_range(1..20);
                self.plan(arrives, Event::Arrive { began, gateway, shard, tries });
                return;
            }
        }
        self.queued += u64::from(tries == 0);
        self.plan(now + 100, Event::Knock { began, gateway });
    }

    fn arrive(&mut self, began: u32, gateway: u16, shard: u16, tries: u8) {
        let at = usize::from(shard);
        let (now, is_up) = (self.now, self.is_up[at]);
        let is_granted = is_up && self.used[at] < self.size.capacity;
        self.used[at] += u32::from(is_granted);
        let used = self.used[at];
        let belief = self.belief(gateway, shard);
        belief.in_flight -= 1;
        belief.is_open = is_up;
        if is_up {
            (belief.used, belief.heard) = (used, now as u32);
        }
        if is_granted {
            self.waits.push(now as u32 - began);
            self.last = now;
        } else {
            self.wrong += 1;
            self.pick(began, gateway, tries.saturating_add(1));
        }
    }

    fn poll(&mut self, gateway: u16, shard: u16) {
        let (now, is_up, used) = (self.now, self.is_up[usize::from(shard)], self.used[usize::from(shard)]);
        if is_up {
            let belief = self.belief(gateway, shard);
            (belief.used, belief.is_open, belief.heard) = (used, true, now as u32);
        }
        let poll = self.size.poll;
        let next = now + self.rng.random_range(poll * 4 / 5..=poll * 6 / 5);
        self.plan(next, Event::Poll { gateway, shard });
    }

    /// A uniformly random client leaves.
    fn leave(&mut self) {
        for _ in 0..1_000 {
            let shard = self.rng.random_range(0..self.size.shards as usize);
            if self.rng.random_range(0..self.size.capacity) < self.used[shard] {
                self.used[shard] -= 1;
                return;
            }
        }
    }

    fn figures(mut self) -> Figures {
        self.waits.sort_unstable();
        let used = || self.used.iter().zip(&self.is_up).filter(|(_, is_up)| **is_up).map(|(used, _)| f64::from(*used));
        let (min, max) = used().fold((f64::INFINITY, 0.0_f64), |(min, max), used| (min.min(used), max.max(used)));
        let thousand = self.waits.len() as f64 / 1_000.0;
        let slowest = |at: usize| Ms::from(self.waits.get(at).or(self.waits.last()).copied().unwrap_or(0));
        Figures {
            imbalance: if max > 0.0 { 100.0 * (max - min) / max } else { 0.0 },
            wrong_picks: self.wrong as f64 / thousand,
            queued: self.queued as f64 / thousand,
            slow: [slowest(self.waits.len() * 999 / 1_000), slowest(self.waits.len())],
            settled: self.last.saturating_sub(1_000 + 3 * self.size.poll),
        }
    }
}
