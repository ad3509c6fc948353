//! The source of a shard's records: Kafka, or none for a shard that serves only `/echo`.

use std::sync::OnceLock;

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use wscluster_admin::health::KafkaCheck;
use wscluster_api::spec::Kafka;
use wscluster_kafka::backfill::Backfill;
use wscluster_kafka::feed::Update;
use wscluster_kafka::{self, Options, SourceError};

use super::admin::SourceStatus;

/// There is no source.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSource {
    /// Neither the manifest nor the command line names a broker.
    #[error(
        "no Kafka brokers: name them in spec.source.kafka.brokers or with --brokers HOST:PORT \
         (`wscluster local` starts an embedded broker; with --echo alone a shard runs without any)"
    )]
    NoBrokers,
    /// The Kafka source cannot be started.
    #[error(transparent)]
    Kafka(#[from] SourceError),
}

impl NoSource {
    /// Whether the manifest or the command line is wrong.
    pub(super) fn is_usage(&self) -> bool {
        !matches!(self, Self::Kafka(SourceError::Thread(_)))
    }
}

/// Starts to feed `workers`. Returns the function that reports the state of the source; dropping it ends the source.
pub(super) fn start(
    spec: &Kafka,
    options: &Options,
    echo: bool,
    workers: Vec<mpsc::Sender<Update>>,
    registry: &mut Registry,
    backfill: &OnceLock<Backfill>,
) -> Result<SourceStatus, NoSource> {
    if !spec.brokers.is_empty() || !options.brokers.is_empty() {
        let source = wscluster_kafka::start(spec, options, workers)?;
        source.register(registry);
        // Unset until now: a shard has one source.
        let _ = backfill.set(source.backfill());
        return Ok(Box::new(move || source.status()));
    }
    if !echo {
        return Err(NoSource::NoBrokers);
    }
    tracing::warn!("no Kafka brokers: nothing will be published");
    for worker in &workers {
        // A new feed is empty.
        let _ = worker.try_send(Update::Filled);
    }
    Ok(Box::new(move || {
        // Keeps the feeds open: their end would mean that the source has ended.
        let _ = &workers;
        KafkaCheck::default()
    }))
}
