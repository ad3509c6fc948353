//! Builds every Kubernetes object of a cluster from its manifest: pure and deterministic.
//!
//! One file per object, or per piece that several share. Nothing here depends on existing objects; the two numbers
//! that do are passed in as [`Decided`]. Secrets are referred to, never read.

mod account;
mod budget;
pub(crate) mod config;
mod container;
mod gateways;
pub(crate) mod labels;
pub(crate) mod names;
mod pod;
mod policy;
mod resources;
mod service;
mod shards;

use std::marker::PhantomData;

pub(crate) use wscluster_api::Part;
use wscluster_api::WsCluster;

use crate::settings::Settings;

pub(crate) use pod::grace;
pub(crate) use resources::{Applied, Prepared, Resources};

/// The decisions of the plan that the `StatefulSet` contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    /// Replicas of the `StatefulSet`.
    pub(crate) replicas: u32,
    /// Pods below this ordinal keep their revision.
    pub(crate) partition: u32,
}

/// The revision of the shards that `cluster` asks for: a hash of their pod template and of their part of the manifest.
pub(crate) fn shard_revision(cluster: &WsCluster, settings: &Settings) -> String {
    pod::revision(&shards::template(cluster, settings))
}

/// The revision of the gateways that `cluster` asks for.
pub(crate) fn gateway_revision(cluster: &WsCluster, settings: &Settings) -> String {
    pod::revision(&gateways::template(cluster, settings))
}

/// Builds every object of `cluster`.
pub(crate) fn build(cluster: &WsCluster, settings: &Settings, decided: Decided) -> Resources<Prepared> {
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

/// Environment variables that the operator sets in the pods of a part.
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
