//! All objects of one cluster.
//!
//! Code that handles them destructures the struct without `..`, so that forgetting an object is a compile error.

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};

/// Marks objects as built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared;

/// Marks objects as returned by the API server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied;

/// The objects of one cluster; the state is [`Prepared`] or [`Applied`].
#[derive(Clone, Debug)]
pub(crate) struct Resources<S> {
    /// `None` if the template names a service account.
    pub(crate) shard_account: Option<ServiceAccount>,
    /// `None` if the template names a service account.
    pub(crate) gateway_account: Option<ServiceAccount>,
    pub(crate) gateway_role: Role,
    pub(crate) gateway_role_binding: RoleBinding,
    pub(crate) shard_config: ConfigMap,
    pub(crate) gateway_config: ConfigMap,
    /// The headless Service by which gateways discover the shards.
    pub(crate) shard_service: Service,
    /// The Service that clients connect to.
    pub(crate) gateway_service: Service,
    pub(crate) shard_policy: NetworkPolicy,
    pub(crate) gateway_policy: NetworkPolicy,
    /// `None` for a single shard.
    pub(crate) shard_budget: Option<PodDisruptionBudget>,
    /// `None` for a single gateway.
    pub(crate) gateway_budget: Option<PodDisruptionBudget>,
    pub(crate) gateways: Deployment,
    pub(crate) shards: StatefulSet,
    pub(crate) state: PhantomData<S>,
}
