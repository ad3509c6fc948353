//! One thread of the backfill: reads partitions between two offsets and keeps the requested records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use wscluster_protocol::{Draft, LostReason, Partition, Position, Record};

use super::super::encode::{Raw, Skip};
use super::super::security::TokenSource;
use super::super::{Context, Shared};
use super::{BackfillRecords, BackfillRequest, Incarnation, Job, Limits};

/// A consumer that reads older records. See the module's documentation.
pub(super) struct Scanner {
    config: ClientConfig,
    tokens: Option<TokenSource>,
    shared: Arc<Shared>,
    limits: Limits,
    consumer: Option<BaseConsumer<Context>>,
    channel: String,
    data: Vec<u8>,
}

/// The offsets of a partition that are to be read.
struct Stretch {
    partition: Partition,
    incarnation: Incarnation,
    next: i64,
    until: i64,
}

/// The last offset of each requested channel in each partition; grows while records are found.
type Wanted<'m> = HashMap<&'m str, HashMap<Partition, i64>>;

impl Scanner {
    pub(super) fn new(config: ClientConfig, tokens: Option<TokenSource>, shared: Arc<Shared>, limits: Limits) -> Self {
        Self { config, tokens, shared, limits, consumer: None, channel: String::new(), data: Vec::new() }
    }

    pub(super) fn serve(&mut self, job: Job) {
        let deadline = job.requested + self.limits.time;
        let result = self.find(&job.request, deadline, &|| job.answer.is_closed());
        self.shared.metrics.backfill(result.as_ref().err().map_or("found", |reason| reason.as_str()));
        if result.is_err() {
            // A new consumer has no fetches of this request under way.
            self.consumer = None;
        }
        let _ = job.answer.send(result);
    }

