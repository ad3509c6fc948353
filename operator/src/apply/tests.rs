//! Tests with a fake API server: the requests that are sent, and those that are not.

mod real;
mod server;

use axum::http::Method;
use serde_json::{Value, json};

use self::server::Server;
use super::*;
use crate::build::fixtures::{full, settings};
use crate::build::{Decided, Part, build, config as configs};

async fn apply_full(server: &Server, replicas: u32) -> Result<Resources<Applied>, ApplyError> {
    let cluster = full();
    let resources = build(&cluster, &settings(), Decided { replicas, partition: 0 });
    apply(&server.client, &server.caches, &cluster, resources).await
}

fn config(part: Part) -> String {
    format!("configmaps/{}", configs::name(&full(), part))
}

/// A server with all objects applied.
async fn settled() -> Server {
    let mut server = Server::start();
    apply_full(&server, 3).await.unwrap();
    server.sync();
    server.requests();
    server
}

#[tokio::test]
async fn applies_every_object_by_force_and_pods_last() {
    let server = Server::start();
    apply_full(&server, 3).await.unwrap();
    let patches: Vec<_> = server.requests().into_iter().filter(|r| r.method == Method::PATCH).collect();
    let objects: Vec<_> = patches.iter().map(|r| r.object.as_str()).collect();
    assert_eq!(
        objects,
        [
            "serviceaccounts/prices-shard",
            "roles/prices-gateway",
            "rolebindings/prices-gateway",
            &config(Part::Shard),
            &config(Part::Gateway),
            "services/prices-shards",
            "services/prices-gateway",
            "networkpolicies/prices-shard",
            "networkpolicies/prices-gateway",
            "poddisruptionbudgets/prices-shard",
            "poddisruptionbudgets/prices-gateway",
            "deployments/prices-gateway",
            "statefulsets/prices",
        ]
    );
    for patch in patches {
        assert!(patch.query.contains("force=true"), "{patch:?}");
        assert!(patch.query.contains("fieldManager=wscluster-operator"), "{patch:?}");
    }
}

#[tokio::test]
async fn asks_nothing_when_nothing_has_changed() {
    let server = settled().await;
    apply_full(&server, 3).await.unwrap();
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn writes_nothing_when_only_the_cache_is_late() {
    let server = Server::start();
    apply_full(&server, 3).await.unwrap();
    server.requests();
    apply_full(&server, 3).await.unwrap();
    assert_eq!(server.writes(), [""; 0]);
}

#[tokio::test]
async fn repairs_the_object_that_was_changed_by_hand_and_no_other() {
    type Edit = fn(&mut Value);
    let shard_config = config(Part::Shard);
    let edits: [(&str, Edit); 4] = [
        ("statefulsets/prices", |o| o["spec"]["replicas"] = json!(1)),
        (&shard_config, |o| o["data"] = json!({})),
        ("networkpolicies/prices-shard", |o| o["spec"]["ingress"].as_array_mut().unwrap().push(json!({}))),
        ("deployments/prices-gateway", |o| o["metadata"]["labels"] = json!({})),
    ];
    for (object, edit) in edits {
        let mut server = settled().await;
        server.edit(object, edit);
        server.sync();
        apply_full(&server, 3).await.unwrap();
        assert_eq!(server.writes(), [format!("PATCH {object}")]);
        server.sync();
        apply_full(&server, 3).await.unwrap();
        assert_eq!(server.requests().len(), 0, "{object} is right again");
    }
}

#[tokio::test]
async fn repairs_a_port_that_was_renumbered_by_hand() {
    let mut server = settled().await;
    server.edit("services/prices-gateway", |o| o["spec"]["ports"][0]["port"] = json!(80));
    server.sync();
    apply_full(&server, 3).await.unwrap();
    let last = server.requests().pop().unwrap();
    assert!(last.query.contains("force=true"), "ends as an apply: {last:?}");
    server.sync();
    apply_full(&server, 3).await.unwrap();
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn an_object_that_was_deleted_comes_back() {
    let mut server = settled().await;
    server.remove("services/prices-shards");
    server.sync();
    apply_full(&server, 3).await.unwrap();
    assert_eq!(server.writes(), ["PATCH services/prices-shards"]);
}

#[tokio::test]
async fn what_others_have_added_stays_and_is_not_sent() {
    let mut server = settled().await;
    server.edit("statefulsets/prices", |o| {
        o["metadata"]["annotations"]["example.com/theirs"] = json!("x");
        o["spec"]["revisionHistoryLimit"] = json!(3);
        o["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "sidecar" }));
    });
    server.sync();
    apply_full(&server, 3).await.unwrap();
    assert_eq!(server.requests().len(), 0);

    apply_full(&server, 5).await.unwrap();
    let [patch] = &server.requests()[..] else { panic!("one request") };
    assert_eq!(patch.body["spec"]["replicas"], 5);
    assert!(!patch.body.to_string().contains("theirs"));
    assert!(patch.body["spec"].get("revisionHistoryLimit").is_none());
    assert_eq!(patch.body["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_field_that_is_not_wanted_any_more_is_taken_back() {
    let server = settled().await;
    let mut cluster = full();
    cluster.spec.gateway.service.annotations.clear();
    let resources = build(&cluster, &settings(), Decided { replicas: 3, partition: 0 });
    apply(&server.client, &server.caches, &cluster, resources).await.unwrap();
    // The live object contains everything that is wanted, and an additional field.
    assert_eq!(server.writes(), ["PATCH services/prices-gateway"]);
}

#[tokio::test]
async fn refuses_an_object_of_somebody_else() {
    let owner = |kind: &str, name: &str| json!([{ "apiVersion": "v1", "kind": kind, "name": name, "uid": "1", "controller": true }]);
    for (owners, said) in [
        (Value::Null, "has no owner"),
        (owner("Deployment", "shop"), "belongs to Deployment shop"),
        (owner("WsCluster", "prices"), "a deleted WsCluster with the same name"),
    ] {
        let server = Server::start();
        server.edit("services/prices-gateway", |o| {
            *o = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "prices-gateway", "ownerReferences": owners } });
        });
        let error = apply_full(&server, 3).await.unwrap_err();
        assert_eq!(error.category().as_str(), "NameTaken");
        let text = error.to_string();
        assert!(text.contains("Service prices-gateway") && text.contains(said), "{text}");
        assert!(!server.writes().contains(&"PATCH services/prices-gateway".to_owned()));
    }
}

#[tokio::test]
async fn removes_what_it_owns_and_does_not_want_any_more() {
    let mut server = settled().await;
    let budget = |name: &str, owner: Option<&str>| {
        let owner = owner.map(|uid| json!([{ "apiVersion": "wscluster.dev/v1alpha1", "kind": "WsCluster", "name": "x", "uid": uid, "controller": true }]));
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {
                "name": name, "namespace": "market", "uid": name, "ownerReferences": owner,
                "labels": { "app.kubernetes.io/managed-by": "wscluster-operator", "app.kubernetes.io/instance": "prices" },
            },
        })
    };
    server.edit("poddisruptionbudgets/other-shard", |o| *o = budget("other-shard", Some("another")));
    server.edit("poddisruptionbudgets/loose", |o| *o = budget("loose", None));
    server.sync();

    apply_full(&server, 1).await.unwrap();
    let requests = server.requests();
    let [patch, delete] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((&patch.method, patch.object.as_str()), (&Method::PATCH, "statefulsets/prices"));
    assert_eq!((&delete.method, delete.object.as_str()), (&Method::DELETE, "poddisruptionbudgets/prices-shard"));
    assert_eq!(delete.body["preconditions"]["uid"], "poddisruptionbudgets/prices-shard");

    // The cache still contains it: a second attempt finds nothing, which is not a failure.
    apply_full(&server, 1).await.unwrap();
}

