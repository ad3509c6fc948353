//! The objects of one cluster, one field each.
//!
//! Whoever handles them takes the struct apart without `..`, so an object that is built and not applied does not compile.

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};

/// As they are to be.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;

/// As the API server answered.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

/// The objects of one cluster.
#[derive(Clone, Debug)]
pub struct Resources<S> {
    /// Account of the shards; none where the template names one.
    pub shard_account: Option<ServiceAccount>,
    /// Account of the gateways; none where the template names one.
    pub gateway_account: Option<ServiceAccount>,
    /// What gateways may read.
    pub gateway_role: Role,
    /// Who may.
    pub gateway_role_binding: RoleBinding,
    /// Manifest of the shards.
    pub shard_config: ConfigMap,
    /// Manifest of the gateways.
    pub gateway_config: ConfigMap,
    /// Names and addresses of the shards.
    pub shard_service: Service,
    /// Where clients connect.
    pub gateway_service: Service,
    /// Who may reach shards.
    pub shard_policy: NetworkPolicy,
    /// Who may reach gateways.
    pub gateway_policy: NetworkPolicy,
    /// How many shards may be evicted at once.
    pub shard_budget: Option<PodDisruptionBudget>,
    /// How many gateways may be evicted at once; none for a single one.
    pub gateway_budget: Option<PodDisruptionBudget>,
    /// The gateways.
    pub gateways: Deployment,
    /// The shards.
    pub shards: StatefulSet,
    /// [`Prepared`] or [`Applied`].
    pub state: PhantomData<S>,
}
