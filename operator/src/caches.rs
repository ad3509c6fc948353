//! Caches of the watched objects, one per kind: objects with the operator's label, and the pods that belong to them.

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
        /// The caches, for reading.
        #[derive(Clone, Debug)]
        pub(crate) struct Caches {
            $(pub(crate) $field: Store<$kind>,)*
        }

        /// The writers of the caches, for the watches.
        #[derive(Debug)]
        pub(crate) struct CacheWriters {
            $(pub(crate) $field: Writer<$kind>,)*
        }

        /// Empty caches and their writers.
        pub(crate) fn caches() -> (Caches, CacheWriters) {
            $(let $field = store();)*
            (Caches { $($field: $field.0,)* }, CacheWriters { $($field: $field.1,)* })
        }

        $(impl Cached for $kind {
            fn store(caches: &Caches) -> &Store<Self> {
                &caches.$field
            }
        })*
    };
}

/// A watched kind.
pub(crate) trait Cached:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The cache of this kind.
    fn store(caches: &Caches) -> &Store<Self>;
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
