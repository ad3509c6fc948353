//! Where records come from. Without Kafka: nothing comes, and the shard is ready at once.

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use wscluster_api::WsClusterSpec;

use super::admin::SourceStatus;
use crate::feed::Update;
use crate::health::KafkaCheck;

/// Starts to feed `workers`; returns how to ask for the source's state. Dropping that ends the source.
pub(super) fn start(
    _spec: &WsClusterSpec,
    _brokers: Vec<String>,
    _name: &str,
    workers: Vec<mpsc::Sender<Update>>,
    _registry: &mut Registry,
) -> Result<SourceStatus, std::io::Error> {
    for worker in &workers {
        let _ = worker.try_send(Update::Filled);
    }
    Ok(Box::new(move || {
        let _open = &workers;
        KafkaCheck { status: "none".to_owned(), ..KafkaCheck::default() }
    }))
}
