//! The reader: takes records from librdkafka, turns them into messages, and hands them to every worker in order.
//!
//! One thread, the only one that assigns and polls. Whatever has arrived goes out as one [`Update`], without waiting for
//! more. It keeps the next offset of every partition itself and reads nothing twice; it never goes on in a topic that was
//! recreated until the watch has said so.

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
use super::assignment::{Order, Start};
use super::encode::{Mold, Raw, Skip};
use super::metrics::Reason;
use super::names::Names;
use super::trouble::Kind;
use super::{Context, Shared};
use crate::feed::Update;

/// The reader of one source. See the module's documentation.
pub(super) struct Reader {
    consumer: Arc<BaseConsumer<Context>>,
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    wake: mpsc::SyncSender<()>,
    workers: Vec<Sender<Update>>,
    /// Records of the updates handed over last, as many as may wait.
    sent: VecDeque<u64>,
    topics: HashMap<Arc<str>, Reading>,
    ids_version: u64,
    names: Names,
    batch: Vec<Arc<Record>>,
    batch_bytes: usize,
    /// Partitions whose history is not read yet; none before the first order.
    filling: Option<Vec<Filling>>,
    patience: Duration,
    assign: bool,
    channel: String,
    data: Vec<u8>,
}

/// A topic being read.
struct Reading {
    id: Option<String>,
    mold: Arc<Mold>,
    /// librdkafka reads another life of it than we do: nothing counts until the watch has seen it.
    foreign: bool,
    /// Records were turned down meanwhile: they are to be read again.
    turned_down: bool,
    /// By partition number.
    tracks: Vec<Option<Track>>,
}

