//! Labels, selectors and owner of what is built.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource as _;
use wscluster_api::WsCluster;

use super::{Part, names};

/// Which software.
pub const NAME: &str = "app.kubernetes.io/name";
/// Which cluster.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Which [`Part`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Who looks after it; on every object, and what the watches ask for, but for pods.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Revision of a pod.
pub const REVISION: &str = "wscluster.dev/revision";

/// The labels of a pod that its manifest cannot set.
pub(crate) const OURS: [&str; 5] = [NAME, INSTANCE, COMPONENT, MANAGED_BY, REVISION];

/// Value of [`NAME`].
pub const SOFTWARE: &str = "wscluster";
/// Value of [`MANAGED_BY`].
pub const OPERATOR: &str = "wscluster-operator";

/// What tells the pods of one part of one cluster from all others. A selector cannot be changed later.
pub fn selector(cluster: &WsCluster, part: Part) -> BTreeMap<String, String> {
    [(NAME, SOFTWARE.to_owned()), (INSTANCE, names::cluster(cluster)), (COMPONENT, part.to_string())]
        .map(|(label, value)| (label.to_owned(), value))
        .into()
}

/// [`selector`] as objects hold it.
pub(super) fn label_selector(cluster: &WsCluster, part: Part) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(cluster, part)), ..LabelSelector::default() }
}

/// [`selector`] of the shards as text, for `status.selector`.
pub fn selector_text(cluster: &WsCluster) -> String {
    let labels = selector(cluster, Part::Shard);
    labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")
}

/// Labels of every object of a part.
pub fn labels(cluster: &WsCluster, part: Part) -> BTreeMap<String, String> {
    let mut labels = selector(cluster, part);
    labels.insert(MANAGED_BY.to_owned(), OPERATOR.to_owned());
    labels
}

/// Name, labels and owner of an object: it goes when the cluster goes.
pub(super) fn metadata(cluster: &WsCluster, part: Part, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: cluster.metadata.namespace.clone(),
        labels: Some(labels(cluster, part)),
        owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}
