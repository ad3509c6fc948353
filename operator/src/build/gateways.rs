//! The Deployment of the gateways. It starts a new gateway before it stops an old one, and stops one at a time.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use wscluster_api::WsCluster;

use super::container::container;
use super::labels::{label_selector, metadata};
use super::{Decided, Part, names, pod};
use crate::settings::Settings;

/// Environment variables that the operator sets.
pub(crate) const ENV: [&str; 1] = ["WSCLUSTER_DRAIN_LAG"];

/// Seconds without progress after which Kubernetes reports a rollout as stuck, in addition to `minReadySeconds`; its
/// default.
const STUCK: i32 = 600;

pub(super) fn deployment(cluster: &WsCluster, settings: &Settings, decided: Decided) -> Deployment {
    let pause = pause(cluster, settings, decided);
    Deployment {
        metadata: metadata(cluster, Part::Gateway, names::part(cluster, Part::Gateway)),
        spec: Some(DeploymentSpec {
            replicas: i32::try_from(cluster.spec.gateway.replicas).ok(),
            selector: label_selector(cluster, Part::Gateway),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            min_ready_seconds: Some(pause),
            progress_deadline_seconds: Some(pause + STUCK),
            template: template(cluster, settings),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// Seconds that a new gateway must be ready before the next old one stops: the longest drain of an old gateway,
/// because a Deployment does not wait for terminating pods. The drain lag precedes every drain, so it delays all of
/// them equally.
fn pause(cluster: &WsCluster, settings: &Settings, decided: Decided) -> i32 {
    let spec = &cluster.spec;
    let gateways = f64::from(spec.gateway.replicas.max(1));
    let share = f64::from(spec.capacity) * f64::from(decided.replicas) / gateways;
    // Moved clients spread over all other gateways, so each old gateway holds more than the one before. No pod
    // waits for the last one.
    let waited_for = i32::try_from(spec.gateway.replicas.saturating_sub(2)).unwrap_or(i32::MAX);
    let most = share * (1.0 + 1.0 / gateways).powi(waited_for);
    let moved = spec.drain.settle().as_secs_f64() + most / f64::from(spec.drain.evict_rate.max(1));
    let longest = spec.drain.deadline.0.saturating_sub(settings.drain_lag.0).as_secs_f64();
    // The API server drops 0.
    moved.min(longest).ceil().max(1.0) as i32
}

/// The pod template of the gateways.
pub(super) fn template(cluster: &WsCluster, settings: &Settings) -> PodTemplateSpec {
    let [drain_lag] = ENV;
    let env =
        vec![EnvVar { name: drain_lag.to_owned(), value: Some(settings.drain_lag.to_string()), value_from: None }];
    let shards = format!("{}/{}", names::namespace(cluster), names::shard_service(cluster));
    let container = container(cluster, settings, Part::Gateway, &["--master", "--discover", &shards], env);
    pod::template(cluster, Part::Gateway, container, settings.drain_lag.0 + cluster.spec.drain.deadline.0)
}
