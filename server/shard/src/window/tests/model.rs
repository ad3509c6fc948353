//! Compares the window with a plain list, for random logs, losses, recreated topics and clients at random positions.
//!
//! The model keeps the whole log and the index up to which the shard has applied it. A client is a position in that
//! log, so the records that it missed follow from the list. A hole, a repeat, a wrong order, or a `Lost` without
//! cause fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use wscluster_kafka::feed::Update;
use wscluster_protocol::{Draft, Epoch, Partition, Position, Record};

use crate::window::{Limits, Recovery, Window, weight};

#[derive(Clone, Debug)]
enum Op {
    /// Every partition feeds channel 0; each other channel has one partition. `known_prev`: the source knows the
    /// previous one.
    Record {
        channel: u8,
        partition: u8,
        skip: i64,
        known_prev: bool,
    },
    /// The next `records` of the partition never reach the shard.
    Lose {
        partition: u8,
        records: u8,
    },
    Recreate,
    Pass {
        ms: i64,
    },
}

#[derive(Clone, Debug)]
struct Client {
    channel: u8,
    /// Percentages: where in the log it joined, where it left, where the shard stands when it comes back.
    joined: usize,
    left: usize,
    back: usize,
    /// Percentage of the log before the join at which its shard began to read; `None`: the client got no first
    /// positions.
    place: Option<usize>,
}

#[derive(Clone, Debug)]
struct Case {
    partitions: u8,
    ops: Vec<Op>,
    clients: Vec<Client>,
    /// Percentage of the log that is history when the shard starts.
    start: usize,
    kept: u64,
    age_ms: i64,
    quiet: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let op = prop_oneof![
        30 => (0..4_u8, 0..4_u8, 1..3_i64, prop::bool::weighted(0.9)).prop_map(|(channel, partition, skip, known_prev)| {
            Op::Record { channel, partition, skip, known_prev }
        }),
        1 => (0..4_u8, 0..4_u8).prop_map(|(partition, records)| Op::Lose { partition, records }),
        1 => Just(Op::Recreate),
        4 => (1..40_i64).prop_map(|ms| Op::Pass { ms }),
    ];
    let client = (0..4_u8, 0..=100_usize, 0..=100_usize, 0..=100_usize, prop::option::of(0..60_usize)).prop_map(
        |(channel, joined, left, back, place)| Client { channel, joined: joined.min(left), left, back, place },
    );
    let window = (0..30_u64, 1..200_i64, prop_oneof![Just(2_usize), Just(1_000)]);
    (1..4_u8, prop::collection::vec(op, 1..90), prop::collection::vec(client, 1..8), 0..60_usize, window).prop_map(
        |(partitions, ops, clients, start, (kept, age_ms, quiet))| Case {
            partitions,
            ops,
            clients,
            start,
            kept,
            age_ms,
            quiet,
        },
    )
}

/// An entry of the plain list.
#[derive(Clone, Debug)]
struct Logged {
    record: Arc<Record>,
    now_ms: i64,
    /// False: lost by the shard.
    applied: bool,
    /// Whether the shard has a loss in this partition just before this record.
    lost_before: bool,
}

fn name(channel: u8) -> String {
    format!("c{channel}")
}

fn record(channel: u8, at: Position, prev: Option<Position>) -> Arc<Record> {
    let draft = Draft { kind: "t", priority: 0, data: br#""data":1"# };
    Arc::new(Record::encode(name(channel).into(), at, prev, 0, draft))
}

/// The whole log. `prev` links are those of a source that starts at record `start`.
fn log(case: &Case) -> Vec<Logged> {
    let mut log: Vec<Logged> = Vec::new();
    let (mut epoch, mut next, mut now_ms) = (1, BTreeMap::<u8, i64>::new(), 0);
    let mut losing: BTreeMap<u8, (u8, bool)> = BTreeMap::new();
    let mut last: BTreeMap<(u8, u8), i64> = BTreeMap::new();
    for op in &case.ops {
        match *op {
            Op::Pass { ms } => now_ms += ms,
            Op::Recreate => {
                epoch += 1;
                (next, last, losing) = Default::default();
            }
            Op::Lose { partition, records } => {
                losing.insert(partition % case.partitions, (records, true));
            }
            Op::Record { channel, partition, skip, known_prev } => {
                let number = (if channel == 0 { partition } else { channel }) % case.partitions;
                let offset = next.get(&number).map_or(0, |last: &i64| *last + skip);
                next.insert(number, offset);
                let partition = Partition { epoch: Epoch(epoch), number: i32::from(number) };
                let (applied, lost_before) = match losing.get_mut(&number) {
                    Some((records, _)) if *records > 0 => {
                        *records -= 1;
                        (false, false)
                    }
                    Some((_, pending)) => (true, std::mem::take(pending)),
                    None => (true, false),
                };
                if lost_before {
                    last.retain(|(_, of), _| *of != number);
                }
                let prev = last.get(&(channel, number)).filter(|_| known_prev && applied);
                let prev = prev.map(|offset| Position { partition, offset: *offset });
                if applied {
                    last.insert((channel, number), offset);
                }
                let record = record(channel, Position { partition, offset }, prev);
                log.push(Logged { record, now_ms, applied, lost_before });
            }
        }
    }
    log
}

/// The shard: the log applied from `start` up to `at`, and the plain list that its window must equal.
struct Shard<'l> {
    log: &'l [Logged],
    window: Window,
    start: usize,
    at: usize,
    begun: BTreeMap<Partition, i64>,
    held: Vec<(Arc<Record>, i64)>,
    max_bytes: u64,
    age_ms: i64,
    partitions: i32,
}

