//! Applies the objects of a cluster by server-side apply, and deletes objects that the cluster no longer has.
//!
//! Only built fields are sent, so fields that users or autoscalers add remain theirs. If the live object already
//! contains all of them, nothing is sent. An object that belongs to somebody else is never touched.

mod contains;
mod failure;
mod orphans;
mod patch;

use std::marker::PhantomData;

use futures_util::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use wscluster_api::WsCluster;

use crate::build::{Applied, Prepared, Resources};
use crate::caches::{Cached, Caches};

pub(crate) use failure::ApplyError;

/// Annotation with the hash of the object that was applied last.
pub(crate) const APPLIED: &str = "wscluster.dev/applied";

/// Field manager of applied objects.
pub(crate) const MANAGER: &str = "wscluster-operator";

/// Where objects are applied, and for which cluster.
#[derive(Clone, Copy)]
struct ApplyTarget<'a> {
    client: &'a Client,
    caches: &'a Caches,
    cluster: &'a WsCluster,
}

/// Applies `resources` of `cluster` in an order in which no object depends on a later one, and stops at the first
/// failure.
///
/// `caches` must be complete, and `cluster` must come from the API server. Boxed, because the future holds many
/// objects.
pub(crate) fn apply<'a>(
    client: &'a Client,
    caches: &'a Caches,
    cluster: &'a WsCluster,
    resources: Resources<Prepared>,
) -> BoxFuture<'a, Result<Resources<Applied>, ApplyError>> {
    Box::pin(all(ApplyTarget { client, caches, cluster }, resources))
}

async fn all(to: ApplyTarget<'_>, resources: Resources<Prepared>) -> Result<Resources<Applied>, ApplyError> {
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
    } = resources;
    let applied = Resources {
        shard_account: to.apply_some(shard_account).await?,
        gateway_account: to.apply_some(gateway_account).await?,
        gateway_role: to.apply(gateway_role).await?,
        gateway_role_binding: to.apply(gateway_role_binding).await?,
        shard_config: to.apply(shard_config).await?,
        gateway_config: to.apply(gateway_config).await?,
        shard_service: to.apply(shard_service).await?,
        gateway_service: to.apply(gateway_service).await?,
        shard_policy: to.apply(shard_policy).await?,
        gateway_policy: to.apply(gateway_policy).await?,
        shard_budget: to.apply_some(shard_budget).await?,
        gateway_budget: to.apply_some(gateway_budget).await?,
        gateways: to.apply(gateways).await?,
        shards: to.apply(shards).await?,
        state: PhantomData,
    };
    orphans::remove(to, &applied).await?;
    Ok(applied)
}

impl ApplyTarget<'_> {
    /// Whether `object` belongs to this cluster, and not to an earlier one with the same name.
    fn owns<K: Cached>(&self, object: &K) -> bool {
        let uid = self.cluster.metadata.uid.as_deref();
        uid.is_some() && controller(object).is_some_and(|owner| Some(owner.uid.as_str()) == uid)
    }
}

/// The controlling owner of an object.
fn controller<K: Cached>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests;
