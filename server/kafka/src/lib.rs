//! Kafka: the source of a shard's records, and the embedded broker of `wscluster local`.
//!
//! [`start`] reads every partition of the manifest's topics without a consumer group, so each shard gets each record
//! exactly once and in order. It sends every worker the same [`Update`]s. A slow worker makes the source wait: lag
//! grows, and no record is dropped. After a broker failure, reading continues at the next offset.
//!
//! - [`Source`]: a running source. Its threads are `watch` (which partitions there are, and where reading begins),
//!   `read` (records in order) and the backfill.
//! - [`feed`]: what workers receive.
//! - [`backfill`]: reads records back that no worker remembers.
//! - [`Connect`]: configuration of librdkafka clients, also for producers and test tools.
//! - [`embedded`]: an in-memory broker for local runs and tests.
//! - [`identity`]: topic ids, which distinguish a recreated topic from its predecessor.

mod assignment;
pub mod backfill;
mod config;
mod context;
mod credentials;
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

use self::backfill::Backfill;
pub use self::config::{ConfigError, Connect};
pub use self::context::Context;
use self::metrics::Metrics;
use self::trouble::Troubles;
use crate::feed::Update;
pub use metrics::reference as metrics_reference;

/// Options of a source that are not in the manifest.
#[derive(Clone, Debug)]
pub struct Options {
    /// Brokers that replace those of the manifest, unless empty.
    pub brokers: Vec<String>,
    /// Client id, where the manifest gives none.
    pub client: String,
    /// Largest value that is published, bytes. Larger values are skipped and counted: they exceed the queue of any
    /// client.
    pub max_value_bytes: usize,
    /// How long a partition that cannot be read delays the start of a shard.
    pub patience: Duration,
    /// Set when a thread of the source has panicked. It is not restarted.
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

/// A source cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A topic pattern is not a regular expression.
    #[error("failed to read topic pattern {pattern:?}: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The cause.
        source: Box<regex::Error>,
    },
    /// A channel template is invalid.
    #[error("failed to read channel {channel:?}: {source}")]
    Channel {
        /// The template.
        channel: String,
        /// The cause.
        source: wscluster_api::channel::TemplateError,
    },
    /// librdkafka refuses the configuration, e.g. an unknown property.
    #[error("failed to set up the Kafka client: {0}")]
    Client(#[from] KafkaError),
    /// A thread cannot be started.
    #[error("failed to start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running source. Dropping it stops it.
#[derive(Debug)]
pub struct Source {
    shared: Arc<Shared>,
    backfill: Backfill,
}

/// State that the threads of a source share.
#[derive(Debug, Default)]
struct Shared {
    troubles: Troubles,
    metrics: Metrics,
    stop: AtomicBool,
    /// Whether the brokers answered the last request of the watch.
    reachable: AtomicBool,
    filled: AtomicBool,
    lag: AtomicU64,
    /// Records that the reader has sent and the slowest worker has not taken.
    pending: AtomicU64,
    /// Set when Kafka does not have the offset that was requested of a partition.
    out_of_range: AtomicBool,
    incarnations: backfill::Incarnations,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Source {
    /// The state for `/health`.
    pub fn status(&self) -> KafkaCheck {
        let Shared { troubles, reachable, filled, lag, .. } = &*self.shared;
        let status = match (reachable.load(Ordering::Relaxed), filled.load(Ordering::Relaxed)) {
            (false, _) => KafkaStatus::Disconnected,
            (true, false) => KafkaStatus::Filling,
            (true, true) => KafkaStatus::Connected,
        };
        KafkaCheck { status, lag: lag.load(Ordering::Relaxed), error: troubles.summary() }
    }

    /// Reads records back that no worker remembers.
    pub fn backfill(&self) -> Backfill {
        self.backfill.clone()
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

/// Checks whether librdkafka accepts `spec`, without asking a broker. Secrets may exist only in the environment of
/// the shard: where one cannot be read, only the properties are checked.
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

/// Starts a thread of a source. A panic sets `broken`.
fn critical_thread(name: &str, broken: &Arc<SetOnce<()>>, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let broken = Arc::clone(broken);
    let tell = move || {
        // It may be set already.
        let _ = broken.set(());
    };
    spawn_critical(name, tell, run).map(drop)
}

/// Starts to read the topics of `spec`. Returns at once. The source waits for brokers and topics that do not exist
/// yet, and [`Source::status`] reports them.
pub fn start(spec: &Kafka, options: &Options, workers: Vec<Sender<Update>>) -> Result<Source, SourceError> {
    let connect = Connect { spec, brokers: &options.brokers, client: &options.client };
    let (config, context) = connect.consumer()?;
    let shared = Arc::new(Shared::default());
    let backfill = Backfill::start(&config, context.tokens(), &shared, backfill::Limits::default(), &options.broken)?;
    let consumer: Arc<BaseConsumer<Context>> = Arc::new(config.create_with_context(context)?);
    let (assignments, inbox) = mpsc::channel();
    let (wake, woken) = mpsc::sync_channel(1);
    let watch = watch::Watch::new(spec, options, Arc::clone(&consumer), Arc::clone(&shared), assignments, woken)?;
    let reader = read::Reader::new(consumer, Arc::clone(&shared), inbox, wake, workers, options.patience);
    critical_thread("kafka-watch", &options.broken, move || watch.run())?;
    critical_thread("kafka-read", &options.broken, move || reader.run())?;
    Ok(Source { shared, backfill })
}
