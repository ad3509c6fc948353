//! The `StatefulSet` of the shards. Its pods start in parallel and are replaced one by one as the partition moves
//! down.

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, PodTemplateSpec};
use wscluster_api::WsCluster;

use super::container::container;
use super::labels::{REVISION, label_selector, metadata};
use super::{Decided, Part, names, pod};
use crate::settings::Settings;

/// Environment variables that the operator sets.
pub(crate) const ENV: [&str; 2] = ["WSCLUSTER_NAME", "WSCLUSTER_REVISION"];

pub(super) fn stateful_set(cluster: &WsCluster, settings: &Settings, decided: Decided) -> StatefulSet {
    StatefulSet {
        metadata: metadata(cluster, Part::Shard, names::cluster(cluster)),
        spec: Some(StatefulSetSpec {
            replicas: i32::try_from(decided.replicas).ok(),
            service_name: Some(names::shard_service(cluster)),
            // In sequence, a shard that cannot become ready would block all later ones.
            pod_management_policy: Some("Parallel".to_owned()),
            selector: label_selector(cluster, Part::Shard),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: i32::try_from(decided.partition).ok(),
                    ..RollingUpdateStatefulSetStrategy::default()
                }),
            }),
            template: template(cluster, settings),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// The pod template of the shards.
pub(super) fn template(cluster: &WsCluster, settings: &Settings) -> PodTemplateSpec {
    let [name, revision] = ENV;
    let env = vec![from_pod(name, "metadata.name"), from_pod(revision, &format!("metadata.labels['{REVISION}']"))];
    let args = ["--name", &format!("$({name})"), "--revision", &format!("$({revision})")];
    let container = container(cluster, settings, Part::Shard, &args, env);
    pod::template(cluster, Part::Shard, container, cluster.spec.drain.deadline.0)
}

fn from_pod(name: &str, field: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: field.to_owned(), api_version: None }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}
