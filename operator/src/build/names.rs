//! Names of the objects of a cluster. The longest fits where Kubernetes allows 63 characters, as a cluster's name has at most 40.

use wscluster_api::WsCluster;

use super::Part;

/// The cluster, and its `StatefulSet`: pods are `NAME-0`, `NAME-1`, …
pub fn cluster(cluster: &WsCluster) -> String {
    cluster.metadata.name.clone().unwrap_or_default()
}

/// Its namespace.
pub fn namespace(cluster: &WsCluster) -> String {
    cluster.metadata.namespace.clone().unwrap_or_default()
}

/// What each part has one of: account, network policy, disruption budget; and all of the gateway.
pub fn part(cluster: &WsCluster, part: Part) -> String {
    format!("{}-{part}", self::cluster(cluster))
}

/// The headless Service, in which gateways find the shards.
pub fn shard_service(cluster: &WsCluster) -> String {
    format!("{}-shards", self::cluster(cluster))
}
