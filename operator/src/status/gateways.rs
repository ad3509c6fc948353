//! The state of the gateways, from their `Deployment`.

use k8s_openapi::api::apps::v1::Deployment;

use crate::build::labels;

/// The state of the gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gateways {
    pub(super) exists: bool,
    pub(super) wanted: i32,
    pub(super) ready: i32,
    pub(super) updated: i32,
    pub(super) revision: String,
    /// Whether the rollout is complete, according to a controller that has observed the newest spec. Ready gateways
    /// suffice; they become `available` later, and only the removal of the next old gateway waits for that.
    pub(super) settled: bool,
    /// Seconds between the removals of two old gateways.
    pub(super) pause: i32,
    /// Why pods cannot be created.
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
