//! What the processes look like.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What shard and gateway processes look like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// Shards.
    pub shard: PodTemplate,
    /// Gateways.
    pub gateway: PodTemplate,
}

/// One kind of process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplate {
    /// Container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When to pull the image; absent: as Kubernetes decides from its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets to pull the image with.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Further environment variables, such as those that `source.kafka.security` names.
    pub env: Vec<EnvVar>,
    /// Event loops, one thread each; absent: one per CPU the process may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
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
    /// How the pods spread over zones and nodes.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Service account of the pods; absent: one without any right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never; the node must have it.
    Never,
}
