//! Labels, selectors and owner references of built objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource as _;
use wscluster_api::WsCluster;

use super::{Part, names};

/// Label with the name of the software.
pub(crate) const NAME: &str = "app.kubernetes.io/name";
/// Label with the name of the cluster.
pub(crate) const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label with the [`Part`].
pub(crate) const COMPONENT: &str = "app.kubernetes.io/component";
/// Label with the managing software. All objects have it, and the watches select by it, except that of pods.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the revision of a pod.
pub(crate) const REVISION: &str = "wscluster.dev/revision";

/// Labels of pods that the manifest cannot set.
pub(crate) const OURS: [&str; 5] = [NAME, INSTANCE, COMPONENT, MANAGED_BY, REVISION];

/// Value of [`NAME`].
pub(crate) const SOFTWARE: &str = "wscluster";
/// Value of [`MANAGED_BY`].
pub(crate) const OPERATOR: &str = "wscluster-operator";

/// The labels that select the pods of one part of a cluster. Kubernetes does not permit changes of a selector.
pub(crate) fn selector(cluster: &WsCluster, part: Part) -> BTreeMap<String, String> {
    [(NAME, SOFTWARE.to_owned()), (INSTANCE, names::cluster(cluster)), (COMPONENT, part.to_string())]
        .map(|(label, value)| (label.to_owned(), value))
        .into()
}

/// [`selector`] as a `LabelSelector`.
pub(super) fn label_selector(cluster: &WsCluster, part: Part) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(cluster, part)), ..LabelSelector::default() }
}

/// [`selector`] of the shards as text, for `status.selector`.
pub(crate) fn selector_text(cluster: &WsCluster) -> String {
    let labels = selector(cluster, Part::Shard);
    labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")
}

/// Labels of every object of a part.
pub(crate) fn labels(cluster: &WsCluster, part: Part) -> BTreeMap<String, String> {
    let mut labels = selector(cluster, part);
    labels.insert(MANAGED_BY.to_owned(), OPERATOR.to_owned());
    labels
}

/// Name, labels and owner reference of an object. It is deleted together with the cluster.
pub(super) fn metadata(cluster: &WsCluster, part: Part, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: cluster.metadata.namespace.clone(),
        labels: Some(labels(cluster, part)),
        owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}
