//! Deletes objects that a cluster no longer has, such as the disruption budget after a scale-down to one pod.
//!
//! Only objects that this cluster owns are deleted, and only if they are still the ones in the cache. A manifest that
//! pods of an older revision read stays until the last of them is gone.

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Preconditions};

use super::ApplyTarget;
use super::failure::ApplyError;
use crate::build::{Applied, Resources, config};
use crate::caches::Cached;

/// Deletes the objects that this cluster owns and that are not in `applied`.
pub(super) async fn remove(from: ApplyTarget<'_>, applied: &Resources<Applied>) -> Result<(), ApplyError> {
    let Resources {
        shard_account,
        gateway_account,
        gateway_role,
        gateway_role_binding,
        shard_config,
        gateway_config,
        shard_service,
        gateway_service,
        shard_policy,
        gateway_policy,
        shard_budget,
        gateway_budget,
        gateways,
        shards,
        state: PhantomData,
    } = applied;
    from.keep_only(&[shard_account.as_ref(), gateway_account.as_ref()]).await?;
    from.keep_only(&[Some(gateway_role)]).await?;
    from.keep_only(&[Some(gateway_role_binding)]).await?;
    if is_rolled_out(shards, gateways) {
        let read = from.read_by_pods();
        from.remove_all_but::<ConfigMap>(&[read, vec![shard_config.name_any(), gateway_config.name_any()]].concat())
            .await?;
    }
    from.keep_only(&[Some(shard_service), Some(gateway_service)]).await?;
    from.keep_only(&[Some(shard_policy), Some(gateway_policy)]).await?;
    from.keep_only(&[shard_budget.as_ref(), gateway_budget.as_ref()]).await?;
    from.keep_only(&[Some(gateways)]).await?;
    from.keep_only(&[Some(shards)]).await
}

/// Whether no pod of an older revision will start any more, according to controllers that have observed the newest
/// spec.
fn is_rolled_out(shards: &StatefulSet, gateways: &Deployment) -> bool {
    let (set, deployment) = (shards.status.as_ref(), gateways.status.as_ref());
    set.is_some_and(|status| {
        status.observed_generation >= shards.metadata.generation && status.current_revision == status.update_revision
    }) && deployment.is_some_and(|status| {
        status.observed_generation >= gateways.metadata.generation && status.updated_replicas == status.replicas
    })
}

impl ApplyTarget<'_> {
    /// The `ConfigMap`s that pods refer to: without its own, a container cannot be restarted.
    fn read_by_pods(&self) -> Vec<String> {
        let pods = self.caches.pods.state();
        let pods = pods.iter().filter(|pod| pod.namespace() == self.cluster.namespace());
        pods.filter_map(|pod| pod.spec.as_ref()).flat_map(config::read_by).map(str::to_owned).collect()
    }

    /// Deletes every object of a kind that this cluster owns, except those in `kept`.
    async fn keep_only<K: Cached>(&self, kept: &[Option<&K>]) -> Result<(), ApplyError> {
        let kept: Vec<_> = kept.iter().flatten().map(|object| object.name_any()).collect();
        self.remove_all_but::<K>(&kept).await
    }

    async fn remove_all_but<K: Cached>(&self, kept: &[String]) -> Result<(), ApplyError> {
        let namespace = self.namespace();
        let orphans = K::store(self.caches).state_filter(|object| {
            object.namespace().as_deref() == Some(&namespace)
                && self.owns(object)
                && object.meta().deletion_timestamp.is_none()
                && !kept.contains(&object.name_any())
        });
        for orphan in orphans {
            let name = orphan.name_any();
            tracing::info!(kind = %K::kind(&()), name, namespace, "deleting");
            let only = Preconditions { uid: orphan.uid(), resource_version: None };
            match self.api::<K>().delete(&name, &DeleteParams::background().preconditions(only)).await {
                Ok(_) => {}
                // The object is gone or was replaced: the cache was outdated.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(source) => return Err(ApplyError::request::<K>("delete", &name, source)),
            }
        }
        Ok(())
    }
}
