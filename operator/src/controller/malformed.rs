//! Handles an object that cannot be parsed as a `WsCluster`, for example because it was stored under another
//! definition. Its pods keep running. The error is reported once, in its status and as an Event.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Resource as _};
use serde_json::json;
use tracing::warn;
use wscluster_api::WsCluster;

use super::failure::ReconcileError;
use super::memory::Memory;
use super::{Operator, RESYNC, write_status};
use crate::events::Note;
use crate::metrics::ErrorCategory;
use crate::status::ConditionType;

/// Reports why the object cannot be parsed.
pub(super) async fn report(
    operator: &Operator,
    invalid: &InvalidObject,
    memory: &mut Memory,
) -> Result<Duration, ReconcileError> {
    let generation = invalid.metadata.generation;
    let report = (generation, invalid.error.clone());
    if memory.malformed.as_ref() == Some(&report) {
        return Ok(RESYNC);
    }
    operator.metrics.failed(ErrorCategory::Malformed);
    warn!(error = invalid.error, "object cannot be parsed as a WsCluster");
    let message = format!("the object cannot be parsed as a WsCluster: {}; apply it again", invalid.error);
    let condition = |of: ConditionType, status: &str| Condition {
        type_: of.as_str().to_owned(),
        status: status.to_owned(),
        reason: "Malformed".to_owned(),
        message: message.clone(),
        observed_generation: generation,
        last_transition_time: Time(Timestamp::now()),
    };
    let conditions = [condition(ConditionType::Ready, "False"), condition(ConditionType::Degraded, "True")];
    let status = json!({ "observedGeneration": generation, "phase": "Invalid", "conditions": conditions });
    let kind = kube::core::ApiResource::erase::<WsCluster>(&());
    let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(operator.client.clone(), namespace, &kind);
    let parameters = PatchParams { field_manager: Some(write_status::MANAGER.to_owned()), ..PatchParams::default() };
    let name = invalid.metadata.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &parameters, &Patch::Merge(json!({ "status": status }))).await {
        Ok(_) => {
            operator.metrics.status_writes.inc();
            let object = DynamicObject { metadata: invalid.metadata.clone(), ..DynamicObject::new(name, &kind) };
            operator.events.publish(&object.object_ref(&kind), vec![Note::warning("Malformed", message)]).await;
            memory.malformed = Some(report);
            Ok(RESYNC)
        }
        Err(error) => {
            let mut error = ReconcileError::status(error);
            error.retry = memory.writing.delay();
            Err(error)
        }
    }
}
