//! What the processes look like.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What shard and gateway processes look like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Template {
    /// Shards.
    pub shard: PodTemplate,
    /// Gateways.
    pub gateway: PodTemplate,
}

/// One kind of process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodTemplate {
    /// Container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Event loops, one thread each; absent: one per CPU the process may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// CPU and memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels added to the pods.
    pub labels: BTreeMap<String, String>,
    /// Annotations added to the pods.
    pub annotations: BTreeMap<String, String>,
    /// Node labels the pods need.
    pub node_selector: BTreeMap<String, String>,
    /// Scheduling rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints the pods bear.
    pub tolerations: Vec<Toleration>,
    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}
