//! Backfill: reads records that no worker remembers back from Kafka, by position.
//!
//! It has its own consumers and threads, so it never delays live records. [`Limits`] bound each request; a request
//! beyond a limit is answered with a reason and never with a part of the records. Records are encoded by the code of
//! the live reader, so clients get the same bytes.

mod scan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::sync::{SetOnce, oneshot};
use wscluster_protocol::{Epoch, LostReason, Partition, Position, Record};

use super::Shared;
use super::encode::TopicMapping;
use super::security::TokenSource;

/// Limits of one request, and of all requests together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records read for one request.
    pub records: i64,
    /// Bytes of the frames for one request.
    pub bytes: usize,
    /// Time of one request, including the wait for a thread.
    pub time: Duration,
    /// Requests served concurrently.
    pub threads: usize,
    /// Requests that wait for a thread.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records: 200_000, bytes: 4 << 20, time: Duration::from_secs(4), threads: 2, queue: 64 }
    }
}

/// A request for the records that a client missed of some channels.
#[derive(Clone, Debug, Default)]
pub struct BackfillRequest {
    /// The last position that the client has seen in each partition, by channel.
    pub since: HashMap<String, Vec<Position>>,
    /// The offset at which the worker's window begins, by partition: reading ends before it.
    pub until: HashMap<Partition, i64>,
}

/// The records that a client missed, up to the worker's window.
#[derive(Clone, Debug, Default)]
pub struct BackfillRecords {
    /// Records by channel, in the order of each partition; every requested channel has an entry.
    pub records: HashMap<String, Vec<Arc<Record>>>,
    /// The offset below which every record of the partition was read.
    pub until: HashMap<Partition, i64>,
}

/// A handle to request a backfill. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backfill {
    requests: mpsc::SyncSender<Job>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Job {
    request: BackfillRequest,
    answer: oneshot::Sender<Result<BackfillRecords, LostReason>>,
    requested: std::time::Instant,
}

/// A topic from its creation to its deletion. A topic that is recreated under its name is another incarnation.
#[derive(Clone, Debug)]
pub(super) struct Incarnation {
    pub(super) topic: Arc<str>,
    pub(super) id: Option<String>,
    pub(super) mapping: Arc<TopicMapping>,
}

/// The current incarnations of the topics that are read.
#[derive(Debug, Default)]
pub(super) struct Incarnations(Mutex<HashMap<Epoch, Incarnation>>);

impl Incarnations {
    pub(super) fn get(&self, epoch: Epoch) -> Option<Incarnation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch).cloned()
    }

    /// Adds an incarnation and removes earlier ones of the same topic.
    pub(super) fn begin(&self, epoch: Epoch, incarnation: Incarnation) {
        let mut incarnations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        incarnations.retain(|_, other| other.topic != incarnation.topic);
        incarnations.insert(epoch, incarnation);
    }
}

impl Backfill {
    /// Starts the threads. They connect on the first request.
    pub(super) fn start(
        config: &ClientConfig,
        tokens: Option<&TokenSource>,
        shared: &Arc<Shared>,
        limits: Limits,
        broken: &Arc<SetOnce<()>>,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::sync_channel(limits.queue);
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..limits.threads {
            let (inbox, shared, config) = (Arc::clone(&inbox), Arc::clone(shared), config.clone());
            let tokens = tokens.cloned();
            super::critical_thread("kafka-backfill", broken, move || {
                let mut scanner = scan::Scanner::new(config, tokens, Arc::clone(&shared), limits);
                loop {
                    let job: Job = match inbox.lock().unwrap_or_else(PoisonError::into_inner).recv() {
                        Ok(job) => job,
                        Err(_) => return,
                    };
                    // The client may have disconnected while the request waited.
                    if !job.answer.is_closed() && !shared.stopped() {
                        scanner.serve(job);
                    }
                }
            })?;
        }
        Ok(Self { requests, shared: Arc::clone(shared) })
    }

    /// Whether `partition` belongs to a topic that is read and never feeds `channel`.
    pub fn is_foreign(&self, partition: Partition, channel: &str) -> bool {
        self.shared.incarnations.get(partition.epoch).is_some_and(|incarnation| !incarnation.mapping.makes(channel))
    }

    /// Requests records. The receiver gets the answer within [`Limits::time`], or an error when the threads have
    /// ended.
    pub fn request(&self, request: BackfillRequest) -> oneshot::Receiver<Result<BackfillRecords, LostReason>> {
        let (answer, receiver) = oneshot::channel();
        let job = Job { request, answer, requested: std::time::Instant::now() };
        if let Err(mpsc::TrySendError::Full(job) | mpsc::TrySendError::Disconnected(job)) = self.requests.try_send(job)
        {
            self.shared.metrics.backfill(LostReason::Busy.as_str());
            let _ = job.answer.send(Err(LostReason::Busy));
        }
        receiver
    }
}
