//! Approvals of the steps of a supervised rollout: an annotation of the `WsCluster` with the value `REVISION:ORDINAL`.

use wscluster_api::WsCluster;

/// The annotation.
const ANNOTATION: &str = "wscluster.dev/approve";

/// The ordinal of the shard whose step to `revision` is approved, if there is one.
pub(crate) fn approved(cluster: &WsCluster, revision: &str) -> Option<u32> {
    let (of, ordinal) = cluster.metadata.annotations.as_ref()?.get(ANNOTATION)?.split_once(':')?;
    (of == revision).then(|| ordinal.parse().ok()).flatten()
}

/// The command that approves the step of a shard.
pub(crate) fn command(cluster: &str, revision: &str, ordinal: u32) -> String {
    format!("kubectl annotate wsc/{cluster} --overwrite {ANNOTATION}={revision}:{ordinal}")
}
