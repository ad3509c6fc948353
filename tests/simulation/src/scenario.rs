//! The specs, edits and faults of one run, and their times, all generated from its seed.
//!
//! Half of the scenarios are quiet: no client arrives or leaves for good, and the only faults are an unreachable API
//! server, which clients do not need. In a quiet scenario no handshake may fail. In every scenario the last edit can
//! be satisfied and no fault follows it, so the cluster must become stable.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::Ms;
use crate::fault::Fault;

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Whether the only faults concern the API server, and no client arrives or leaves.
    pub is_quiet: bool,
    /// Number of clients.
    pub clients: u32,
    /// Number of gateways.
    pub gateways: usize,
    /// Pod templates by revision.
    pub templates: Vec<Template>,
    /// The first spec.
    pub spec: Spec,
    /// The edits of the spec.
    pub edits: Vec<(Ms, Spec)>,
    /// The faults: start, duration, kind.
    pub faults: Vec<(Ms, Ms, Fault)>,
    /// When clients leave for good.
    pub leaving: Vec<(Ms, u32)>,
    /// The time after which there are no edits and no faults.
    pub calm: Ms,
    /// The time by which the cluster must be stable.
    pub end: Ms,
    /// The delays of the parts.
    pub pace: Pace,
}

/// The spec of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Number of shards.
    pub shards: u32,
    /// Index of the template.
    pub revision: usize,
    /// `spec.paused`.
    pub paused: bool,
    /// Evictions per second.
    pub evict_rate: u32,
    /// Longest duration of a drain.
    pub deadline: Ms,
    /// Shards that may be in motion at once.
    pub max_in_motion: u32,
    /// Whether an extra shard may be started.
    pub surge: bool,
    /// Whether a person approves each replacement.
    pub supervised: bool,
}

/// A pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// How its pods behave.
    pub quality: Quality,
    /// Slots of a shard.
    pub capacity: u32,
}

/// How the pods of a template behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// They work.
    Good,
    /// Their process crashes again and again.
    Crashes,
    /// They never become ready.
    Hangs,
}

/// The delays of the parts.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Pause between two health polls of a gateway.
    pub poll: Ms,
    /// Pause between two health polls of the operator.
    pub ask: Ms,
    /// Pause between two plans of the operator.
    pub observe: Ms,
    /// Longest time from an observation of the operator to its action.
    pub act: Ms,
    /// Longest time until a controller or a watch receives a change.
    pub watch: Ms,
    /// Longest reconnect delay that a client is given.
    pub hint: Ms,
    /// The time that a shard's window covers.
    pub window: Ms,
}

impl Scenario {
    /// The scenario of `seed`.
    pub fn draw(seed: u64) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let is_quiet = rng.random_bool(0.5);
        let shards = rng.random_range(1..=5);
        let mut templates = vec![Template { quality: Quality::Good, capacity: rng.random_range(4..=24) }];
        let slots = shards * templates[0].capacity;
        let clients = rng.random_range(1..=slots);
        let mut spec = Spec {
            shards,
            revision: 0,
            paused: false,
            evict_rate: rng.random_range(2..=20),
            deadline: rng.random_range(3_000..20_000),
            max_in_motion: if rng.random_bool(0.7) { 1 } else { rng.random_range(2..=3) },
            surge: rng.random_bool(0.7),
            supervised: rng.random_bool(0.1),
        };
        let first = spec.clone();
        let mut edits = Vec::new();
        // Clients connect within ten seconds; the edits of a quiet scenario begin after that.
        let mut at = if is_quiet { 25_000 } else { rng.random_range(0..25_000) };
        for _ in 0..rng.random_range(1..=6) {
            edit(&mut spec, &mut templates, rng);
            edits.push((at, spec.clone()));
            at += if rng.random_bool(0.5) { rng.random_range(100..5_000) } else { rng.random_range(1_000..30_000) };
        }
        let calm = (at + 1_000).max(12_000);
        last_edit(&mut spec, &mut templates, clients, rng);
        edits.push((calm, spec));
        let gateways = rng.random_range(1..=3);
        let faults = if is_quiet {
            (0..rng.random_range(0..=1)).map(|_| Fault::draw_quiet(calm, gateways, rng)).collect()
        } else {
            (0..rng.random_range(0..=5)).map(|_| Fault::draw(calm, gateways, rng)).collect()
        };
        let leavers = if is_quiet || rng.random_bool(0.5) { 0 } else { clients / 4 };
        let leaving = (0..leavers).map(|client| (rng.random_range(5_000..calm), client)).collect();
        Self {
            seed,
            is_quiet,
            clients,
            gateways,
            templates,
            spec: first,
            edits,
            faults,
            leaving,
            calm,
            end: calm + 400_000,
            pace: Pace::draw(rng),
        }
    }
}

impl Pace {
    fn draw(rng: &mut SmallRng) -> Self {
        let hint = rng.random_range(200..5_000);
        Self {
            poll: if rng.random_bool(0.8) { 500 } else { rng.random_range(500..4_000) },
            ask: rng.random_range(300..2_000),
            observe: rng.random_range(300..1_500),
            act: rng.random_range(20..600),
            watch: rng.random_range(20..1_000),
            hint,
            window: 60_000,
        }
    }
}

/// One edit of a person or another controller.
fn edit(spec: &mut Spec, templates: &mut Vec<Template>, rng: &mut SmallRng) {
    match rng.random_range(0..12) {
        0..=3 => spec.shards = rng.random_range(1..=6),
        4..=6 => {
            let quality = match rng.random_range(0..4) {
                0 => Quality::Crashes,
                1 => Quality::Hangs,
                _ => Quality::Good,
            };
            let capacity = templates[spec.revision].capacity;
            spec.revision = renew(templates, Template { quality, capacity });
        }
        7 => spec.revision = rng.random_range(0..templates.len()),
        8 => {
            let capacity = rng.random_range(4..=24);
            spec.revision = renew(templates, Template { quality: Quality::Good, capacity });
        }
        9 => spec.paused = !spec.paused,
        10 => spec.max_in_motion = rng.random_range(1..=3),
        _ => spec.surge = !spec.surge,
    }
}

fn renew(templates: &mut Vec<Template>, template: Template) -> usize {
    templates.push(template);
    templates.len() - 1
}

/// The last edit: a working spec with room for every client.
fn last_edit(spec: &mut Spec, templates: &mut Vec<Template>, clients: u32, rng: &mut SmallRng) {
    spec.paused = false;
    if templates[spec.revision].quality != Quality::Good {
        let capacity = templates[spec.revision].capacity;
        let is_rolled_back = rng.random_bool(0.5);
        let good = templates.iter().rposition(|template| template.quality == Quality::Good);
        spec.revision = match good {
            Some(revision) if is_rolled_back => revision,
            _ => renew(templates, Template { quality: Quality::Good, capacity }),
        };
    }
    let least = clients.div_ceil(templates[spec.revision].capacity);
    spec.shards = spec.shards.max(least);
}
