//! A revision of a part: everything that its processes are started with, and an id. An edit of a field that a part
//! does not read never restarts the part, as on Kubernetes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use wscluster_api::{Part, WsCluster};

/// One revision of a part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Revision {
    /// Differs from that of another revision if processes have to be replaced.
    pub(crate) id: String,
    /// The manifest that its processes read.
    pub(crate) manifest: String,
    /// Event loops of each process; `None` for the default.
    pub(crate) workers: Option<u32>,
    /// Environment variables of its processes.
    pub(crate) env: Vec<(String, String)>,
}

impl Revision {
    /// The revision of `part` that `cluster` declares.
    pub(crate) fn new(part: Part, cluster: &WsCluster) -> Self {
        let manifest = part.manifest(cluster);
        let pod = part.template(&cluster.spec);
        // `valueFrom` refers to objects of Kubernetes.
        let env = pod.env.iter().filter_map(|var| Some((var.name.clone(), var.value.clone()?))).collect();
        Self { id: id(&manifest, &env), manifest, workers: pod.workers, env }
    }
}

/// Ten hexadecimal digits, stable within one run only.
fn id(manifest: &str, env: &Vec<(String, String)>) -> String {
    let mut hasher = DefaultHasher::new();
    (manifest, env).hash(&mut hasher);
    format!("{:010x}", hasher.finish() >> 24)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use serde_json::{Value, json};
    use wscluster_api::WsClusterSpec;
    use wscluster_gateway as gateway;
    use wscluster_shard as shard;

    use super::*;

    fn cluster(edit: impl FnOnce(&mut Value)) -> WsCluster {
        let mut cluster = json!({
            "apiVersion": "wscluster.dev/v1alpha1", "kind": "WsCluster", "metadata": { "name": "prices" },
            "spec": {
                "shards": 2, "capacity": 100,
                "source": { "kafka": { "topics": [{ "name": "odin.trades", "channel": "{key}.trade" }] } },
                "template": { "shard": { "env": [
                    { "name": "LEVEL", "value": "1" }, { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "x" } } },
                ] } },
            },
        });
        edit(&mut cluster);
        wscluster_api::manifest::parse(&cluster.to_string(), Path::new("cluster.yaml")).unwrap()
    }

    /// Whether an edit replaces shards, and whether it replaces gateways.
    fn replaced(edit: impl FnOnce(&mut Value)) -> (bool, bool) {
        let (before, after) = (cluster(|_| {}), cluster(edit));
        (
            Revision::new(Part::Shard, &before).id != Revision::new(Part::Shard, &after).id,
            Revision::new(Part::Gateway, &before).id != Revision::new(Part::Gateway, &after).id,
        )
    }

    #[test]
    fn edit_replaces_only_parts_that_read_the_field() {
        let none = (false, false);
        for (field, value, expected) in [
            ("/spec", json!({ "shards": 5 }), none),
            ("/spec", json!({ "paused": true }), none),
            ("/spec", json!({ "autoscale": { "min": 1, "max": 3 } }), none),
            ("/spec", json!({ "rollout": { "surge": false }, "rebalance": { "budget": 5 } }), none),
            ("/metadata", json!({ "labels": { "team": "a" } }), none),
            ("/spec", json!({ "gateway": { "replicas": 4, "service": { "port": 9000 } } }), none),
            ("/spec/template", json!({ "gateway": { "image": "other", "labels": { "a": "b" } } }), none),
            ("/spec/template/shard", json!({ "image": "other" }), none),
            ("/spec", json!({ "capacity": 50 }), (true, false)),
            ("/spec", json!({ "delivery": { "maxQueueBytes": "1Mi" } }), (true, false)),
            ("/spec/source/kafka", json!({ "history": { "window": "5s" } }), (true, false)),
            ("/spec/template/shard", json!({ "workers": 2 }), (true, false)),
            ("/spec/template/shard/env/0", json!({ "value": "2" }), (true, false)),
            ("/spec/template/shard/env/1", json!({ "name": "NODE" }), none),
            ("/spec", json!({ "gateway": { "queue": { "timeout": "9s" } } }), (false, true)),
            ("/spec/template", json!({ "gateway": { "workers": 2 } }), (false, true)),
            ("/spec", json!({ "gateway": { "allowedOrigins": ["https://example.com"] } }), (true, true)),
            ("/spec", json!({ "gateway": { "limits": { "shardTimeout": "9s" } } }), (false, true)),
            ("/spec", json!({ "gateway": { "limits": { "maxHeaders": 20 } } }), (true, true)),
            ("/spec", json!({ "drain": { "evictRate": 7 } }), (true, true)),
        ] {
            let edit = |cluster: &mut Value| {
                let at = cluster.pointer_mut(field).and_then(Value::as_object_mut).unwrap();
                at.extend(value.as_object().unwrap().clone());
            };
            assert_eq!(replaced(edit), expected, "{field} {value}");
        }
    }

    /// Everything that a process of `part` takes from a manifest.
    fn known(part: Part, spec: &WsClusterSpec) -> String {
        match part {
            Part::Shard => {
                let settings = shard::settings::Settings::new("prices-0", spec);
                format!("{:?}", shard::settings::Settings { incarnation: String::new(), ..settings })
            }
            Part::Gateway => format!("{:?}", gateway::Settings::new(spec, Duration::ZERO, false)),
        }
    }

    #[test]
    fn processes_read_the_manifest_of_their_version() {
        for (field, value) in [
            ("delivery", json!({ "coalesce": "5ms" })),
            ("delivery", json!({ "pingInterval": "5s", "pongTimeout": "10s" })),
            ("drain", json!({ "evictRate": 7 })),
        ] {
            let cluster = cluster(|cluster| cluster["spec"][field] = value);
            for part in Part::ALL {
                let revision = Revision::new(part, &cluster);
                let read = wscluster_api::manifest::parse(&revision.manifest, Path::new("cluster.yaml")).unwrap();
                assert_eq!(known(part, &read.spec), known(part, &cluster.spec));
                assert_eq!((read.metadata.name, revision.id.len()), (cluster.metadata.name.clone(), 10));
            }
        }
    }

    /// A spec with a value other than the default in each field.
    fn other() -> Value {
        let pod = json!({
            "image": "a", "imagePullPolicy": "Never", "imagePullSecrets": [{ "name": "a" }], "env": [{ "name": "A" }], "workers": 9,
            "resources": {}, "labels": { "a": "b" }, "annotations": { "a": "b" }, "nodeSelector": { "a": "b" }, "affinity": {},
            "tolerations": [{ "key": "a" }], "serviceAccountName": "a", "priorityClassName": "a", "topologySpreadConstraints":
                [{ "maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule" }],
        });
        json!({
            "shards": 9, "capacity": 9, "paused": true,
            "source": { "kafka": {
                "brokers": ["a:1"], "topics": [{ "name": "b", "channel": "b" }], "security": { "tls": {} }, "clientId": "a",
                "rack": { "value": "a" }, "history": { "window": "9s" }, "properties": { "a": "b" },
            } },
            "delivery": {
                "maxQueueBytes": "9Ki", "slowClient": "conflate", "pingInterval": "9s", "pongTimeout": "9s", "coalesce": "9s",
                "maxMessageBytes": "9Ki", "maxSubscriptions": 9,
            },
            "gateway": {
                "replicas": 9, "service": { "type": "NodePort", "port": 9, "annotations": { "a": "b" } },
                "queue": { "maxWaiting": 9, "timeout": "9s" }, "allowedOrigins": ["a://b"],
                "limits": {
                    "maxHeadBytes": "9Ki", "maxHeaders": 9, "headTimeout": "9s", "handshakeTimeout": "9s", "shardTimeout": "9s",
                },
            },
            "drain": { "evictRate": 9, "deadline": "9s", "retryAfter": { "min": "9s", "max": "9s" } },
            "rollout": { "maxInMotion": 9, "surge": false, "supervised": true },
            "rebalance": { "budget": 9 }, "autoscale": { "min": 1, "max": 9 },
            "template": { "shard": pod, "gateway": pod },
        })
    }

    /// Collects the fields below `at`, down to those without further fields in `spec`.
    fn fields(at: &str, schema: &Value, spec: &Value, found: &mut BTreeSet<String>) {
        match (schema["properties"].as_object(), spec.as_object()) {
            (Some(properties), Some(_)) if at.matches('/').count() < 3 => {
                properties.iter().for_each(|(name, below)| fields(&format!("{at}/{name}"), below, &spec[name], found));
            }
            _ => drop(found.insert(at.to_owned())),
        }
    }

    #[test]
    fn part_is_given_exactly_the_fields_that_it_reads() {
        let definition = serde_json::to_value(wscluster_api::definition()).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let spec = |value: &Value| serde_json::from_value::<WsClusterSpec>(value.clone()).unwrap();
        let given = spec(&json!({ "source": { "kafka": { "topics": [{ "name": "a", "channel": "a" }] } } }));
        let (default, other) = (serde_json::to_value(&given).unwrap(), other());
        let mut all = BTreeSet::new();
        fields("", schema, &default, &mut all);
        for field in &all {
            let value = other.pointer(field).unwrap_or_else(|| panic!("the test lacks {field}"));
            let mut edited = default.clone();
            *field[1..].split('/').fold(&mut edited, |at, step| &mut at[step]) = value.clone();
            let edited = spec(&edited);
            assert_ne!(serde_json::to_value(&edited).unwrap(), default, "{field} {value} is the default");
            for part in Part::ALL {
                let mut listed = part.fields().iter();
                let is_listed =
                    listed.any(|listed| field[1..] == **listed || field[1..].starts_with(&format!("{listed}/")));
                assert_eq!(known(part, &edited) != known(part, &given), is_listed, "{part} {field}");
            }
        }
        let gone = |listed: &&&str| !all.iter().any(|field| field[1..].starts_with(**listed));
        assert_eq!(Part::ALL.iter().flat_map(|part| part.fields()).find(gone), None);
    }
}
