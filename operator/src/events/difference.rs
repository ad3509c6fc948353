//! The first field in which the wanted and the current pod template differ, for the Event that explains a rollout.
//!
//! The API server fills in defaults, so only wanted fields are compared. Removed fields are detected only in lists,
//! and in the manifest inside the `ConfigMap`, which has no defaults.

use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use serde::Serialize;
use serde_json::Value;
use wscluster_api::differences;

use crate::build::labels;

/// The first field that differs, with both values.
pub(crate) fn of_template(
    (there, config): (&PodTemplateSpec, Option<&ConfigMap>),
    (wanted, new_config): (&PodTemplateSpec, &ConfigMap),
) -> String {
    let manifests = manifest(config).zip(manifest(Some(new_config)));
    if let Some(first) = manifests.and_then(|(old, new)| differences("", &old, &new, true).into_iter().next()) {
        return first;
    }
    let (mut there, mut wanted) = (value(there), value(wanted));
    for template in [&mut there, &mut wanted] {
        if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
            labels.remove(labels::REVISION);
        }
    }
    differences("", &there, &wanted, false).into_iter().next().unwrap_or_else(|| "the pod template".to_owned())
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// The manifest in a `ConfigMap`.
fn manifest(config: Option<&ConfigMap>) -> Option<Value> {
    let text = config?.data.as_ref()?.values().next()?;
    serde_yaml::from_str(text).ok()
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "a literal reads better than a reference to one")]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(image: &str, more: Value) -> PodTemplateSpec {
        let mut container = json!({ "name": "shard", "image": image });
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let labels = json!({ "wscluster.dev/revision": image });
        serde_json::from_value(json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } }))
            .unwrap()
    }

    fn config(text: &str) -> ConfigMap {
        serde_json::from_value(json!({ "data": { "cluster.yaml": text } })).unwrap()
    }

    #[test]
    fn shows_the_first_field_and_both_values() {
        let (old, new) = (config("spec: {capacity: 6000}"), config("spec: {capacity: 5000}"));
        let (a, b) = (template("shop:1", json!({})), template("shop:2", json!({})));
        assert_eq!(of_template((&a, Some(&old)), (&b, &new)), "spec.capacity: 6000 → 5000");
        assert_eq!(of_template((&a, Some(&old)), (&b, &old)), "spec.containers[shard].image: \"shop:1\" → \"shop:2\"");
        assert_eq!(of_template((&a, None), (&a, &old)), "the pod template");
    }

    #[test]
    fn defaults_of_the_api_server_are_no_difference() {
        let there = template("shop:1", json!({ "imagePullPolicy": "Always", "terminationMessagePath": "/dev/log" }));
        let wanted = template("shop:1", json!({ "env": [], "resources": {} }));
        let none = config("{}");
        assert_eq!(of_template((&there, Some(&none)), (&wanted, &none)), "the pod template");
    }
}