    fn find(
        &mut self,
        request: &BackfillRequest,
        deadline: Instant,
        gone: &dyn Fn() -> bool,
    ) -> Result<BackfillRecords, LostReason> {
        let mut stretches = self.stretches(request)?;
        let distance: i64 = stretches.iter().map(|stretch| (stretch.until - stretch.next).max(0)).sum();
        if distance > self.limits.records {
            return Err(LostReason::TooFar);
        }
        let mut wanted: Wanted<'_> = HashMap::new();
        for (channel, since) in &request.since {
            for position in since {
                let last = wanted.entry(channel).or_default().entry(position.partition).or_insert(position.offset);
                *last = (*last).max(position.offset);
            }
        }
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self
                .config
                .create_with_context(Context::new(self.tokens.clone()))
                .map_err(|_| LostReason::Unavailable)?,
        };
        // Every requested channel has an entry, also one without records.
        let records = request.since.keys().map(|channel| (channel.clone(), Vec::new())).collect();
        let mut found = BackfillRecords { records, ..BackfillRecords::default() };
        let scanned = self.scan(&consumer, &mut stretches, &mut wanted, &mut found, deadline, gone);
        let _ = consumer.assign(&TopicPartitionList::new());
        scanned?;
        // Only after reading is it known from which incarnation librdkafka has read.
        for Stretch { incarnation, .. } in &stretches {
            let read = consumer.context().id(&incarnation.topic);
            if read.is_some() && incarnation.id.is_some() && read != incarnation.id {
                return Err(LostReason::Epoch);
            }
        }
        self.consumer = Some(consumer);
        found.until = stretches.into_iter().map(|stretch| (stretch.partition, stretch.until)).collect();
        Ok(found)
    }

    /// One stretch for each partition, from the oldest requested position.
    fn stretches(&self, request: &BackfillRequest) -> Result<Vec<Stretch>, LostReason> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for Position { partition, offset } in request.since.values().flatten() {
            let next = offset.saturating_add(1);
            if let Some(stretch) = stretches.iter_mut().find(|stretch| stretch.partition == *partition) {
                stretch.next = stretch.next.min(next);
                continue;
            }
            let incarnation = self.shared.incarnations.get(partition.epoch).ok_or(LostReason::Epoch)?;
            let until = *request.until.get(partition).ok_or(LostReason::UnknownPosition)?;
            stretches.push(Stretch { partition: *partition, incarnation, next, until });
        }
        Ok(stretches)
    }

    fn scan(
        &mut self,
        consumer: &BaseConsumer<Context>,
        stretches: &mut [Stretch],
        wanted: &mut Wanted<'_>,
        found: &mut BackfillRecords,
        deadline: Instant,
        gone: &dyn Fn() -> bool,
    ) -> Result<(), LostReason> {
        const TURN: Duration = Duration::from_millis(50);
        let mut list = TopicPartitionList::new();
        for Stretch { partition, incarnation, next, .. } in
            stretches.iter().filter(|stretch| stretch.next < stretch.until)
        {
            let added = list.add_partition_offset(&incarnation.topic, partition.number, Offset::Offset(*next));
            added.map_err(|_| LostReason::UnknownPosition)?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        consumer.assign(&list).map_err(|_| LostReason::Unavailable)?;
        let mut bytes = 0;
        let mut last_record = Instant::now();
        while stretches.iter().any(|stretch| stretch.next < stretch.until) {
            let now = Instant::now();
            if now >= deadline {
                return Err(if now - last_record < self.limits.time / 4 {
                    LostReason::Timeout
                } else {
                    LostReason::Unavailable
                });
            }
            match consumer.poll(TURN) {
                Some(Ok(message)) => {
                    last_record = now;
                    self.shared.metrics.backfill_records.inc();
                    bytes += self.take(&message, stretches, wanted, found);
                    if bytes > self.limits.bytes {
                        return Err(LostReason::TooMuch);
                    }
                }
                Some(Err(error)) => {
                    let code = error.rdkafka_error_code();
                    // Retention has deleted the record. Other errors pass, or the deadline does.
                    if let Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) = code {
                        return Err(LostReason::TooOld);
                    }
                }
                None if gone() => return Err(LostReason::Gone),
                // The remaining offsets may hold no records: transaction markers, or records that compaction removed.
                None => skip(consumer, stretches),
            }
        }
        Ok(())
    }

    /// Keeps a requested record; returns the bytes of its frame.
    fn take(
        &mut self,
        message: &BorrowedMessage<'_>,
        stretches: &mut [Stretch],
        wanted: &mut Wanted<'_>,
        found: &mut BackfillRecords,
    ) -> usize {
        let offset = message.offset();
        let mine = |stretch: &&mut Stretch| {
            stretch.partition.number == message.partition() && *stretch.incarnation.topic == *message.topic()
        };
        let Some(stretch) = stretches.iter_mut().find(mine).filter(|stretch| offset >= stretch.next) else { return 0 };
        stretch.next = offset + 1;
        if offset >= stretch.until {
            return 0;
        }
        let mapping = &*stretch.incarnation.mapping;
        let raw = Raw {
            key: message.key(),
            value: message.payload(),
            headers: message.headers(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        };
        if mapping.channel(raw, &mut self.channel).is_err() {
            return 0;
        }
        let last = wanted.get_mut(self.channel.as_str()).and_then(|last| last.get_mut(&stretch.partition));
        let Some(last) = last.filter(|last| offset > **last) else {
            return 0;
        };
        let data = mapping.data(raw, &mut self.data);
        if data == Err(Skip::Tombstone) {
            return 0;
        }
        // As in live delivery, the next record's `prev` reveals a record that cannot be sent.
        let prev = std::mem::replace(last, offset);
        if data.is_err() {
            return 0;
        }
        let at = |offset| Position { partition: stretch.partition, offset };
        let records = found.records.entry(self.channel.clone()).or_default();
        let name = records.last().map_or_else(|| self.channel.as_str().into(), |last| Arc::clone(&last.channel));
        let draft = Draft { kind: mapping.kind(raw), priority: mapping.priority(), data: &self.data };
        let record = Record::encode(name, at(offset), Some(at(prev)), mapping.ts(raw), draft);
        let bytes = record.frame().len();
        records.push(Arc::new(record));
        bytes
    }
}

fn skip(consumer: &BaseConsumer<Context>, stretches: &mut [Stretch]) {
    let Ok(positions) = consumer.position() else { return };
    for stretch in stretches {
        let found = positions.find_partition(&stretch.incarnation.topic, stretch.partition.number);
        if let Some(Offset::Offset(position)) = found.map(|element| element.offset()) {
            stretch.next = stretch.next.max(position);
        }
    }
}