#[tokio::test]
async fn a_manifest_stays_as_long_as_a_pod_may_start_by_it() {
    let mut server = settled().await;
    let mut newer = full();
    newer.spec.capacity = 7;
    let built = build(&full(), &settings(), Decided { replicas: 3, partition: 0 });
    let pod = json!(built.shards.spec.unwrap().template.spec);
    let status = |current: &str| json!({ "replicas": 3, "currentRevision": current, "updateRevision": "new" });
    server.edit("deployments/prices-gateway", |o| o["status"] = json!({ "replicas": 3, "updatedReplicas": 3 }));
    server.edit("pods/prices-0", |o| {
        *o = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": pod,
            "metadata": { "name": "prices-0", "namespace": "market", "labels": { "app.kubernetes.io/managed-by": "wscluster-operator" } },
        });
    });
    let old = config(Part::Shard);
    let new = format!("configmaps/{}", configs::name(&newer, Part::Shard));
    let mut writes = async |current: &str| {
        server.edit("statefulsets/prices", |o| o["status"] = status(current));
        if current == "gone" {
            server.edit("statefulsets/prices", |o| o["status"] = status("new"));
            server.remove("pods/prices-0");
        }
        server.sync();
        let resources = build(&newer, &settings(), Decided { replicas: 3, partition: 0 });
        apply(&server.client, &server.caches, &newer, resources).await.unwrap();
        server.writes()
    };
    assert_eq!(writes("old").await, [format!("PATCH {new}"), "PATCH statefulsets/prices".to_owned()]);
    assert_eq!(writes("old").await, [""; 0], "its controller may make a pod of the old revision");
    assert_eq!(writes("new").await, [""; 0], "a pod of the old revision is still there");
    assert_eq!(writes("gone").await, [format!("DELETE {old}")]);
}

#[tokio::test]
async fn a_failure_names_the_object_and_stops() {
    for (code, reason) in
        [(403, "Forbidden"), (409, "Conflict"), (422, "Invalid"), (429, "Throttled"), (500, "ApiServerError")]
    {
        let server = Server::start();
        server.fail("services/prices-gateway", code);
        let error = apply_full(&server, 3).await.unwrap_err();
        assert_eq!(error.to_string(), format!("failed to apply Service prices-gateway: because ({code})"));
        assert_eq!(error.category().as_str(), reason);
        assert_eq!(server.writes().last().unwrap(), "PATCH services/prices-gateway");
    }
}

#[tokio::test]
async fn a_failed_removal_names_the_object() {
    let server = settled().await;
    server.fail("poddisruptionbudgets/prices-shard", 500);
    let error = apply_full(&server, 1).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to delete PodDisruptionBudget prices-shard: because (500)");
}
