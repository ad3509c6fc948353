//! Puts the objects of a cluster in place by server-side apply, and removes those that it does not have any more.
//!
//! Only fields that are built are sent, so what people or autoscalers add stays theirs. Where the live object already carries all of
//! it, nothing is sent. An object that is somebody else's is never touched.

mod failure;
mod orphans;
mod patch;
mod same;

use std::marker::PhantomData;

use futures_util::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use wscluster_api::WsCluster;

use crate::build::{Applied, Prepared, Resources};
use crate::live::{Cached, Live};

pub use failure::ApplyError;

/// Annotation with the hash of what was applied last.
pub const APPLIED: &str = "wscluster.dev/applied";

/// Field manager of everything that is applied.
pub const MANAGER: &str = "wscluster-operator";

/// Where objects are applied, and for whom.
#[derive(Clone, Copy)]
struct Target<'a> {
    client: &'a Client,
    live: &'a Live,
    cluster: &'a WsCluster,
}

/// Applies `resources` of `cluster`, in an order in which none waits for a later one, and stops at the first that fails.
///
/// `live` must have listed once; `cluster` must come from the API server.
///
/// Boxed, as it holds many objects.
pub fn apply<'a>(
    client: &'a Client,
    live: &'a Live,
    cluster: &'a WsCluster,
    resources: Resources<Prepared>,
) -> BoxFuture<'a, Result<Resources<Applied>, ApplyError>> {
    Box::pin(all(Target { client, live, cluster }, resources))
}

async fn all(to: Target<'_>, resources: Resources<Prepared>) -> Result<Resources<Applied>, ApplyError> {
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

impl Target<'_> {
    /// Whether `object` belongs to this very cluster, not to an earlier one of its name.
    fn owns<K: Cached>(&self, object: &K) -> bool {
        let uid = self.cluster.metadata.uid.as_deref();
        uid.is_some() && controller(object).is_some_and(|owner| Some(owner.uid.as_str()) == uid)
    }
}

/// The one owner that looks after an object.
fn controller<K: Cached>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests;
