//! The disruption budget of a part: one pod at a time. The drain of a node waits until the other pods are ready.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use wscluster_api::WsCluster;

use super::labels::{label_selector, metadata};
use super::{Part, names};

/// The budget of a part; `None` for a single pod, because no other pod could take over.
pub(super) fn budget(cluster: &WsCluster, part: Part, replicas: u32) -> Option<PodDisruptionBudget> {
    (replicas > 1).then(|| PodDisruptionBudget {
        metadata: metadata(cluster, part, names::part(cluster, part)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(label_selector(cluster, part)),
            // A broken pod must not block the drain of its node.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
