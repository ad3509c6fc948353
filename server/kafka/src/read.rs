//! The reader thread: polls records from librdkafka, encodes them, and sends them to every worker in order.
//!
//! Only this thread assigns and polls. All records that have arrived leave as one [`Update`], without waiting for
//! more. It keeps the next offset of every partition and reads no record twice. After a topic was recreated, it reads
//! nothing of the topic until the watch has assigned it anew.

mod filling;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::Sender;
use wscluster_protocol::{Draft, Partition, Position, Record};

use self::filling::Filling;
use super::assignment::{Assignment, PartitionStart};
use super::encode::{Raw, Skip, TopicMapping};
use super::names::Names;
use super::trouble::{Kind, Trouble};
use super::{Context, Shared};
use crate::feed::Update;

/// The reader of one source. See the module's documentation.
pub(super) struct Reader {
    consumer: Arc<BaseConsumer<Context>>,
    shared: Arc<Shared>,
    assignments: mpsc::Receiver<Assignment>,
    wake: mpsc::SyncSender<()>,
    workers: Vec<Sender<Update>>,
    /// Number of records in each of the last updates, as many as a feed can hold.
    sent: VecDeque<u64>,
    topics: HashMap<Arc<str>, Reading>,
    ids_version: u64,
    names: Names,
    batch: Vec<Arc<Record>>,
    batch_bytes: usize,
    /// Partitions whose history is not read yet; `None` before the first assignment.
    filling: Option<Vec<Filling>>,
    patience: Duration,
    assign: bool,
    channel: String,
    data: Vec<u8>,
}

/// A topic being read.
struct Reading {
    id: Option<String>,
    mapping: Arc<TopicMapping>,
    /// librdkafka reads another incarnation of the topic: its records are rejected until the watch has noticed.
    foreign: bool,
    /// Records were rejected: they must be read again.
    rejected: bool,
    /// By partition number.
    partitions: Vec<Option<PartitionProgress>>,
}

struct PartitionProgress {
    partition: Partition,
    begun: i64,
    next: Arc<AtomicI64>,
}

impl Reader {
    const IDLE: Duration = Duration::from_millis(100);
    const BATCH_RECORDS: usize = 1_000;
    const BATCH_BYTES: usize = 1 << 20;

    pub(super) fn new(
        consumer: Arc<BaseConsumer<Context>>,
        shared: Arc<Shared>,
        assignments: mpsc::Receiver<Assignment>,
        wake: mpsc::SyncSender<()>,
        workers: Vec<Sender<Update>>,
        patience: Duration,
    ) -> Self {
        Self {
            consumer,
            shared,
            assignments,
            wake,
            workers,
            sent: VecDeque::new(),
            topics: HashMap::new(),
            ids_version: 0,
            names: Names::new(Names::GENERATION),
            batch: Vec::new(),
            batch_bytes: 0,
            filling: None,
            patience,
            assign: false,
            channel: String::new(),
            data: Vec::new(),
        }
    }

    /// Runs until the source is dropped or every worker has ended.
    pub(super) fn run(mut self) {
        let consumer = Arc::clone(&self.consumer);
        while !self.shared.stopped() && !self.workers.is_empty() {
            while let Ok(assignment) = self.assignments.try_recv() {
                self.begin(assignment);
            }
            self.check_ids();
            if self.assign {
                self.assign();
            }
            let mut polled = consumer.poll(Self::IDLE);
            if polled.is_none() {
                self.skip_empty_offsets();
            }
            while let Some(result) = polled {
                // `poll` reports a new topic id before any record of the new topic.
                self.check_ids();
                match result {
                    Ok(message) => self.take(&message),
                    Err(error) => self.on_error(&error),
                }
                if self.batch.len() >= Self::BATCH_RECORDS || self.batch_bytes >= Self::BATCH_BYTES {
                    break;
                }
                polled = consumer.poll(Duration::ZERO);
            }
            self.flush();
            self.check_filled();
            self.count_pending();
        }
    }

