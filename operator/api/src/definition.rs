//! The `CustomResourceDefinition` to install: the derived one, adapted to the API server, with all rules in CEL.
//!
//! Use this instead of `WsCluster::crd()`, which lacks the rules. Differences: number formats unknown to the API
//! server are removed; `nullable` is removed, so that an explicit null means "absent, use the default" (nulls are
//! pruned before defaulting); descriptions inside Kubernetes' own types are removed, because `kubectl apply` stores
//! the object in an annotation of at most 256 KiB.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use crate::{WsCluster, rules};

static DEFINITION: LazyLock<Value> = LazyLock::new(complete);

/// The custom resource definition of `WsCluster`, including all CEL rules.
pub fn definition() -> CustomResourceDefinition {
    serde_json::from_value(DEFINITION.clone()).expect("a completed definition is still a definition")
}

/// The schema of the whole object.
pub(crate) fn schema() -> &'static Value {
    &DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// The schema of `spec`.
pub(crate) fn spec_schema() -> &'static Value {
    &schema()["properties"]["spec"]
}

fn complete() -> Value {
    let mut crd = serde_json::to_value(WsCluster::crd()).expect("a definition is plain data");
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    clean(schema);
    for part in ["shard", "gateway"] {
        if let Some(fields) = node(schema, &format!("spec.template.{part}"))["properties"].as_object_mut() {
            fields.values_mut().for_each(shorten);
        }
    }
    for rule in rules::all() {
        for place in rule.places() {
            let validations = &mut node(schema, place)["x-kubernetes-validations"];
            if validations.is_null() {
                *validations = json!([]);
            }
            validations.as_array_mut().expect("validations are a list").push(rule.to_json());
        }
    }
    crd
}

/// The schema node of a path such as `spec.source.kafka.topics[]`. The empty path is the object itself.
fn node<'a>(schema: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').filter(|s| !s.is_empty()).fold(schema, |at, step| match step.strip_suffix("[]") {
        Some(list) => &mut at["properties"][list]["items"],
        None => &mut at["properties"][step],
    })
}

/// Removes `nullable`, unknown formats and line breaks within paragraphs of descriptions from every node. Keys of
/// `properties` are field names, not keywords.
fn clean(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else { return };
    keywords.remove("nullable");
    if let Some(Value::String(description)) = keywords.get_mut("description") {
        let paragraphs = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
        *description = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
    if keywords
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|f| f.starts_with("uint") || f == "int8" || f == "int16")
    {
        keywords.remove("format");
    }
    for_each_child(keywords, clean);
}

/// Removes the descriptions below a node, but not its own.
fn shorten(schema: &mut Value) {
    fn strip(schema: &mut Value) {
        let Some(keywords) = schema.as_object_mut() else { return };
        keywords.remove("description");
        for_each_child(keywords, strip);
    }
    if let Some(keywords) = schema.as_object_mut() {
        for_each_child(keywords, strip);
    }
}

fn for_each_child(keywords: &mut Map<String, Value>, f: fn(&mut Value)) {
    if let Some(Value::Object(properties)) = keywords.get_mut("properties") {
        properties.values_mut().for_each(f);
    }
    for single in ["items", "additionalProperties"] {
        keywords.get_mut(single).into_iter().for_each(f);
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        keywords.get_mut(several).and_then(Value::as_array_mut).into_iter().flatten().for_each(f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every node of a schema with its path.
    fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), child, visit);
        }
        for single in ["items", "additionalProperties"] {
            if schema[single].is_object() {
                walk(&format!("{path}[]"), &schema[single], visit);
            }
        }
    }

    #[test]
    fn is_structural() {
        walk("", schema(), &mut |path, node| {
            assert!(node["anyOf"].is_null() && node["oneOf"].is_null() && node["$ref"].is_null(), "{path}: {node}");
            let either = node["x-kubernetes-int-or-string"] == json!(true);
            assert_eq!(node["type"].is_string(), !either, "{path} needs a type, or must be int-or-string: {node}");
            assert!(node["nullable"].is_null(), "{path}");
        });
    }

    #[test]
    fn fits_the_annotation_of_kubectl_apply() {
        assert!(DEFINITION.to_string().len() < 200 * 1024, "{} bytes", DEFINITION.to_string().len());
    }

    #[test]
    fn bounds_every_list_and_map_that_a_rule_iterates_over() {
        walk("", spec_schema(), &mut |path, node| {
            let ours = !path.starts_with(".template");
            assert!(!ours || node["type"] != "array" || node["maxItems"].is_number(), "{path} has no maxItems");
            let map = node["additionalProperties"].is_object();
            assert!(!ours || !map || node["maxProperties"].is_number(), "{path} has no maxProperties");
        });
    }

    #[test]
    fn has_the_printer_columns_and_subresources() {
        let version = &definition().spec.versions[0];
        let columns = version.additional_printer_columns.iter().flatten().map(|c| c.name.to_uppercase());
        let expected = ["SHARDS", "READY", "CONNECTIONS", "CAPACITY", "USED", "PHASE", "AGE"];
        assert_eq!(columns.collect::<Vec<_>>(), expected);
        let sub = version.subresources.as_ref().unwrap();
        assert_eq!(sub.scale.as_ref().unwrap().spec_replicas_path, ".spec.shards");
        assert!(sub.status.is_some());
    }
}
