//! Counters of a worker. They can be merged across threads and, as JSON, across processes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit::Verdict;
use super::failure::Failure;
use super::latency::Latency;

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub(super) struct $name { $($(#[$field_doc])* pub(super) $field: u64,)* }

        impl $name {
            /// Adds `other`.
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counters! {
    /// Clients and their connections.
    Counts {
        /// Clients that were started.
        started,
        /// Clients whose first connection has settled or failed for good.
        resolved,
        /// TCP connections attempted.
        attempts,
        /// Valid 101 answers.
        opened,
        /// Connections that lasted for the settle time.
        settled,
        /// Clients that settled at least once.
        connected,
        /// Clients that never settled, or lost their connection and gave up.
        failed,
        /// Failed attempts, also counted by name.
        failed_attempts,
        /// Attempts after a failed attempt or a lost connection.
        retries,
        /// Settled connections that were lost.
        dropped,
        /// Lost clients that settled again.
        reconnected,
        /// Clients replaced by `--churn`.
        churned,
        /// Connections cut by a storm.
        stormed,
        /// Open connections.
        live,
    }
}

counters! {
    /// Messages sent and received.
    Messages {
        /// Text and binary messages received.
        received,
        /// Bytes received after the 101, frames included.
        received_bytes,
        /// Kafka records received.
        deliveries,
        /// Records that a recovery sent.
        replayed,
        /// Heartbeats or echo messages sent.
        sent,
        /// Answers to them.
        replies,
        /// Pings answered.
        pings,
        /// Error messages.
        errors,
    }
}

counters! {
    /// The audit by positions alone.
    Chain {
        /// Deliveries whose predecessor was received.
        in_order,
        /// Deliveries after a hole that the server did not announce.
        gaps,
        /// Deliveries after a hole that the server announced.
        declared_gaps,
        /// Deliveries without a predecessor.
        unlinked,
        /// Deliveries with an impossible predecessor.
        wrong_links,
        /// Deliveries received twice.
        duplicated,
        /// Deliveries received after a later one.
        reordered,
        /// Deliveries of channels not subscribed to.
        misrouted,
        /// Channels resumed with `recovered: true`.
        recovered,
        /// Channels resumed with `recovered: false`.
        unrecovered,
        /// `gap` messages.
        server_gaps,
    }
}

/// Latencies of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Latencies {
    /// Planned instant to the TCP connection.
    pub(super) connect: Latency,
    /// Planned instant to the first byte of the answer.
    pub(super) first_byte: Latency,
    /// Planned instant to a valid 101.
    pub(super) upgrade: Latency,
    /// 101 to the first message.
    pub(super) first_message: Latency,
    /// Lost connection to the next settled connection, without the settle time.
    pub(super) reconnect: Latency,
    /// Heartbeat or echo message to its answer.
    pub(super) reply: Latency,
    /// Published to received.
    pub(super) delivery: Latency,
    /// Planned instant to actual start: the delay of this tester.
    pub(super) late: Latency,
}

/// All that one worker, one process or one run counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stats {
    /// Connections.
    pub(super) counts: Counts,
    /// Messages.
    pub(super) messages: Messages,
    /// Audit.
    pub(super) chain: Chain,
    /// Slow clients: connections opened, and closed by the server.
    pub(super) slow_opened: u64,
    /// Slow clients closed by the server, by name.
    pub(super) slow_ends: BTreeMap<String, u64>,
    /// Failed attempts by name.
    pub(super) failures: BTreeMap<String, u64>,
    /// Lost connections by name.
    pub(super) drops: BTreeMap<String, u64>,
    /// Error messages by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// Latencies.
    pub(super) latencies: Latencies,
    /// Delivery latencies are from Kafka's millisecond timestamps.
    pub(super) coarse: bool,
}

/// More names than these are counted as `other`: a peer must not fill memory by inventing reasons.
const MAX_NAMES: usize = 64;

/// Counts `name` in `map`.
pub(super) fn count(map: &mut BTreeMap<String, u64>, name: String) {
    let name = if map.len() < MAX_NAMES || map.contains_key(&name) { name } else { "other".to_owned() };
    *map.entry(name).or_default() += 1;
}

impl Stats {
    /// Counts a failed attempt.
    pub(super) fn failure(&mut self, failure: &Failure) {
        self.counts.failed_attempts += 1;
        count(&mut self.failures, failure.to_string());
    }

    /// Counts a lost connection.
    pub(super) fn drop_of(&mut self, failure: &Failure) {
        self.counts.dropped += 1;
        count(&mut self.drops, failure.to_string());
    }

    /// Counts a delivery's verdict.
    pub(super) fn verdict(&mut self, verdict: Verdict) {
        let chain = &mut self.chain;
        match verdict {
            Verdict::InOrder => chain.in_order += 1,
            Verdict::Gap => chain.gaps += 1,
            Verdict::DeclaredGap => chain.declared_gaps += 1,
            Verdict::Unlinked => chain.unlinked += 1,
            Verdict::WrongLink => chain.wrong_links += 1,
            Verdict::Reordered => chain.reordered += 1,
            Verdict::Duplicate => chain.duplicated += 1,
        }
    }

    /// Adds `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.messages.add(&other.messages);
        self.chain.add(&other.chain);
        self.slow_opened += other.slow_opened;
        self.coarse |= other.coarse;
        let maps = [
            (&mut self.slow_ends, &other.slow_ends),
            (&mut self.failures, &other.failures),
            (&mut self.drops, &other.drops),
            (&mut self.errors, &other.errors),
        ];
        for (into, from) in maps {
            for (name, n) in from {
                *into.entry(name.clone()).or_default() += n;
            }
        }
        let (a, b) = (&mut self.latencies, &other.latencies);
        a.connect.merge(&b.connect);
        a.first_byte.merge(&b.first_byte);
        a.upgrade.merge(&b.upgrade);
        a.first_message.merge(&b.first_message);
        a.reconnect.merge(&b.reconnect);
        a.reply.merge(&b.reply);
        a.delivery.merge(&b.delivery);
        a.late.merge(&b.late);
    }
}

/// The share of a CPU a thread used, and waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ThreadTime {
    /// Time on a CPU.
    pub(super) busy: Duration,
    /// Time ready to run while others held the CPU.
    pub(super) waiting: Duration,
}

