//! The past beyond a shard's memory: reads what clients missed back from Kafka, by position.
//!
//! Consumers and threads of its own, so that it never delays what is live; bounded in every direction ([`Limits`]), and a
//! request beyond a bound is answered with a reason, never with a part. What it finds is what the live reader would have
//! published, made by the same code from the same records.

mod scan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::sync::{SetOnce, oneshot};
use wscluster_protocol::{Epoch, Partition, Position, Record};

use super::Shared;
use super::encode::Mold;
use super::security::TokenSource;

/// What one request, and all together, may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records looked at.
    pub records: i64,
    /// Bytes of what was missed, as frames.
    pub bytes: usize,
    /// Time, waiting for a thread included.
    pub time: Duration,
    /// Requests served at the same time.
    pub threads: usize,
    /// Requests that wait for a thread.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records: 200_000, bytes: 4 << 20, time: Duration::from_secs(4), threads: 2, queue: 64 }
    }
}

/// What a client missed of some channels, and up to where Kafka is to be asked for it.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    /// By channel, the last position the client saw in each partition.
    pub since: HashMap<String, Vec<Position>>,
    /// By partition, the offset before which the worker needs it.
    pub until: HashMap<Partition, i64>,
}

/// What was missed, up to where the worker's own memory goes on.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// By channel, in the order of each partition; has every channel that was asked for.
    pub records: HashMap<String, Vec<Arc<Record>>>,
    /// Offset below which every record of the partition was looked at.
    pub until: HashMap<Partition, i64>,
}

/// Why it could not be read back; `reason` of the subscription's answer.
pub type Reason = &'static str;

/// The way to the past. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Past {
    requests: mpsc::SyncSender<Request>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Request {
    missing: Missing,
    answer: oneshot::Sender<Result<Found, Reason>>,
    asked: std::time::Instant,
}

/// A topic's life, as the watch knows it.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) topic: Arc<str>,
    pub(super) id: Option<String>,
    pub(super) mold: Arc<Mold>,
}

/// The lives of the topics that are read.
#[derive(Debug, Default)]
pub(super) struct Lives(Mutex<HashMap<Epoch, Life>>);

impl Lives {
    pub(super) fn get(&self, epoch: Epoch) -> Option<Life> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch).cloned()
    }

    /// Adds a life; an earlier one of the same topic is over.
    pub(super) fn begin(&self, epoch: Epoch, life: Life) {
        let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|_, other| other.topic != life.topic);
        lives.insert(epoch, life);
    }
}

impl Past {
    /// Starts the threads; they connect when they are first needed.
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
            super::part("kafka-past", broken, move || {
                let mut scanner = scan::Scanner::new(config, tokens, Arc::clone(&shared), limits);
                loop {
                    let request: Request = match inbox.lock().unwrap_or_else(PoisonError::into_inner).recv() {
                        Ok(request) => request,
                        Err(_) => return,
                    };
                    // Whoever asked may have gone meanwhile.
                    if !request.answer.is_closed() && !shared.stopped() {
                        scanner.serve(request);
                    }
                }
            })?;
        }
        Ok(Self { requests, shared: Arc::clone(shared) })
    }

    /// Whether `partition` is of a topic that is read and of which no record goes to `channel`.
    pub fn is_foreign(&self, partition: Partition, channel: &str) -> bool {
        self.shared.lives.get(partition.epoch).is_some_and(|life| !life.mold.makes(channel))
    }

    /// Asks for what is missing. The answer comes within [`Limits::time`], or the receiver says that it never will.
    pub fn ask(&self, missing: Missing) -> oneshot::Receiver<Result<Found, Reason>> {
        let (answer, receiver) = oneshot::channel();
        let request = Request { missing, answer, asked: std::time::Instant::now() };
        if let Err(mpsc::TrySendError::Full(request) | mpsc::TrySendError::Disconnected(request)) =
            self.requests.try_send(request)
        {
            self.shared.metrics.past("busy");
            let _ = request.answer.send(Err("busy"));
        }
        receiver
    }
}
