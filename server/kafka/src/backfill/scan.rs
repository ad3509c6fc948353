//! One thread's share of the past: assigns partitions at an offset, looks at every record up to another, keeps what is asked
//! for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use wscluster_protocol::{Draft, Partition, Position, Record};

use super::super::encode::{Raw, Skip};
use super::super::security::TokenSource;
use super::super::{Context, Shared};
use super::{Found, Life, Limits, Missing, Reason, Request};

/// A consumer that goes back. See the module's documentation.
pub(super) struct Scanner {
    config: ClientConfig,
    tokens: Option<TokenSource>,
    shared: Arc<Shared>,
    limits: Limits,
    consumer: Option<BaseConsumer<Context>>,
    channel: String,
    data: Vec<u8>,
}

/// The part of a partition that is looked at.
struct Stretch {
    partition: Partition,
    life: Life,
    next: i64,
    until: i64,
}

/// Where each channel stood last, in each partition it was asked for.
type Wanted<'m> = HashMap<&'m str, HashMap<Partition, i64>>;

impl Scanner {
    pub(super) fn new(config: ClientConfig, tokens: Option<TokenSource>, shared: Arc<Shared>, limits: Limits) -> Self {
        Self { config, tokens, shared, limits, consumer: None, channel: String::new(), data: Vec::new() }
    }

    pub(super) fn serve(&mut self, request: Request) {
        let deadline = request.asked + self.limits.time;
        let result = self.find(&request.missing, deadline, &|| request.answer.is_closed());
        self.shared.metrics.past(result.as_ref().err().copied().unwrap_or("found"));
        if result.is_err() {
            // Whatever it was in the middle of is not to be met again.
            self.consumer = None;
        }
        let _ = request.answer.send(result);
    }

