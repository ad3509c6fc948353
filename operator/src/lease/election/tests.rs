//! The election by example, and with many candidates and a lossy network in virtual time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const TERM: Duration = Duration::from_secs(15);

fn at(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn record(version: u64, holder: Option<&str>) -> Record {
    Record { version: version.to_string(), holder: holder.map(str::to_owned), term: TERM, transitions: 1 }
}

#[test]
fn takes_a_lease_that_does_not_exist_or_was_released() {
    let mut election = Election::new("a", TERM);
    assert_eq!(election.next(at(0)), Next::Read);
    election.read(None, at(0));
    assert_eq!(election.next(at(0)), Next::Create);
    election.read(Some(record(1, None)), at(1));
    assert_eq!(election.next(at(1)), Next::Claim(record(1, None)));
}

#[test]
fn waits_for_the_whole_term_of_another_holder_since_it_read_the_lease() {
    let mut election = Election::new("a", TERM);
    election.read(Some(record(1, Some("b"))), at(100));
    assert_eq!(election.next(at(114)), Next::Wait);
    election.read(Some(record(1, Some("b"))), at(114));
    assert_eq!(election.next(at(115)), Next::Claim(record(1, Some("b"))));
    election.read(Some(record(2, Some("b"))), at(115));
    assert_eq!(election.next(at(129)), Next::Wait, "it was renewed");
}

#[test]
fn holds_for_less_than_the_term_since_it_sent_the_write() {
    let mut election = Election::new("a", TERM);
    election.read(None, at(0));
    election.written(record(1, Some("a")), at(2));
    assert_eq!(election.until(), Some(at(2) + Duration::from_millis(13_500)));
    assert_eq!(election.next(at(3)), Next::Renew(record(1, Some("a"))));
    election.unsure();
    assert_eq!(election.until(), Some(at(2) + Duration::from_millis(13_500)), "a failed renewal takes nothing away");
    election.read(Some(record(2, Some("b"))), at(4));
    assert_eq!(election.until(), None, "another process holds it");
}

#[test]
fn a_read_that_shows_its_own_name_extends_nothing() {
    let mut election = Election::new("a", TERM);
    election.read(Some(record(7, Some("a"))), at(4));
    assert_eq!(election.until(), None);
    assert_eq!(election.next(at(4)), Next::Renew(record(7, Some("a"))));
}

/// The conditions of one request of a candidate.
#[derive(Clone, Debug)]
struct Call {
    who: usize,
    /// Milliseconds before the request is sent.
    pause: u64,
    /// Milliseconds to the API server, and back.
    there: u64,
    back: u64,
    request_lost: bool,
    answer_lost: bool,
    gives_up: bool,
}

fn call() -> impl Strategy<Value = Call> {
    let odds = (prop::bool::weighted(0.1), prop::bool::weighted(0.15), prop::bool::weighted(0.03));
    (0..3_usize, 0..9_000_u64, 0..6_000_u64, 0..6_000_u64, odds).prop_map(|(who, pause, there, back, odds)| Call {
        who,
        pause,
        there,
        back,
        request_lost: odds.0,
        answer_lost: odds.1,
        gives_up: odds.2,
    })
}

/// Timeout of a request, in milliseconds.
const PATIENCE: u64 = 5_000;

/// An event at a point in real time: a request arrives, an answer arrives, or a candidate sends a request.
#[derive(Debug)]
enum Event {
    Ask(usize),
    Arrive { who: usize, next: Next, sent: u64, back: Option<u64> },
    Answer { who: usize, result: Option<Answer>, sent: u64 },
}

#[derive(Debug)]
enum Answer {
    Read(Option<Record>),
    Written(Record),
    Refused,
}

struct World {
    elections: Vec<Election>,
    calls: Vec<Vec<Call>>,
    stored: Option<Record>,
    version: u64,
    queue: BTreeMap<(u64, u64), Event>,
    count: u64,
}

impl World {
    fn new(calls: Vec<Call>) -> Self {
        let elections = ["a", "b", "c"].map(|me| Election::new(me, TERM)).into();
        let mut by_candidate = vec![Vec::new(); 3];
        calls.into_iter().rev().for_each(|call| by_candidate[call.who].push(call));
        let mut world =
            Self { elections, calls: by_candidate, stored: None, version: 0, queue: BTreeMap::new(), count: 0 };
        (0..3).for_each(|who| world.push(0, Event::Ask(who)));
        world
    }

    fn push(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.queue.insert((at, self.count), event);
    }

    /// The clocks of the candidates differ.
    fn clock(who: usize, now: u64) -> Moment {
        Duration::from_millis(now + 1_000_000 * who as u64)
    }

    fn serve(&mut self, who: usize, next: &Next) -> Answer {
        let me = Some(self.elections[who].me().to_owned());
        let expected = match next {
            Next::Read | Next::Wait => return Answer::Read(self.stored.clone()),
            Next::Create if self.stored.is_some() => return Answer::Refused,
            Next::Create => None,
            Next::Claim(known) | Next::Renew(known) => Some(known.version.clone()),
        };
        if self.stored.as_ref().map(|s| s.version.clone()) != expected {
            return Answer::Refused;
        }
        self.version += 1;
        let written = Record { version: self.version.to_string(), holder: me, term: TERM, transitions: 0 };
        self.stored = Some(written.clone());
        Answer::Written(written)
    }

    fn step(&mut self, now: u64, event: Event) {
        match event {
            Event::Ask(who) => {
                let Some(call) = self.calls[who].pop() else { return };
                let election = &mut self.elections[who];
                if call.gives_up && election.until().is_some() {
                    election.stop();
                    // The holder stops before it releases the lease.
                    if let Some(stored) = &mut self.stored
                        && stored.holder.as_deref() == Some(election.me())
                    {
                        self.version += 1;
                        *stored = Record { version: self.version.to_string(), holder: None, ..stored.clone() };
                    }
                    election.unsure();
                }
                let next = election.next(Self::clock(who, now));
                // A late answer counts as lost, although the write may be done, even after the next one was sent.
                let fails = call.request_lost || call.answer_lost || call.there + call.back > PATIENCE;
                if fails {
                    self.push(now + PATIENCE, Event::Answer { who, result: None, sent: now });
                }
                if !call.request_lost {
                    let back = (!fails).then_some(call.back);
                    self.push(now + call.there, Event::Arrive { who, next, sent: now, back });
                }
            }
            Event::Arrive { who, next, sent, back } => {
                let result = Some(self.serve(who, &next));
                if let Some(back) = back {
                    self.push(now + back, Event::Answer { who, result, sent });
                }
            }
            Event::Answer { who, result, sent } => {
                let election = &mut self.elections[who];
                match result {
                    Some(Answer::Read(record)) => election.read(record, Self::clock(who, now)),
                    Some(Answer::Written(record)) => election.written(record, Self::clock(who, sent)),
                    Some(Answer::Refused) | None => election.unsure(),
                }
                let pause = self.calls[who].last().map_or(0, |call| call.pause);
                self.push(now + pause, Event::Ask(who));
            }
        }
    }

    fn holders(&self, now: u64) -> Vec<usize> {
        let holds = |who: &usize| self.elections[*who].until().is_some_and(|until| Self::clock(*who, now) < until);
        (0..self.elections.len()).filter(holds).collect()
    }
}

proptest! {
    #[test]
    fn never_two_may_write(calls in prop::collection::vec(call(), 1..400)) {
        let mut world = World::new(calls);
        while let Some(((now, _), event)) = world.queue.pop_first() {
            world.step(now, event);
            let holders = world.holders(now);
            prop_assert!(holders.len() <= 1, "at {now} ms: {holders:?}");
        }
    }

    #[test]
    fn one_of_them_gets_it_when_calls_get_through(pauses in prop::collection::vec((0..3_usize, 0..5_000_u64), 60..90)) {
        let quick = |(who, pause)| Call {
            who, pause, there: 5, back: 5, request_lost: false, answer_lost: false, gives_up: false,
        };
        let mut world = World::new(pauses.into_iter().map(quick).collect());
        let mut held = false;
        while let Some(((now, _), event)) = world.queue.pop_first() {
            world.step(now, event);
            held |= !world.holders(now).is_empty();
        }
        prop_assert!(held);
    }
}
