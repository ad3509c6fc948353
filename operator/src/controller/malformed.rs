//! An object that cannot be read as a `WsCluster`: stored under another definition, or past it. What it runs is left as it is; people
//! are told in its status, as far as that can be written, and once.

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
use super::{Operator, UNASKED, write};
use crate::events::Note;

/// Tells what is wrong with the object.
pub(super) async fn tell(
    operator: &Operator,
    invalid: &InvalidObject,
    memory: &mut Memory,
) -> Result<Duration, ReconcileError> {
    let generation = invalid.metadata.generation;
    let news = (generation, invalid.error.clone());
    if memory.malformed.as_ref() == Some(&news) {
        return Ok(UNASKED);
    }
    operator.metrics.failed("Malformed");
    warn!(error = invalid.error, "object cannot be read as a WsCluster");
    let message = format!("the object cannot be read as a WsCluster: {}; apply it anew", invalid.error);
    let condition = |name: &str, status: &str| Condition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: "Malformed".to_owned(),
        message: message.clone(),
        observed_generation: generation,
        last_transition_time: Time(Timestamp::now()),
    };
    let conditions = [condition("Ready", "False"), condition("Degraded", "True")];
    let status = json!({ "observedGeneration": generation, "phase": "Invalid", "conditions": conditions });
    let kind = kube::core::ApiResource::erase::<WsCluster>(&());
    let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(operator.client.clone(), namespace, &kind);
    let how = PatchParams { field_manager: Some(write::MANAGER.to_owned()), ..PatchParams::default() };
    let name = invalid.metadata.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &how, &Patch::Merge(json!({ "status": status }))).await {
        Ok(_) => {
            operator.metrics.status_writes.inc();
            let object = DynamicObject { metadata: invalid.metadata.clone(), ..DynamicObject::new(name, &kind) };
            operator.events.tell(&object.object_ref(&kind), vec![Note::warning("Malformed", message)]).await;
            memory.malformed = Some(news);
            Ok(UNASKED)
        }
        Err(error) => {
            let mut error = ReconcileError::status(error);
            error.retry = memory.writing.delay();
            Err(error)
        }
    }
}