    fn find(&mut self, missing: &Missing, deadline: Instant, gone: &dyn Fn() -> bool) -> Result<Found, Reason> {
        let mut stretches = self.stretches(missing)?;
        let distance: i64 = stretches.iter().map(|stretch| (stretch.until - stretch.next).max(0)).sum();
        if distance > self.limits.records {
            return Err("too_far");
        }
        let mut wanted: Wanted<'_> = HashMap::new();
        for (channel, since) in &missing.since {
            for position in since {
                let last = wanted.entry(channel).or_default().entry(position.partition).or_insert(position.offset);
                *last = (*last).max(position.offset);
            }
        }
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self.config.create_with_context(Context::new(self.tokens.clone())).map_err(|_| "unavailable")?,
        };
        // Also those of which nothing is found: that is an answer too.
        let records = missing.since.keys().map(|channel| (channel.clone(), Vec::new())).collect();
        let mut found = Found { records, ..Found::default() };
        let scanned = self.scan(&consumer, &mut stretches, &mut wanted, &mut found, deadline, gone);
        let _ = consumer.assign(&TopicPartitionList::new());
        scanned?;
        // Only now is it known from which life librdkafka has read.
        for Stretch { life, .. } in &stretches {
            let read = consumer.context().id(&life.topic);
            if read.is_some() && life.id.is_some() && read != life.id {
                return Err("epoch");
            }
        }
        self.consumer = Some(consumer);
        found.until = stretches.into_iter().map(|stretch| (stretch.partition, stretch.until)).collect();
        Ok(found)
    }

    /// The stretches from the oldest position asked for, one a partition.
    fn stretches(&self, missing: &Missing) -> Result<Vec<Stretch>, Reason> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for Position { partition, offset } in missing.since.values().flatten() {
            let next = offset.saturating_add(1);
            if let Some(stretch) = stretches.iter_mut().find(|stretch| stretch.partition == *partition) {
                stretch.next = stretch.next.min(next);
                continue;
            }
            let life = self.shared.lives.get(partition.epoch).ok_or("epoch")?;
            let until = *missing.until.get(partition).ok_or("unknown_position")?;
            stretches.push(Stretch { partition: *partition, life, next, until });
        }
        Ok(stretches)
    }

    fn scan(
        &mut self,
        consumer: &BaseConsumer<Context>,
        stretches: &mut [Stretch],
        wanted: &mut Wanted<'_>,
        found: &mut Found,
        deadline: Instant,
        gone: &dyn Fn() -> bool,
    ) -> Result<(), Reason> {
        const TURN: Duration = Duration::from_millis(50);
        let mut list = TopicPartitionList::new();
        for Stretch { partition, life, next, .. } in stretches.iter().filter(|stretch| stretch.next < stretch.until) {
            let added = list.add_partition_offset(&life.topic, partition.number, Offset::Offset(*next));
            added.map_err(|_| "unknown_position")?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        consumer.assign(&list).map_err(|_| "unavailable")?;
        let mut bytes = 0;
        // When a broker last brought the scan forward.
        let mut heard = Instant::now();
        while stretches.iter().any(|stretch| stretch.next < stretch.until) {
            let now = Instant::now();
            if now >= deadline {
                return Err(if now - heard < self.limits.time / 4 { "timeout" } else { "unavailable" });
            }
            match consumer.poll(TURN) {
                Some(Ok(message)) => {
                    heard = now;
                    self.shared.metrics.past_records.inc();
                    bytes += self.take(&message, stretches, wanted, found);
                    if bytes > self.limits.bytes {
                        return Err("too_much");
                    }
                }
                Some(Err(error)) => {
                    let code = error.rdkafka_error_code();
                    // Retention has taken it. Any other error passes, or the time does.
                    if let Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) = code {
                        return Err("too_old");
                    }
                }
                None if gone() => return Err("gone"),
                // What is left may be no records: transaction markers, or what compaction took.
                None => skip(consumer, stretches),
            }
        }
        Ok(())
    }

    /// Keeps a record that was asked for; returns the bytes it costs.
    fn take(
        &mut self,
        message: &BorrowedMessage<'_>,
        stretches: &mut [Stretch],
        wanted: &mut Wanted<'_>,
        found: &mut Found,
    ) -> usize {
        let offset = message.offset();
        let mine = |stretch: &&mut Stretch| {
            stretch.partition.number == message.partition() && *stretch.life.topic == *message.topic()
        };
        let Some(stretch) = stretches.iter_mut().find(mine).filter(|stretch| offset >= stretch.next) else { return 0 };
        stretch.next = offset + 1;
        if offset >= stretch.until {
            return 0;
        }
        let mold = &*stretch.life.mold;
        let raw = Raw {
            key: message.key(),
            value: message.payload(),
            headers: message.headers(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        };
        if mold.channel(raw, &mut self.channel).is_err() {
            return 0;
        }
        let last = wanted.get_mut(self.channel.as_str()).and_then(|last| last.get_mut(&stretch.partition));
        let Some(last) = last.filter(|last| offset > **last) else {
            return 0;
        };
        let data = mold.data(raw, &mut self.data);
        if data == Err(Skip::Tombstone) {
            return 0;
        }
        // As live: clients see in the next one's `prev` that they did not get a record that cannot be sent.
        let prev = std::mem::replace(last, offset);
        if data.is_err() {
            return 0;
        }
        let at = |offset| Position { partition: stretch.partition, offset };
        let records = found.records.entry(self.channel.clone()).or_default();
        let name = records.last().map_or_else(|| self.channel.as_str().into(), |last| Arc::clone(&last.channel));
        let draft = Draft { kind: mold.kind(raw), priority: mold.priority(), data: &self.data };
        let record = Record::encode(name, at(offset), Some(at(prev)), mold.ts(raw), draft);
        let bytes = record.frame().len();
        records.push(Arc::new(record));
        bytes
    }
}

fn skip(consumer: &BaseConsumer<Context>, stretches: &mut [Stretch]) {
    let Ok(positions) = consumer.position() else { return };
    for stretch in stretches {
        let found = positions.find_partition(&stretch.life.topic, stretch.partition.number);
        if let Some(Offset::Offset(position)) = found.map(|element| element.offset()) {
            stretch.next = stretch.next.max(position);
        }
    }
}
