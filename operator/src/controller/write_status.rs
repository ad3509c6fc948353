//! Writes the status, as a merge patch of that subresource.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use wscluster_api::WsCluster;

use super::Operator;
use super::failure::ReconcileError;
use super::memory::Memory;
use crate::build::names;
use crate::status::Status;

/// Field manager of the status; applied objects have another one.
pub(super) const MANAGER: &str = "wscluster-operator-status";

/// Writes and remembers `status`.
pub(super) async fn write_status(
    operator: &Operator,
    cluster: &WsCluster,
    status: Status,
    memory: &mut Memory,
) -> Result<(), ReconcileError> {
    let api: Api<WsCluster> = Api::namespaced(operator.client.clone(), &names::namespace(cluster));
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "status": status.object }));
    match api.patch_status(&names::cluster(cluster), &parameters, &patch).await {
        Ok(_) => {
            operator.metrics.status_writes.inc();
            memory.wrote(cluster, status);
            Ok(())
        }
        // The cluster was deleted.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(error) => {
            let mut error = ReconcileError::status(error);
            error.retry = memory.writing.delay();
            Err(error)
        }
    }
}