    fn begin(&mut self, assignment: Assignment) {
        self.flush();
        if self.filling.is_none() {
            let unread = |start: &&PartitionStart| start.from < start.until;
            let filling = assignment.starts.iter().filter(unread);
            self.filling = Some(filling.map(Filling::new).collect());
        }
        for start in assignment.starts {
            let PartitionStart { topic, id, mapping, partition, from, lost, next, .. } = start;
            let other_incarnation = |reading: &Reading| {
                reading.partitions.iter().flatten().any(|progress| progress.partition.epoch != partition.epoch)
            };
            if self.topics.get(&topic).is_none_or(other_incarnation) {
                let reading = Reading { id, mapping, foreign: false, rejected: false, partitions: Vec::new() };
                self.topics.insert(Arc::clone(&topic), reading);
                self.ids_version = 0;
            }
            let Some(reading) = self.topics.get_mut(&topic) else { continue };
            let at = usize::try_from(partition.number).unwrap_or_default();
            if reading.partitions.len() <= at {
                reading.partitions.resize_with(at + 1, || None);
            }
            if let Some(filling) = &mut self.filling {
                // No records come from an incarnation that has ended.
                let ended = |one: &Filling| one.topic == topic && one.number == partition.number;
                filling.retain(|one| !ended(one) || Arc::ptr_eq(&one.next, &next));
            }
            next.store(from, Ordering::Relaxed);
            reading.partitions[at] = Some(PartitionProgress { partition, begun: from, next });
            if lost {
                self.shared.metrics.losses.inc();
            }
            self.send(&Update::Begin { partition, topic, from, lost });
        }
        self.assign = true;
    }

    /// Assigns every partition at its next offset. librdkafka drops and fetches again what it holds.
    fn assign(&mut self) {
        let mut list = TopicPartitionList::new();
        for (topic, reading) in &mut self.topics {
            reading.rejected = false;
            for progress in reading.partitions.iter().flatten() {
                let next = Offset::Offset(progress.next.load(Ordering::Relaxed));
                // Fails only for an offset below zero.
                let _ = list.add_partition_offset(topic, progress.partition.number, next);
            }
        }
        match self.consumer.assign(&list) {
            Ok(()) => self.assign = false,
            Err(error) => self.shared.troubles.report(&Trouble::Assign(error)),
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let Some(reading) = self.topics.get_mut(message.topic()) else { return };
        if reading.foreign {
            if !reading.rejected {
                reading.rejected = true;
                let _ = self.wake.try_send(());
            }
            return;
        }
        let at = usize::try_from(message.partition()).unwrap_or(usize::MAX);
        let Some(Some(progress)) = reading.partitions.get(at) else { return };
        let offset = message.offset();
        if reading.rejected || offset < progress.next.load(Ordering::Relaxed) {
            return;
        }
        progress.next.store(offset + 1, Ordering::Relaxed);

        let raw = Raw {
            key: message.key(),
            value: message.payload(),
            headers: message.headers(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        };
        let mapping = &*reading.mapping;
        if let Err(skip) = mapping.channel(raw, &mut self.channel) {
            return skipped(&self.shared, skip, message);
        }
        let position = Position { partition: progress.partition, offset };
        let data = mapping.data(raw, &mut self.data);
        if data == Err(Skip::Tombstone) {
            return skipped(&self.shared, Skip::Tombstone, message);
        }
        // Also for a record that cannot be sent: the next record's `prev` reveals that one is missing.
        let (channel, prev) = self.names.advance(&self.channel, position, progress.begun);
        if let Err(skip) = data {
            return skipped(&self.shared, skip, message);
        }
        let draft = Draft { kind: mapping.kind(raw), priority: mapping.priority(), data: &self.data };
        let mut record = Record::encode(channel, position, prev, mapping.ts(raw), draft);
        // Age is measured by Kafka's timestamp, even if the timestamp of the message comes from a header.
        record.timestamp_ms = raw.timestamp_ms;
        self.shared.metrics.bytes.inc_by(raw.value.map_or(0, <[u8]>::len) as u64);
        self.batch_bytes += record.frame().len();
        self.batch.push(Arc::new(record));
    }

    fn on_error(&self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        match code {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                self.shared.out_of_range.store(true, Ordering::Relaxed);
            }
            // The watch finds and reports the cause.
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::Authentication
                | Code::SSL,
            ) => {}
            // There is no group, so its coordinator does not matter.
            Some(
                Code::GroupAuthorizationFailed
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::CoordinatorLoadInProgress,
            ) => return,
            _ => {
                let reason = self.consumer.context().reason();
                self.shared.troubles.report(&Trouble::Fetch { error, reason: &reason });
            }
        }
        let _ = self.wake.try_send(());
    }

