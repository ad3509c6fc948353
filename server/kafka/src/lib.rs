//! Kafka: the source of a shard, and the embedded broker of `wscluster local`.
//!
//! [`start`] reads every partition of the manifest's topics without a consumer group, so that each shard sees each record
//! exactly once and in order, and tells every worker the same [`Update`]s. A slow worker makes the source wait, so lag
//! grows and is seen; nothing is dropped. A broker that goes away costs time only: reading goes on where it stopped.

mod assignment;
pub mod backfill;
mod config;
mod context;
pub mod embedded;
mod encode;
pub mod feed;
pub mod identity;
mod lag_age;
mod metrics;
mod names;
mod offsets;
mod read;
mod security;
mod trouble;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use tokio::sync::SetOnce;
use tokio::sync::mpsc::Sender;
use wscluster_admin::health::{KafkaCheck, KafkaStatus};
use wscluster_api::spec::Kafka;
use wscluster_runtime::critical_task::spawn_critical;

use self::backfill::Past;
pub use self::config::{ConfigError, Connect};
pub use self::context::Context;
use self::metrics::Metrics;
use self::trouble::Troubles;
use crate::feed::Update;

/// What a source needs beside the manifest.
#[derive(Clone, Debug)]
pub struct Options {
    /// Brokers to use instead of the manifest's, when not empty.
    pub brokers: Vec<String>,
    /// Name of this client towards the brokers, when the manifest gives none.
    pub client: String,
    /// Largest value that is published; a larger one is skipped and counted, since no client could take it.
    pub max_value_bytes: usize,
    /// How long a partition that cannot be read keeps a starting shard from serving the others.
    pub patience: Duration,
    /// Set when a thread of the source has ended by a fault: it does not come back.
    pub broken: Arc<SetOnce<()>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            client: "wscluster".into(),
            max_value_bytes: 256 << 10,
            patience: Duration::from_secs(10),
            broken: Arc::default(),
        }
    }
}

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What the manifest says cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A topic pattern.
    #[error("failed to read topic pattern {pattern:?}: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: Box<regex::Error>,
    },
    /// A channel template.
    #[error("failed to read channel {channel:?}: {source}")]
    Channel {
        /// The template.
        channel: String,
        /// Why.
        source: wscluster_api::channel::TemplateError,
    },
    /// librdkafka, e.g. an unknown property.
    #[error("failed to set up the Kafka client: {0}")]
    Client(#[from] KafkaError),
    /// A thread.
    #[error("failed to start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running source; stops when dropped.
#[derive(Debug)]
pub struct Source {
    shared: Arc<Shared>,
    past: Past,
}

/// What the threads of a source have in common.
#[derive(Debug, Default)]
struct Shared {
    troubles: Troubles,
    metrics: Metrics,
    stop: AtomicBool,
    /// The brokers answered when they were last asked.
    reachable: AtomicBool,
    filled: AtomicBool,
    lag: AtomicU64,
    /// Records that the reader has handed over and not every worker has taken.
    pending: AtomicU64,
    /// A partition asked for an offset that Kafka does not have.
    out_of_range: AtomicBool,
    lives: backfill::Lives,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Source {
    /// As `/health` shows it.
    pub fn status(&self) -> KafkaCheck {
        let Shared { troubles, reachable, filled, lag, .. } = &*self.shared;
        let status = match (reachable.load(Ordering::Relaxed), filled.load(Ordering::Relaxed)) {
            (false, _) => KafkaStatus::Disconnected,
            (true, false) => KafkaStatus::Filling,
            (true, true) => KafkaStatus::Connected,
        };
        KafkaCheck { status, lag: lag.load(Ordering::Relaxed), error: troubles.summary() }
    }

    /// The way to what clients missed and no worker remembers.
    pub fn past(&self) -> Past {
        self.past.clone()
    }

    /// Adds the source's metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether librdkafka takes what `spec` says, as far as that can be known here: asks no broker, and looks only at the properties
/// where a secret is out of reach, which a shard's own environment may hold.
pub fn check(spec: &Kafka) -> Result<(), SourceError> {
    let somewhere = ["localhost".to_owned()];
    let connect = Connect { spec, brokers: &somewhere, client: "wscluster" };
    let Ok((mut config, context)) = connect.consumer() else {
        ClientConfig::from_iter(spec.properties.clone()).create_native_config()?;
        return Ok(());
    };
    config.remove("bootstrap.servers").create_with_context::<_, BaseConsumer<Context>>(context)?;
    Ok(())
}

/// Runs a part of a source on a thread of its own; a panic sets `broken`.
fn part(name: &str, broken: &Arc<SetOnce<()>>, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let broken = Arc::clone(broken);
    let tell = move || {
        // Once is enough.
        let _ = broken.set(());
    };
    spawn_critical(name, tell, run).map(drop)
}

/// Starts reading what `spec` asks for. Returns at once: brokers and topics that are not there yet are waited for, and
/// [`Source::status`] says so.
pub fn start(spec: &Kafka, options: &Options, workers: Vec<Sender<Update>>) -> Result<Source, SourceError> {
    let connect = Connect { spec, brokers: &options.brokers, client: &options.client };
    let (config, context) = connect.consumer()?;
    let shared = Arc::new(Shared::default());
    let past = Past::start(&config, context.tokens(), &shared, backfill::Limits::default(), &options.broken)?;
    let consumer: Arc<BaseConsumer<Context>> = Arc::new(config.create_with_context(context)?);
    let (orders, inbox) = mpsc::channel();
    let (wake, woken) = mpsc::sync_channel(1);
    let watch = watch::Watch::new(spec, options, Arc::clone(&consumer), Arc::clone(&shared), orders, woken)?;
    let reader = read::Reader::new(consumer, Arc::clone(&shared), inbox, wake, workers, options.patience);
    part("kafka-watch", &options.broken, move || watch.run())?;
    part("kafka-read", &options.broken, move || reader.run())?;
    Ok(Source { shared, past })
}