impl<'l> Shard<'l> {
    fn new(case: &Case, log: &'l [Logged], start: usize) -> Self {
        let one = weight(&record(0, Position { partition: Partition { epoch: Epoch(1), number: 0 }, offset: 1 }, None));
        let max_bytes = one * case.kept;
        let mut window = Window::with_limits(Limits { age_ms: case.age_ms, bytes: max_bytes, quiet: case.quiet });
        window.apply(&Update::Filled, 0);
        Self {
            log,
            window,
            start,
            at: start,
            begun: BTreeMap::new(),
            held: Vec::new(),
            max_bytes,
            age_ms: case.age_ms,
            partitions: i32::from(case.partitions),
        }
    }

    /// Begins all partitions of a recreated topic.
    fn begin_recreated(&mut self, epoch: Epoch, now_ms: i64) {
        let recreated = !self.begun.is_empty();
        self.begun.clear();
        self.held.clear();
        for number in 0..self.partitions {
            let partition = Partition { epoch, number };
            let mut past = self.log[..self.start].iter().filter(|logged| logged.record.position.partition == partition);
            let from = past.next_back().map_or(0, |logged| logged.record.position.offset + 1);
            self.begin(partition, from, recreated, now_ms);
        }
    }

    fn begin(&mut self, partition: Partition, from: i64, lost: bool, now_ms: i64) {
        self.window.apply(&Update::Begin { partition, topic: "t".into(), from, lost }, now_ms);
        self.begun.insert(partition, from);
    }

    fn noticed(&self, lost: usize) -> bool {
        let of = self.log[lost].record.position.partition;
        self.log[lost..self.at].iter().any(|l| {
            l.record.position.partition.epoch != of.epoch || l.lost_before && l.record.position.partition == of
        })
    }

    fn step(&mut self) -> Option<Arc<Record>> {
        let Logged { record, now_ms, applied, lost_before } = &self.log[self.at];
        self.at += 1;
        if !applied {
            return None;
        }
        // The source that starts at `start` knows no earlier record.
        let mut record = Arc::clone(record);
        let known = |prev: Position| self.log[self.start..].iter().any(|logged| logged.record.position == prev);
        if record.prev.is_some_and(|prev| !known(prev)) {
            Arc::make_mut(&mut record).prev = None;
        }
        let Position { partition, offset } = record.position;
        if !self.begun.contains_key(&partition) {
            self.begin_recreated(partition.epoch, *now_ms);
        }
        if *lost_before {
            self.held.retain(|(held, _)| held.position.partition != partition);
            self.begin(partition, offset, true, *now_ms);
        }
        self.window.apply(&Update::Records(vec![Arc::clone(&record)]), *now_ms);
        self.held.push((Arc::clone(&record), *now_ms));
        let bytes = |held: &[(Arc<Record>, i64)]| held.iter().map(|(record, _)| weight(record)).sum::<u64>();
        while bytes(&self.held) > self.max_bytes || self.held.first().is_some_and(|(_, at)| now_ms - at > self.age_ms) {
            self.held.remove(0);
        }
        Some(record)
    }
}

/// The first positions that a client got from the shard where it joined.
fn place(case: &Case, log: &[Logged], joined: usize, start: usize, channel: &str) -> BTreeMap<Partition, i64> {
    let mut shard = Shard::new(case, log, start);
    while shard.at < joined {
        shard.step();
    }
    shard.window.latest_positions(channel).into_iter().map(|at| (at.partition, at.offset)).collect()
}

