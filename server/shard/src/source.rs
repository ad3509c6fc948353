//! Where a shard's records come from: Kafka; or nowhere, for a shard that is up for `/echo` only.

use std::sync::OnceLock;

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use wscluster_admin::health::KafkaCheck;
use wscluster_api::spec::Kafka;
use wscluster_kafka::backfill::Past;
use wscluster_kafka::feed::Update;
use wscluster_kafka::{self, Options, SourceError};

use super::admin::SourceStatus;

/// Why there is nothing to read from.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSource {
    /// Neither the manifest nor the command line names a broker.
    #[error(
        "no Kafka brokers: name them in spec.source.kafka.brokers or with --brokers HOST:PORT \
         (`wscluster local` starts an embedded broker; with --echo alone a shard runs without any)"
    )]
    NoBrokers,
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] SourceError),
}

impl NoSource {
    /// Whether the manifest or the command line has to change.
    pub(super) fn is_usage(&self) -> bool {
        !matches!(self, Self::Kafka(SourceError::Thread(_)))
    }
}

/// Starts to feed `workers`. Returns how to ask for the source's state; dropping that ends the source.
pub(super) fn start(
    spec: &Kafka,
    options: &Options,
    echo: bool,
    workers: Vec<mpsc::Sender<Update>>,
    registry: &mut Registry,
    past: &OnceLock<Past>,
) -> Result<SourceStatus, NoSource> {
    if !spec.brokers.is_empty() || !options.brokers.is_empty() {
        let source = wscluster_kafka::start(spec, options, workers)?;
        source.register(registry);
        // Set once: a shard has one source.
        let _ = past.set(source.past());
        return Ok(Box::new(move || source.status()));
    }
    if !echo {
        return Err(NoSource::NoBrokers);
    }
    tracing::warn!("no Kafka brokers: nothing will be published");
    for worker in &workers {
        // A new feed has room.
        let _ = worker.try_send(Update::Filled);
    }
    Ok(Box::new(move || {
        // Kept open: a source that ends is something else.
        let _ = &workers;
        KafkaCheck::default()
    }))
}
