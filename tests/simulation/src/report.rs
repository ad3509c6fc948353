//! Writes `docs/simulation.md`: the figures at scale, and the machine of the measurement.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use wscluster_plan::{Desired, Observed, Shard, State, Timestamp, plan};

use crate::scale::{Case, Figures, Size, play};

const HEAD: &str = include_str!("report.md");

const SIZE: Size = Size { shards: 1_000, capacity: 1_100, clients: 1_000_000, gateways: 50, poll: 500 };

/// Description, case, and slots of each shard.
const CASES: [(&str, Case, u32); 5] = [
    ("all clients connect within a minute", Case::Fill, 1_100),
    ("the same, filling 99 % of all slots", Case::Fill, 1_010),
    ("1 shard killed", Case::Crash(1), 1_100),
    ("50 shards killed at once", Case::Crash(50), 1_100),
    ("100 shards added, then a tenth of all clients replaced", Case::Grow(100), 1_250),
];

/// The text of the page.
pub fn page(progress: impl Fn(&str)) -> String {
    let mut page = HEAD.to_owned();
    for (name, case, capacity) in CASES {
        for poll in [500, 2_000, 5_000] {
            progress(&format!("{name}, polled every {poll} ms"));
            let Figures { imbalance, wrong_picks, queued, slow, settled } =
                play(Size { capacity, poll, ..SIZE }, case, 1);
            writeln!(
                page,
                "| {name} | {:.1} s | {imbalance:.1} % | {wrong_picks:.2} | {queued:.2} | {} ms | {} ms | {:.1} s |",
                poll as f64 / 1_000.0,
                slow[0],
                slow[1],
                settled as f64 / 1_000.0
            )
            .expect("a String takes everything");
        }
    }
    progress("one plan of 1,000 shards");
    let took = one_plan();
    writeln!(
        page,
        "\nA plan for 1,000 shards, of which 900 have another revision and 100 are surplus, takes {:.2} ms on {}.",
        took.as_secs_f64() * 1_000.0,
        machine()
    )
    .expect("a String takes everything");
    page
}

/// The shortest of twenty runs: the machine may have other work.
fn one_plan() -> Duration {
    let desired = Desired {
        shards: 900,
        revision: "b".to_owned(),
        capacity: 1_100,
        evict_rate: 100,
        deadline: Duration::from_mins(2),
        paused: false,
        max_in_motion: 10,
        surge: true,
        supervised: false,
        approved: None,
    };
    let shard = |ordinal: u32| Shard {
        ordinal,
        revision: "a".to_owned(),
        state: State::Ready,
        connections: 900,
        capacity: 1_100,
        known_to_gateways: true,
        pod_ready: true,
        since: None,
    };
    let observed = Observed { replicas: 1_000, reconnecting: 0, shards: (0..1_000).map(shard).collect() };
    let once = |_| {
        let began = Instant::now();
        let planned = plan(&desired, &observed, Timestamp::default());
        let took = began.elapsed();
        assert_eq!(planned.steps.len(), 1_000);
        took
    };
    (0..20).map(once).min().unwrap_or_default()
}

/// The cores and the CPU model.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{cores} × {}", model.unwrap_or("an unknown CPU"))
}
