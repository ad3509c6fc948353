//! Every object of a cluster, from its manifest: pure, and the same each time.
//!
//! One file an object, or a piece that several share. Nothing here knows what is there already: the two figures that were
//! decided from it come in as [`Decided`]. Secrets are named, never read.

mod account;
mod budget;
pub mod config;
mod container;
mod gateways;
pub mod labels;
pub mod names;
mod pod;
mod policy;
mod resources;
mod service;
mod shards;

use std::marker::PhantomData;

pub use wscluster_api::Part;
use wscluster_api::WsCluster;

use crate::settings::Settings;

pub(crate) use pod::grace;
pub use resources::{Applied, Prepared, Resources};

/// What was decided about the shards, apart from what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Replicas of the `StatefulSet`.
    pub replicas: u32,
    /// Pods below this ordinal stay on the revision they have.
    pub partition: u32,
}

/// The revision of shards that are as `cluster` wants them: a hash of their pod template and of their part of the manifest.
pub fn shard_revision(cluster: &WsCluster, settings: &Settings) -> String {
    pod::revision(&shards::template(cluster, settings))
}

/// The revision of gateways that are as `cluster` wants them.
pub fn gateway_revision(cluster: &WsCluster, settings: &Settings) -> String {
    pod::revision(&gateways::template(cluster, settings))
}

/// Every object of `cluster`.
pub fn build(cluster: &WsCluster, settings: &Settings, decided: Decided) -> Resources<Prepared> {
    Resources {
        shard_account: account::account(cluster, Part::Shard),
        gateway_account: account::account(cluster, Part::Gateway),
        gateway_role: account::role(cluster),
        gateway_role_binding: account::role_binding(cluster),
        shard_config: config::config_map(cluster, Part::Shard),
        gateway_config: config::config_map(cluster, Part::Gateway),
        shard_service: service::shards(cluster),
        gateway_service: service::gateways(cluster),
        shard_policy: policy::shards(cluster, settings),
        gateway_policy: policy::gateways(cluster, settings),
        shard_budget: budget::budget(cluster, Part::Shard, decided.replicas),
        gateway_budget: budget::budget(cluster, Part::Gateway, cluster.spec.gateway.replicas),
        gateways: gateways::deployment(cluster, settings, decided),
        shards: shards::stateful_set(cluster, settings, decided),
        state: PhantomData,
    }
}

/// Environment variables that a part gets from here.
pub(crate) fn reserved_env(part: Part) -> &'static [&'static str] {
    match part {
        Part::Shard => &shards::ENV,
        Part::Gateway => &gateways::ENV,
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
