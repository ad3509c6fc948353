//! How many pods of a part may be evicted at once: one. Whoever drains a node waits until the others are ready.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use wscluster_api::WsCluster;

use super::labels::{label_selector, metadata};
use super::{Part, names};

/// The budget of a part; none for a single pod, which nothing else could stand in for.
pub(super) fn budget(cluster: &WsCluster, part: Part, replicas: u32) -> Option<PodDisruptionBudget> {
    (replicas > 1).then(|| PodDisruptionBudget {
        metadata: metadata(cluster, part, names::part(cluster, part)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(label_selector(cluster, part)),
            // A pod that does not work must not keep its node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
