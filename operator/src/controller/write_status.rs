//! Writes a status, as a merge patch of that subresource in the operator's name.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use wscluster_api::WsCluster;
use wscluster_api::status::WsClusterStatus;

use super::Operator;
use super::failure::ReconcileError;
use super::memory::Memory;
use crate::build::names;

/// Field manager of the status: not the one of what is applied.
pub(super) const MANAGER: &str = "wscluster-operator-status";

/// Writes `status`, and remembers it.
pub(super) async fn status(
    operator: &Operator,
    cluster: &WsCluster,
    status: &WsClusterStatus,
    memory: &mut Memory,
) -> Result<(), ReconcileError> {
    let api: Api<WsCluster> = Api::namespaced(operator.client.clone(), &names::namespace(cluster));
    let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "status": status }));
    match api.patch_status(&names::cluster(cluster), &how, &patch).await {
        Ok(_) => {
            operator.metrics.status_writes.inc();
            memory.wrote(cluster, status);
            Ok(())
        }
        // It was deleted meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(error) => {
            let mut error = ReconcileError::status(error);
            error.retry = memory.writing.delay();
            Err(error)
        }
    }
}
