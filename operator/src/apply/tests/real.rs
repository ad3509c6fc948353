//! Tests against the API server of KUBECONFIG: `contains` considers an object that it has normalized as unchanged.
//!
//! `cargo test -p wscluster-operator --lib real -- --ignored`; it installs the definition and works in a namespace of
//! its own.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use serde_json::json;
use wscluster_api::definition;

use super::*;
use crate::build::fixtures::{cluster, objects};
use crate::caches::caches;

const DECIDED: Decided = Decided { replicas: 2, partition: 0 };
const CLUSTERS: &str = "wsclusters.wscluster.dev";

/// A namespace with a `WsCluster` that a running operator ignores.
async fn prepare(client: &Client, mut cluster: WsCluster) -> WsCluster {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let ours = PatchParams::apply("wscluster-tests").force();
    definitions.patch(CLUSTERS, &ours, &Patch::Apply(definition())).await.unwrap();
    let established = await_condition(definitions, CLUSTERS, is_crd_established());
    tokio::time::timeout(Duration::from_secs(30), established).await.unwrap().unwrap();

    let namespace = format!("apply-{:08x}", rand::random::<u32>());
    let restricted = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let object = serde_json::from_value(json!({ "metadata": { "name": namespace, "labels": restricted } })).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
    cluster.metadata.namespace = Some(namespace.clone());
    cluster.metadata.uid = None;
    cluster.spec.paused = true;
    Api::namespaced(client.clone(), &namespace).create(&PostParams::default(), &cluster).await.unwrap()
}

async fn clear(client: &Client, cluster: &WsCluster) {
    let namespace = cluster.metadata.namespace.as_deref().unwrap();
    Api::<Namespace>::all(client.clone()).delete(namespace, &DeleteParams::background()).await.unwrap();
}

async fn apply_now(client: &Client, cluster: &WsCluster) -> Resources<Applied> {
    let (nothing_seen, _) = caches();
    apply(client, &nothing_seen, cluster, build(cluster, &settings(), DECIDED)).await.unwrap()
}

#[tokio::test]
#[ignore = "needs KUBECONFIG"]
async fn what_was_applied_is_not_applied_again() {
    let client = Client::try_default().await.unwrap();
    for cluster in [cluster(), full()] {
        let cluster = prepare(&client, cluster).await;
        let applied = apply_now(&client, &cluster).await;
        clear(&client, &cluster).await;

        // The object as a watch would deliver it, with a server that refuses every request.
        let mut server = Server::start();
        for (i, object) in objects(&applied).into_iter().enumerate() {
            server.edit(&format!("objects/{i}"), |o| *o = object);
        }
        server.sync();
        apply(&server.client, &server.caches, &cluster, build(&cluster, &settings(), DECIDED)).await.unwrap();
        assert_eq!(server.writes(), [""; 0]);
    }
}

#[tokio::test]
#[ignore = "needs KUBECONFIG"]
async fn a_renumbered_port_is_ours_again_and_what_others_added_stays() {
    let client = Client::try_default().await.unwrap();
    let cluster = prepare(&client, full()).await;
    apply_now(&client, &cluster).await;

    let services = Api::<Service>::namespaced(client.clone(), cluster.metadata.namespace.as_deref().unwrap());
    let edit = json!({
        "metadata": { "annotations": { "example.com/theirs": "x" } },
        "spec": { "ports": [{ "name": "ws", "port": 80, "targetPort": "ws" }], "sessionAffinity": "ClientIP" },
    });
    let theirs = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    services.patch("prices-gateway", &theirs, &Patch::Merge(edit)).await.unwrap();

    let service = apply_now(&client, &cluster).await.gateway_service;
    clear(&client, &cluster).await;
    let spec = service.spec.unwrap();
    let ports: Vec<_> = spec.ports.unwrap().into_iter().map(|port| port.port).collect();
    assert_eq!(ports, [443]);
    assert_eq!(spec.session_affinity.as_deref(), Some("ClientIP"));
    assert_eq!(service.metadata.annotations.unwrap()["example.com/theirs"], "x");
}

#[tokio::test]
#[ignore = "needs KUBECONFIG"]
async fn pods_are_admitted_where_only_restricted_ones_are() {
    let client = Client::try_default().await.unwrap();
    let cluster = prepare(&client, cluster()).await;
    let applied = apply_now(&client, &cluster).await;
    let templates = [applied.shards.spec.unwrap().template, applied.gateways.spec.unwrap().template];
    let pods = Api::<Pod>::namespaced(client.clone(), cluster.metadata.namespace.as_deref().unwrap());
    let try_only = PostParams { dry_run: true, ..PostParams::default() };
    for template in templates {
        let mut pod: Pod = serde_json::from_value(serde_json::to_value(template).unwrap()).unwrap();
        pod.metadata.name = Some("tried".to_owned());
        pods.create(&try_only, &pod).await.unwrap();
    }
    clear(&client, &cluster).await;
}