    /// Notices topics of which librdkafka reads another incarnation.
    fn check_ids(&mut self) {
        let context = self.consumer.context();
        let version = context.ids_version();
        if version == self.ids_version {
            return;
        }
        self.ids_version = version;
        for (topic, reading) in &mut self.topics {
            let Some(ours) = &reading.id else { continue };
            reading.foreign = context.id(topic).is_some_and(|theirs| theirs != *ours);
            self.assign |= reading.rejected && !reading.foreign;
        }
    }

    /// Advances over offsets that hold no record: transaction markers, and records of aborted transactions.
    fn skip_empty_offsets(&self) {
        let Ok(positions) = self.consumer.position() else { return };
        for element in positions.elements() {
            let Some(reading) = self.topics.get(element.topic()).filter(|r| !r.foreign && !r.rejected) else {
                continue;
            };
            let at = usize::try_from(element.partition()).unwrap_or(usize::MAX);
            if let (Some(Some(progress)), Offset::Offset(position)) = (reading.partitions.get(at), element.offset()) {
                progress.next.fetch_max(position, Ordering::Relaxed);
            }
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.shared.metrics.records.inc_by(self.batch.len() as u64);
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.send(&Update::Records(batch));
    }

    fn check_filled(&mut self) {
        let Some(filling) = &mut self.filling else { return };
        let is_filled = self.shared.filled.load(Ordering::Relaxed);
        if is_filled && filling.is_empty() {
            return;
        }
        let before = filling.len();
        filling.retain(|partition| partition.next.load(Ordering::Relaxed) < partition.until);
        if !is_filled {
            let (now, answers) = (Instant::now(), self.shared.reachable.load(Ordering::Relaxed));
            let waits = |partition: &mut Filling| partition.waits(now, answers, self.patience);
            // No short circuit: each call updates the time of its partition.
            if filling.iter_mut().map(waits).fold(false, |any, waits| any | waits) {
                return;
            }
        } else if filling.len() == before {
            return;
        }
        // Unread records may still arrive. Clients with later positions wait, and learn at their deadline that they
        // are missing.
        self.report_unread();
        if !self.shared.filled.swap(true, Ordering::Relaxed) {
            self.send(&Update::Filled);
        }
    }

    fn report_unread(&self) {
        let unread = self.filling.as_deref().unwrap_or_default();
        let Some(first) = unread.first() else { return self.shared.troubles.clear(&Kind::Unread) };
        let Filling { topic, number, .. } = first;
        self.shared.troubles.report(&Trouble::Unread { topic, partition: *number, others: unread.len() - 1 });
    }

    fn send(&mut self, update: &Update) {
        use tokio::sync::mpsc::error::TrySendError;
        let records = if let Update::Records(records) = update { records.len() } else { 0 };
        self.sent.push_back(records as u64);
        self.count_pending();
        let metrics = &self.shared.metrics;
        self.workers.retain(|worker| match worker.try_send(update.clone()) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(update)) => {
                let since = Instant::now();
                let sent = worker.blocking_send(update).is_ok();
                metrics.blocked_seconds.inc_by(since.elapsed().as_secs_f64());
                sent
            }
        });
    }

    /// Counts the records that wait for the slowest worker; without them, a shard with full feeds would report no lag.
    fn count_pending(&mut self) {
        let room = self.workers.iter().map(Sender::max_capacity).max().unwrap_or(0);
        let waiting = self.workers.iter().map(|worker| worker.max_capacity() - worker.capacity()).max().unwrap_or(0);
        self.sent.drain(..self.sent.len().saturating_sub(room));
        let pending = self.sent.iter().rev().take(waiting).sum();
        self.shared.pending.store(pending, Ordering::Relaxed);
    }
}

/// Counts and reports a skipped record.
fn skipped(shared: &Shared, skip: Skip, message: &BorrowedMessage<'_>) {
    shared.metrics.skipped(skip);
    if let Some(complaint) = skip.complaint() {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        shared.troubles.report(&Trouble::Skipped { skip, complaint, topic, partition, offset });
    }
}
