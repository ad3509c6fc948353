//! The pods of shards and gateways.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pod settings of shards and gateways. `wscluster local` uses only `workers`, and `env` entries with a plain `value`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// Pods of the shards.
    pub shard: PodTemplate,
    /// Pods of the gateways.
    pub gateway: PodTemplate,
}

/// Settings of the pods of shards or of gateways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplate {
    /// Container image. Default: the image that the operator is configured with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// When to pull the image. Default: Kubernetes decides by the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets for pulling the image.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Additional environment variables, such as those that `source.kafka.security` refers to.
    pub env: Vec<EnvVar>,
    /// Number of event-loop threads. Default: one per CPU that the process may use, or 1 with `wscluster local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<u32>,
    /// CPU and memory. Default: requests that follow from the capacity, and no limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Additional labels of the pods.
    pub labels: BTreeMap<String, String>,
    /// Additional annotations of the pods.
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have to run the pods.
    pub node_selector: BTreeMap<String, String>,
    /// Scheduling affinity of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Node taints that the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// How the pods spread over zones and nodes. Default: evenly if possible, unless `affinity` is set.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Service account of the pods. Default: one that the operator creates; that of the shards has no permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// When to pull the image. Default: Kubernetes decides by the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// If the node does not have the image.
    IfNotPresent,
    /// Never; the node must have the image.
    Never,
}