fn check(case: &Case, client: &Client) -> Result<(), TestCaseError> {
    let log = log(case);
    let at = |percent: usize| log.len() * percent / 100;
    let (joined, left, back) = (at(client.joined), at(client.left), at(client.back));
    let mut shard = Shard::new(case, &log, at(case.start));
    while shard.at < back {
        shard.step();
    }
    let channel = name(client.channel);
    let of_channel = |logged: &&Logged| *logged.record.channel == *channel;
    let mut seen = match client.place {
        Some(start) => place(case, &log, joined, joined * start / 100, &channel),
        None => BTreeMap::new(),
    };
    let received = log[joined..left].iter().filter(of_channel);
    seen.extend(received.map(|l| (l.record.position.partition, l.record.position.offset)));
    // A client knows only its newest position, so any later loss of the shard may concern it.
    let is_seen = |l: &Logged| seen.get(&l.record.position.partition) == Some(&l.record.position.offset);
    let told = log[..left].iter().rposition(is_seen).unwrap_or(0);
    let since: Vec<_> = seen.iter().map(|(&partition, &offset)| Position { partition, offset }).collect();
    let missed_at = |shard: &Shard<'_>| -> Vec<Position> {
        let owed = |(index, logged): &(usize, &Logged)| {
            let Position { partition, offset } = logged.record.position;
            // A loss that is not noticed yet will be reported as a gap.
            of_channel(logged)
                && (logged.applied || shard.noticed(*index))
                && seen.get(&partition).map_or(*index >= left, |seen| offset > *seen)
        };
        log[..shard.at].iter().enumerate().filter(owed).map(|(_, logged)| logged.record.position).collect()
    };

    let mut replay = loop {
        match shard.window.recover(&channel, &since) {
            Recovery::Complete(records) => break records,
            Recovery::Lost(reason) => {
                return justified(&shard, case, client, reason.as_str(), &since, &missed_at(&shard), told);
            }
            Recovery::Ahead(position) => {
                let reached = log[shard.start..shard.at].iter().any(|l| {
                    l.applied
                        && l.record.position.partition == position.partition
                        && l.record.position.offset >= position.offset
                });
                prop_assert!(!reached, "ahead of what is applied");
                if shard.at == log.len() {
                    return Ok(());
                }
                shard.step();
            }
        }
    };
    let owed = missed_at(&shard);
    let blind = |at: &Position| !seen.contains_key(&at.partition);
    // A documented limit: a partition that the client does not name and that the shard does not know to feed the
    // channel.
    let fed = |at: &Position| {
        log[shard.start..shard.at]
            .iter()
            .any(|l| l.applied && of_channel(&l) && l.record.position.partition == at.partition)
    };
    let forgot = case.quiet < 1_000 && lost_since(&shard, told);
    if owed.iter().any(|at| blind(at) && !replay.iter().any(|r| r.position == *at) && (forgot || !fed(at))) {
        return Ok(());
    }
    for position in &owed {
        prop_assert!(replay.iter().any(|r| r.position == *position), "hole at {position}");
    }
    for record in &replay {
        prop_assert_eq!(&*record.channel, &*channel);
        prop_assert!(owed.contains(&record.position) || blind(&record.position), "repeat of {}", record.position);
    }
    // The client joins: records that are applied from here on are delivered live.
    while shard.at < log.len() {
        replay.extend(shard.step().filter(|record| *record.channel == *channel));
    }
    let mut last = seen;
    for record in &replay {
        let Position { partition, offset } = record.position;
        if let Some(before) = last.insert(partition, offset) {
            prop_assert!(before < offset, "{before} then {offset}");
        }
    }
    Ok(())
}

/// Whether a record may be missing, according to the list.
fn justified(
    shard: &Shard<'_>,
    case: &Case,
    client: &Client,
    reason: &str,
    since: &[Position],
    owed: &[Position],
    told: usize,
) -> Result<(), TestCaseError> {
    let held = |at: &Position| shard.held.iter().any(|(record, _)| record.position == *at);
    let missing = owed.iter().any(|at| !held(at));
    let stranger = since.is_empty() || since.iter().any(|at| !shard.begun.contains_key(&at.partition));
    // A record that this shard applied, without a loss since, proves that every later record is known.
    let witnessed =
        |at: &Position| shard.begun.get(&at.partition).is_some_and(|begun| at.offset >= *begun) && applied(shard, at);
    let unproven = since.iter().any(|at| !witnessed(at));
    let forgets = case.quiet < 1_000;
    let several = client.channel == 0;
    prop_assert!(
        missing || stranger || unproven || forgets || (several && lost_since(shard, told)),
        "{reason}, but nothing is missing: since {since:?}, owed {owed:?}"
    );
    Ok(())
}

fn lost_since(shard: &Shard<'_>, told: usize) -> bool {
    shard.log[told.min(shard.at)..shard.at].iter().any(|logged| logged.lost_before)
}

fn applied(shard: &Shard<'_>, at: &Position) -> bool {
    shard.log[shard.start..shard.at].iter().any(|logged| logged.applied && logged.record.position == *at)
}

proptest! {
    #![proptest_config(Config {
        cases: 20_000, rng_seed: RngSeed::Fixed(0x5eed), failure_persistence: None, ..Config::default()
    })]

    #[test]
    fn agrees_with_a_plain_list(case in cases()) {
        for client in &case.clients {
            check(&case, client)?;
        }
    }
}