struct Track {
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
        orders: mpsc::Receiver<Order>,
        wake: mpsc::SyncSender<()>,
        workers: Vec<Sender<Update>>,
        patience: Duration,
    ) -> Self {
        Self {
            consumer,
            shared,
            orders,
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

    /// Until the source is dropped or no worker listens any more.
    pub(super) fn run(mut self) {
        let consumer = Arc::clone(&self.consumer);
        while !self.shared.stopped() && !self.workers.is_empty() {
            while let Ok(order) = self.orders.try_recv() {
                self.begin(order);
            }
            self.check_ids();
            if self.assign {
                self.assign();
            }
            let mut polled = consumer.poll(Self::IDLE);
            if polled.is_none() {
                self.skip_what_is_not_there();
            }
            while let Some(result) = polled {
                // Ids come before the records they belong to, and `poll` has just handed them over.
                self.check_ids();
                match result {
                    Ok(message) => self.take(&message),
                    Err(error) => self.stumble(&error),
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

    fn begin(&mut self, order: Order) {
        self.flush();
        if self.filling.is_none() {
            let unread = |start: &&Start| start.from < start.until;
            let filling = order.starts.iter().filter(unread);
            self.filling = Some(filling.map(Filling::new).collect());
        }
        for start in order.starts {
            let Start { topic, id, mold, partition, from, lost, next, .. } = start;
            let other_life = |reading: &Reading| {
                reading.tracks.iter().flatten().any(|track| track.partition.epoch != partition.epoch)
            };
            if self.topics.get(&topic).is_none_or(other_life) {
                let reading = Reading { id, mold, foreign: false, turned_down: false, tracks: Vec::new() };
                self.topics.insert(Arc::clone(&topic), reading);
                self.ids_version = 0;
            }
            let Some(reading) = self.topics.get_mut(&topic) else { continue };
            let at = usize::try_from(partition.number).unwrap_or_default();
            if reading.tracks.len() <= at {
                reading.tracks.resize_with(at + 1, || None);
            }
            if let Some(filling) = &mut self.filling {
                // Of a life that is over nothing comes.
                let ended = |one: &Filling| one.topic == topic && one.number == partition.number;
                filling.retain(|one| !ended(one) || Arc::ptr_eq(&one.next, &next));
            }
            next.store(from, Ordering::Relaxed);
            reading.tracks[at] = Some(Track { partition, begun: from, next });
            if lost {
                self.shared.metrics.losses.inc();
            }
            self.tell(&Update::Begin { partition, topic, from, lost });
        }
        self.assign = true;
    }

    /// Reads on everywhere at the next offset; what librdkafka holds already is given up and fetched again.
    fn assign(&mut self) {
        let mut list = TopicPartitionList::new();
        for (topic, reading) in &mut self.topics {
            reading.turned_down = false;
            for track in reading.tracks.iter().flatten() {
                let next = Offset::Offset(track.next.load(Ordering::Relaxed));
                // Fails only for an offset below zero.
                let _ = list.add_partition_offset(topic, track.partition.number, next);
            }
        }
        match self.consumer.assign(&list) {
            Ok(()) => self.assign = false,
            Err(error) => self.shared.troubles.flash(Kind::Fetch, format!("failed to assign partitions: {error}")),
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let Some(reading) = self.topics.get_mut(message.topic()) else { return };
        if reading.foreign {
            if !reading.turned_down {
                reading.turned_down = true;
                let _ = self.wake.try_send(());
            }
            return;
        }
        let at = usize::try_from(message.partition()).unwrap_or(usize::MAX);
        let Some(Some(track)) = reading.tracks.get(at) else { return };
        let offset = message.offset();
        if reading.turned_down || offset < track.next.load(Ordering::Relaxed) {
            return;
        }
        track.next.store(offset + 1, Ordering::Relaxed);

        let raw = Raw {
            key: message.key(),
            value: message.payload(),
            headers: message.headers(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        };
        let mold = &*reading.mold;
        if let Err(skip) = mold.channel(raw, &mut self.channel) {
            return skipped(&self.shared, skip, message);
        }
        let position = Position { partition: track.partition, offset };
        let data = mold.data(raw, &mut self.data);
        if data == Err(Skip::Tombstone) {
            return skipped(&self.shared, Skip::Tombstone, message);
        }
        // Also for a record that cannot be sent: clients see in the next one's `prev` that they did not get this one.
        let (channel, prev) = self.names.advance(&self.channel, position, track.begun);
        if let Err(skip) = data {
            return skipped(&self.shared, skip, message);
        }
        let draft = Draft { kind: mold.kind(raw), priority: mold.priority(), data: &self.data };
        let mut record = Record::encode(channel, position, prev, mold.ts(raw), draft);
        // Its age is Kafka's matter, whatever the message says.
        record.timestamp_ms = raw.timestamp_ms;
        self.shared.metrics.bytes.inc_by(raw.value.map_or(0, <[u8]>::len) as u64);
        self.batch_bytes += record.frame().len();
        self.batch.push(Arc::new(record));
    }

    fn stumble(&self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        match code {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                self.shared.out_of_range.store(true, Ordering::Relaxed);
            }
            // The watch finds out what is wrong and says so.
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
            // Without a group, its coordinator does not matter.
            Some(
                Code::GroupAuthorizationFailed
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::CoordinatorLoadInProgress,
            ) => return,
            _ => {
                let reason = self.consumer.context().reason();
                self.shared.troubles.flash(Kind::Fetch, format!("failed to read: {error}; {reason}"));
            }
        }
        let _ = self.wake.try_send(());
    }

    /// Notices topics of which librdkafka has begun to read another life.
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
            self.assign |= reading.turned_down && !reading.foreign;
        }
    }

    /// Moves on over what is in the log but no record: transaction markers, and records of aborted transactions.
    fn skip_what_is_not_there(&self) {
        let Ok(positions) = self.consumer.position() else { return };
        for element in positions.elements() {
            let Some(reading) = self.topics.get(element.topic()).filter(|r| !r.foreign && !r.turned_down) else {
                continue;
            };
            let at = usize::try_from(element.partition()).unwrap_or(usize::MAX);
            if let (Some(Some(track)), Offset::Offset(position)) = (reading.tracks.get(at), element.offset()) {
                track.next.fetch_max(position, Ordering::Relaxed);
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
        self.tell(&Update::Records(batch));
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
            // All are looked at, since each keeps its own time.
            if filling.iter_mut().map(waits).fold(false, |any, waits| any | waits) {
                return;
            }
        } else if filling.len() == before {
            return;
        }
        // What is left may come yet: clients that stand further on are held, and told in the end that it is not here.
        self.tell_unread();
        if !self.shared.filled.swap(true, Ordering::Relaxed) {
            self.tell(&Update::Filled);
        }
    }

    fn tell_unread(&self) {
        let unread = self.filling.as_deref().unwrap_or_default();
        let Some(first) = unread.first() else { return self.shared.troubles.clear(&Kind::Unread) };
        let more = if unread.len() > 1 { format!(" and {} more", unread.len() - 1) } else { String::new() };
        let text = format!(
            "records of {} [{}]{more} do not come: the others are served without; check the topic's brokers and this user's \
             right to READ it",
            first.topic, first.number
        );
        self.shared.troubles.set(Kind::Unread, text);
    }

    fn tell(&mut self, update: &Update) {
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
                metrics.blocked_ms.inc_by(since.elapsed().as_millis() as u64);
                sent
            }
        });
    }

    /// Counts what waits for the slowest worker: without it a shard with full feeds would seem to be up to date.
    fn count_pending(&mut self) {
        let room = self.workers.iter().map(Sender::max_capacity).max().unwrap_or(0);
        let waiting = self.workers.iter().map(|worker| worker.max_capacity() - worker.capacity()).max().unwrap_or(0);
        self.sent.drain(..self.sent.len().saturating_sub(room));
        let pending = self.sent.iter().rev().take(waiting).sum();
        self.shared.pending.store(pending, Ordering::Relaxed);
    }
}

fn skipped(shared: &Shared, skip: Skip, message: &BorrowedMessage<'_>) {
    let reason = skip.reason();
    shared.metrics.skipped.get_or_create(&Reason { reason }).inc();
    if let Some(complaint) = skip.complaint() {
        // One text a topic, so that a stream of them is one trouble; the place is what one looks for first.
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        let text =
            format!("records of {topic} are skipped: they {complaint} (last: partition {partition}, offset {offset})");
        shared.troubles.flash(Kind::Skipped(reason), text);
    }
}