impl ThreadTime {
    /// Of the calling thread since it began; `None` if the kernel does not provide it.
    pub(super) fn of_this_thread() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut fields = text.split_whitespace().map(|field| field.parse().map(Duration::from_nanos));
        Some(Self { busy: fields.next()?.ok()?, waiting: fields.next()?.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_every_part_over_the_wire() {
        let mut one = Stats { slow_opened: 1, ..Stats::default() };
        one.failure(&Failure::Refused);
        one.drop_of(&Failure::BadAcceptKey);
        one.verdict(Verdict::Gap);
        one.messages.deliveries = 3;
        one.latencies.delivery.record(Duration::from_millis(5));
        count(&mut one.errors, "x".to_owned());
        count(&mut one.slow_ends, "close_4100_in_hold".to_owned());
        let mut sum = one.clone();
        sum.merge(&serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap());
        assert_eq!((sum.counts.failed_attempts, sum.counts.dropped, sum.chain.gaps), (2, 2, 2));
        assert_eq!((sum.failures["refused"], sum.drops["bad_accept_key"], sum.errors["x"]), (2, 2, 2));
        assert_eq!((sum.messages.deliveries, sum.slow_opened, sum.slow_ends["close_4100_in_hold"]), (6, 2, 2));
        assert_eq!(sum.latencies.delivery.summary().count, 2);
    }

    #[test]
    fn bounds_the_names_a_peer_can_invent() {
        let mut map = BTreeMap::new();
        (0..1_000).for_each(|i| count(&mut map, format!("http_{i}")));
        assert_eq!(map.len(), MAX_NAMES + 1);
        assert_eq!(map["other"], 1_000 - MAX_NAMES as u64);
    }

    #[test]
    fn knows_the_time_of_a_thread() {
        let before = ThreadTime::of_this_thread().unwrap();
        let mut x = 0_u64;
        let after = loop {
            (0..100_000_u64).for_each(|i| x = std::hint::black_box(x ^ i));
            let now = ThreadTime::of_this_thread().unwrap();
            if now.busy > before.busy {
                break now;
            }
        };
        assert!(after.busy < Duration::from_mins(1));
    }
}
