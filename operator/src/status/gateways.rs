//! The gateways, as their `Deployment` tells.

use k8s_openapi::api::apps::v1::Deployment;

use crate::build::labels;

/// How far the gateways are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gateways {
    pub(super) exists: bool,
    pub(super) wanted: i32,
    pub(super) ready: i32,
    pub(super) updated: i32,
    pub(super) revision: String,
    /// Rolled out as a whole, by the word of a controller that has seen the newest spec. Ready is enough: only the next old
    /// one waits until a new one is available, which is later.
    pub(super) settled: bool,
    /// Seconds between two old ones that go.
    pub(super) pause: i32,
    /// Why pods cannot be made.
    pub(super) refused: Option<String>,
}

impl Gateways {
    pub(super) fn of(deployment: Option<&Deployment>) -> Self {
        let Some(deployment) = deployment else { return Self::default() };
        let spec = deployment.spec.clone().unwrap_or_default();
        let status = deployment.status.clone().unwrap_or_default();
        let labels = spec.template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
        let wanted = spec.replicas.unwrap_or(1);
        let (all, updated) = (status.replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0));
        let ready = status.ready_replicas.unwrap_or(0);
        let seen = status.observed_generation >= deployment.metadata.generation;
        let mut conditions = status.conditions.iter().flatten();
        let failure = conditions.find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
        Self {
            exists: true,
            wanted,
            ready,
            updated,
            revision: labels.get(labels::REVISION).cloned().unwrap_or_default(),
            settled: seen && all == wanted && updated == wanted && ready == wanted,
            pause: spec.min_ready_seconds.unwrap_or(0),
            refused: failure.map(|failure| failure.message.clone().unwrap_or_default()),
        }
    }
}
