//! Edits of the manifest during a run: which processes they replace, and how a bad edit is rejected.

use rustix::process::Signal;
use serde_json::{Value, json};
use wscluster_admin::client::Method;

use crate::run::{Client, DEADLINE, Run, kill, manifest, runs};

const QUICK: &str = "  drain: { evictRate: 1000, deadline: 2s, retryAfter: { min: 10ms, max: 100ms } }\n";

/// `manifest` with short drains and `more` in its spec.
fn quick(shards: u32, more: &str) -> String {
    manifest(shards, 50, &format!("{QUICK}{more}"))
}

fn steps(events: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = events.iter().filter(|event| event["event"] == "step");
    steps.map(|step| (text(&step["name"]), text(&step["action"]))).collect()
}

/// The `/health` answer of each shard.
async fn shards(run: &Run) -> Vec<Value> {
    let health = run.health().await;
    let processes = health["processes"].as_array().unwrap().clone();
    let mut answers = Vec::new();
    for shard in processes.iter().filter(|process| process["part"] == "shard") {
        let admin = shard["admin"].as_str().unwrap();
        answers.push(wscluster_admin::client::get_json(admin, "/health", DEADLINE).await.unwrap());
    }
    answers
}

async fn revisions(run: &Run) -> Vec<String> {
    shards(run).await.iter().map(|health| health["revision"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_shard_counts_the_gateways_that_poll_it() {
    let run = Run::start(&quick(2, "  gateway: { replicas: 3 }\n"), &[]);
    let all_know = async { while shards(&run).await.iter().any(|health| health["gateways"] != 3) {} };
    tokio::time::timeout(DEADLINE, all_know).await.expect("in time");
}

#[tokio::test]
async fn shards_are_replaced_one_by_one_from_the_highest_ordinal() {
    let run = Run::start(&quick(3, ""), &[]);
    let before = revisions(&run).await;
    run.edit(&quick(3, "  template: { shard: { env: [ { name: RUST_BACKTRACE, value: full } ] } }\n"));
    let edited = run.event("edited");
    assert!(edited["changes"][0].as_str().unwrap().starts_with("spec.template.shard.env"), "{edited}");
    let events = run.events_until("applied");
    let expected =
        [("2", "drain"), ("2", "restart"), ("1", "drain"), ("1", "restart"), ("0", "drain"), ("0", "restart")];
    let expected: Vec<_> = expected.map(|(n, action)| (format!("prices-{n}"), action.to_owned())).into();
    assert_eq!(steps(&events), expected, "{events:?}");
    let started: Vec<_> = events.iter().filter(|event| event["event"] == "started").collect();
    assert_eq!(started.len(), 3, "{events:?}");
    for (started, ordinal) in started.iter().zip([2, 1, 0]) {
        let was = &run.ready["shards"][ordinal];
        assert_eq!((&started["name"], &started["ws"]), (&was["name"], &was["ws"]), "the ports stay the same");
        let environ = std::fs::read(format!("/proc/{}/environ", started["pid"])).unwrap();
        assert!(String::from_utf8_lossy(&environ).contains("RUST_BACKTRACE=full"));
    }
    let after = revisions(&run).await;
    assert!(after.iter().all(|revision| *revision == after[0] && *revision != before[0]), "{before:?} {after:?}");
    let gateways = run.ready["gateways"].as_array().unwrap();
    assert!(gateways.iter().all(|gateway| runs(gateway["pid"].as_u64().unwrap() as u32)), "gateways are not replaced");
}

#[tokio::test]
async fn gateways_are_replaced_on_their_shared_port() {
    let run = Run::start(&quick(1, ""), &[]);
    run.edit(&quick(1, "  gateway: { queue: { timeout: 9s } }\n"));
    let events = run.events_until("applied");
    let expected = [("2", "start"), ("1", "remove"), ("3", "start"), ("0", "remove")];
    let expected: Vec<_> = expected.map(|(n, action)| (format!("gateway-{n}"), action.to_owned())).into();
    assert_eq!(steps(&events), expected, "{events:?}");
    assert!(runs(run.shard_pid(0)), "shards are not replaced");
    assert!(!run.ready["gateways"].as_array().unwrap().iter().any(|old| runs(old["pid"].as_u64().unwrap() as u32)));
    let mut client = run.client().await;
    client.subscribe(json!({ "channels": ["BTC.trade"] })).await;
    run.publish("BTC", &json!({ "n": 1 }));
    assert_eq!(client.message(|message| message["channel"].is_string()).await["data"]["n"], 1);
}

#[tokio::test]
async fn running_gateways_take_an_edited_drain_rate() {
    let run = Run::start(&quick(1, ""), &[]);
    run.edit(&manifest(1, 50, "  drain: { evictRate: 7 }\n  paused: true\n"));
    run.event("edited");
    let admin = run.ready["gateways"][1]["admin"].as_str().unwrap();
    let control = run.control();
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let answer = control.send(Method::PUT, admin, "/drain", Some(&json!({}))).await.unwrap();
        if serde_json::from_slice::<Value>(&answer).unwrap()["drain"]["evictRate"] == 7 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{answer:?}");
    }
}

#[tokio::test]
async fn rejects_a_bad_edit_with_field_value_and_remedy_and_changes_nothing() {
    let run = Run::start(&quick(2, ""), &[]);
    let good = quick(2, "");
    for (text, words) in [
        (good.replace("capacity: 50", "capacity: 0"), vec!["spec.capacity", "0", "1"]),
        (good.replace("shards:", "shardz:"), vec!["shardz"]),
        (
            good.replace("      topics:", "      properties: { no.such.property: \"1\" }\n      topics:"),
            vec!["no.such.property"],
        ),
        (good[..good.len() / 2].to_owned(), vec!["cluster.yaml"]),
        (good.replace("name: prices", "name: trades"), vec!["metadata.name", "prices → trades", "start it again"]),
        (
            format!("{good}  gateway: {{ service: {{ port: 9999 }} }}\n      brokers: [kafka:9092]\n"),
            vec!["cluster.yaml"],
        ),
    ] {
        run.edit(&text);
        let refused = run.event("edit_refused");
        for word in words {
            assert!(refused["error"].as_str().unwrap().contains(word), "{word:?} is not in: {refused}");
        }
    }
    std::fs::remove_file(run.manifest_file()).unwrap();
    let refused = run.event("edit_refused");
    assert!(refused["error"].as_str().unwrap().contains("No such file"), "{refused}");
    assert!(run.pids().iter().all(|&pid| runs(pid)), "no process was replaced");

    // A child that dies now restarts with the applied manifest, not with the file.
    kill(run.shard_pid(1), Signal::KILL);
    assert_eq!(run.event("restarted")["name"], "prices-1");
    run.healthy_again();
    run.edit(&good);
    assert_eq!(run.event("edited")["changes"], json!([]));
    run.event("applied");
}

#[tokio::test]
async fn reverted_edit_cancels_its_drain() {
    let slow = "  drain: { evictRate: 1, deadline: 60s }\n";
    let run = Run::start(&manifest(2, 50, slow), &[]);
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(run.client().await);
    }
    run.edit(&manifest(1, 50, slow));
    let events = run.events_until("step");
    assert_eq!(steps(&events), [("prices-1".to_owned(), "drain".to_owned())]);
    run.edit(&manifest(2, 50, slow));
    let events = run.events_until("applied");
    assert_eq!(steps(&events), [("prices-1".to_owned(), "undrain".to_owned())], "{events:?}");
    assert!(runs(run.shard_pid(1)), "the shard never ended");
    let health = run.health().await;
    assert!(health["checks"]["capacity"]["current"].as_u64() >= Some(25), "{health}");
}

#[tokio::test]
async fn serves_and_applies_edits_while_a_topic_is_missing() {
    let kafka = Run::start(&manifest(1, 10, ""), &[]);
    let brokers = ["--brokers", kafka.ready["kafka"].as_str().unwrap()];
    let later = "        - { name: later, channel: \"{key}.later\" }\n";
    let run = Run::start(&manifest(1, 50, &format!("{later}{QUICK}")), &brokers);
    let status = run.event("status");
    assert_eq!(status["status"], "degraded");
    assert!(status["reasons"][0].as_str().unwrap().contains("later"), "{status}");
    run.edit(&manifest(2, 50, &format!("{later}{QUICK}")));
    assert_eq!(steps(&run.events_until("applied")), [("prices-1".to_owned(), "start".to_owned())]);
    assert_eq!(run.health().await["status"], "degraded", "the missing topic does not block the edit");
    run.edit(&quick(2, ""));
    run.event("applied");
    run.healthy_again();
}

#[tokio::test]
async fn pause_holds_the_steps_of_an_edit() {
    let run = Run::start(&quick(1, ""), &[]);
    run.edit(&quick(3, "  paused: true\n"));
    assert_eq!(run.event("blocked")["reason"], "the cluster is paused");
    assert_eq!(run.health().await["shards"].as_array().unwrap().len(), 1);
    run.edit(&quick(3, ""));
    assert_eq!(steps(&run.events_until("applied")).len(), 2);
    assert_eq!(run.health().await["shards"].as_array().unwrap().len(), 3);
    let added = run.health().await["shards"][2]["address"].as_str().unwrap().to_owned();
    Client::open(&added).await.subscribe(json!({ "channels": ["BTC.trade"] })).await;
}

#[test]
fn rollout_of_a_revision_that_cannot_start_stops_at_the_first_shard_and_reverts_by_an_edit() {
    let run = Run::start(&quick(2, ""), &[]);
    run.edit(&quick(2, "  template: { shard: { env: [ { name: WSCLUSTER_LOG, value: \"a=b=c\" } ] } }\n"));
    let failed = run.event("spawn_failed");
    assert_eq!(failed["name"], "prices-1", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("a=b=c"), "{failed}");
    run.event("crash_loop");
    assert!(runs(run.shard_pid(0)), "the other shard still serves");
    run.edit(&quick(2, ""));
    let events = run.events_until("applied");
    assert_eq!(steps(&events), [("prices-1".to_owned(), "restart".to_owned())], "{events:?}");
    assert!(runs(run.shard_pid(0)));
    run.healthy_again();
}

#[tokio::test]
async fn autoscale_follows_the_connections() {
    let rules = "autoscale: { min: 1, max: 3, targetUtilization: 50, scaleDown: { window: 0s, interval: 0s } }";
    let run = Run::start(&quick(3, &format!("  {rules}\n")), &[]);
    assert_eq!(run.ready["shards"].as_array().unwrap().len(), 1, "{}", run.ready);
    let mut clients = Vec::new();
    for _ in 0..26 {
        clients.push(run.client().await);
    }
    let scaled = run.event("scaled");
    assert_eq!((&scaled["from"], &scaled["to"], &scaled["reason"]), (&json!(1), &json!(2), &json!("26 connections")));
    let events = run.events_until("started");
    assert_eq!(steps(&events), [("prices-1".to_owned(), "start".to_owned())], "{events:?}");
    drop(clients);
    let scaled = run.event("scaled");
    assert_eq!((&scaled["from"], &scaled["to"]), (&json!(2), &json!(1)), "{scaled}");
    assert_eq!(run.event("removed")["name"], "prices-1");
}

#[tokio::test]
async fn rebalance_moves_connections_to_a_new_shard() {
    let run = Run::start(&quick(2, ""), &[]);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..40 {
        clients.spawn(run.client().await.ended());
    }
    let rules = "  rebalance: { maxImbalance: 20, evictRate: 1000, budget: 100 }\n";
    run.edit(&quick(3, rules));
    while run.event("step")["action"] != "evict" {}
    // Two shards keep at most 16 each, a fifth more than a third of forty. The other clients get a Close and
    // reconnect.
    while run.health().await["shards"][2]["connections"].as_u64() < Some(40 - 2 * 16) {
        while let Some(ended) = clients.try_join_next() {
            let (code, reason) = ended.unwrap().expect("a Close");
            assert_eq!(u16::from(code), 1012);
            assert!(reason.contains("retry_after_ms"), "{reason}");
            clients.spawn(run.client().await.ended());
        }
    }
    assert!(runs(run.shard_pid(0)) && runs(run.shard_pid(1)), "no shard was restarted");
}
