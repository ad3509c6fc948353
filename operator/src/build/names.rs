//! Names of the objects of a cluster. The name of a cluster has at most 40 characters, so all of them stay within 63.

use wscluster_api::WsCluster;

use super::Part;

/// Name of the cluster and of its `StatefulSet`. Pods are called `NAME-0`, `NAME-1`, …
pub(crate) fn cluster(cluster: &WsCluster) -> String {
    cluster.metadata.name.clone().unwrap_or_default()
}

/// Namespace of the cluster.
pub(crate) fn namespace(cluster: &WsCluster) -> String {
    cluster.metadata.namespace.clone().unwrap_or_default()
}

/// Name of the objects that exist once for each part (service account, network policy, disruption budget). The other
/// objects of the gateways, such as their Deployment and Service, have this name too.
pub(crate) fn part(cluster: &WsCluster, part: Part) -> String {
    format!("{}-{part}", self::cluster(cluster))
}

/// Name of the headless Service by which gateways discover the shards.
pub(crate) fn shard_service(cluster: &WsCluster) -> String {
    format!("{}-shards", self::cluster(cluster))
}
