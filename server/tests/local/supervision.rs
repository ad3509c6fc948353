//! Children that die are restarted on their ports; children whose parent dies end.

use rustix::process::Signal;
use serde_json::json;

use crate::run::{Run, eventually, kill, manifest, runs};

#[tokio::test]
async fn restarts_a_killed_shard_on_its_ports_and_clients_resume() {
    let run = Run::start(&manifest(2, 10, ""), &[]);
    let shard = run.ready["shards"][0].clone();
    let mut client = crate::run::Client::open(shard["ws"].as_str().unwrap()).await;
    client.subscribe(json!({ "channels": ["BTC.trade"] })).await;
    run.publish("BTC", &json!({ "n": 1 }));
    let first = client.message(|message| message["channel"] == "BTC.trade").await;

    kill(run.shard_pid(0), Signal::KILL);
    assert_eq!(client.ended().await, None, "a killed process sends no Close");
    let exited = run.event("exited");
    assert_eq!((&exited["name"], &exited["signal"]), (&json!("prices-0"), &json!(9)));
    run.publish("BTC", &json!({ "n": 2 }));
    let restarted = run.event("restarted");
    assert_eq!((&restarted["ws"], &restarted["admin"]), (&shard["ws"], &shard["admin"]));
    assert_ne!(restarted["pid"], shard["pid"]);
    run.healthy_again();

    let mut client = crate::run::Client::open(shard["ws"].as_str().unwrap()).await;
    let since = json!({ "channels": ["BTC.trade"], "since": { "BTC.trade": first["pos"] } });
    let ack = client.subscribe(since).await;
    assert_eq!(ack["recovered"]["BTC.trade"], true, "{ack}");
    let missed = client.message(|message| message["channel"] == "BTC.trade").await;
    assert_eq!((&missed["data"]["n"], &missed["replayed"]), (&json!(2), &json!(true)));
}

/// There is one gateway only, so no other can take a client.
#[tokio::test]
async fn clients_of_a_killed_gateway_wait_for_its_restart() {
    let run = Run::start(&manifest(1, 50, "  gateway: { replicas: 1 }\n"), &[]);
    kill(run.ready["gateways"][0]["pid"].as_u64().unwrap() as u32, Signal::KILL);
    assert_eq!(run.event("exited")["name"], "gateway-0");
    // No process accepts now; the gateway restarts after 0.1 s.
    for _ in 0..20 {
        run.client().await;
    }
    assert_eq!(run.event("restarted")["name"], "gateway-0");
    run.healthy_again();
}

#[test]
fn children_end_when_their_parent_is_killed() {
    let mut run = Run::start(&manifest(2, 10, ""), &[]);
    let pids = run.pids();
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|&pid| runs(pid)));
    run.signal(Signal::KILL);
    assert_eq!(run.exit_code(), None);
    eventually("all children ended", || !pids.iter().any(|&pid| runs(pid)));
}
