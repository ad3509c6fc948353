//! The objects as the watches last saw them, one store a kind. Only objects that carry the operator's label are in it,
//! and pods that belong to them.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{Store, store, store::Writer};
use serde::Serialize;
use serde::de::DeserializeOwned;

macro_rules! kinds {
    ($($field:ident: $kind:ty,)*) => {
        /// What is there, to read.
        #[derive(Clone, Debug)]
        pub struct Live {
            $(#[doc = concat!("Every `", stringify!($kind), "`.")] pub $field: Store<$kind>,)*
        }

        /// The ends that watches write to.
        #[derive(Debug)]
        pub struct Writers {
            $(#[doc = concat!("Every `", stringify!($kind), "`.")] pub $field: Writer<$kind>,)*
        }

        /// Empty stores, and the ends that fill them.
        pub fn live() -> (Live, Writers) {
            $(let $field = store();)*
            (Live { $($field: $field.0,)* }, Writers { $($field: $field.1,)* })
        }

        $(impl Cached for $kind {
            fn store(live: &Live) -> &Store<Self> {
                &live.$field
            }
        })*
    };
}

/// A kind that is watched.
pub trait Cached:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its store.
    fn store(live: &Live) -> &Store<Self>;
}

kinds! {
    stateful_sets: StatefulSet,
    deployments: Deployment,
    pods: Pod,
    services: Service,
    service_accounts: ServiceAccount,
    roles: Role,
    role_bindings: RoleBinding,
    config_maps: ConfigMap,
    budgets: PodDisruptionBudget,
    policies: NetworkPolicy,
}
