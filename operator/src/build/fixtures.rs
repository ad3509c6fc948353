//! Clusters for tests, and built objects as plain data.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;
use wscluster_api::units::Span;
use wscluster_api::{WsCluster, manifest};

use super::Resources;
use crate::settings::Settings;

/// The folder with manifests and snapshots.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots");

/// The smallest cluster that can run.
pub(crate) fn cluster() -> WsCluster {
    static LEAST: LazyLock<WsCluster> = LazyLock::new(|| read("least"));
    LEAST.clone()
}

/// A cluster that sets every field.
pub(crate) fn full() -> WsCluster {
    static FULL: LazyLock<WsCluster> = LazyLock::new(|| read("full"));
    FULL.clone()
}

fn read(name: &str) -> WsCluster {
    let mut cluster = manifest::read(&Path::new(FOLDER).join(format!("{name}.yaml"))).unwrap();
    cluster.metadata.uid = Some("8f6ad0f2-5d5b-4a57-9d41-0f6a3d5b7c11".to_owned());
    cluster
}

/// The settings of the operator in tests.
pub(crate) fn settings() -> Settings {
    Settings {
        image: "wscluster:0.1.0".to_owned(),
        image_pull_policy: None,
        namespaces: Vec::new(),
        own_namespace: "wscluster-system".to_owned(),
        metrics_namespaces: Vec::new(),
        health_check_ranges: Vec::new(),
        drain_lag: Span::secs(15),
    }
}

/// Every object, in the order in which they are applied.
pub(crate) fn objects<S>(resources: &Resources<S>) -> Vec<Value> {
    fn json(object: &impl Serialize) -> Value {
        serde_json::to_value(object).unwrap()
    }
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
    let objects = [
        json(shard_account),
        json(gateway_account),
        json(gateway_role),
        json(gateway_role_binding),
        json(shard_config),
        json(gateway_config),
        json(shard_service),
        json(gateway_service),
        json(shard_policy),
        json(gateway_policy),
        json(shard_budget),
        json(gateway_budget),
        json(gateways),
        json(shards),
    ];
    objects.into_iter().filter(|object| !object.is_null()).collect()
}
