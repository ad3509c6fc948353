//! Edits under load: clients resume with their positions, and an audit finds no refused client and no lost record.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::run::{Run, manifest, output_of, wscluster};

const CLIENTS: u32 = 120;

/// A manifest whose shards each have room for all clients.
fn declared(shards: u32, more: &str) -> String {
    let drain = "  drain: { evictRate: 100, deadline: 30s, retryAfter: { min: 10ms, max: 200ms } }\n";
    manifest(shards, 2 * CLIENTS, &format!("{drain}{more}"))
}

/// Starts clients that stay for `hold` and are audited against the topic.
fn load(run: &Run, hold: Duration) -> Child {
    let address = |name: &str| run.ready[name].as_str().unwrap().to_owned();
    let (clients, hold) = (CLIENTS.to_string(), format!("{}s", hold.as_secs()));
    let mut command: Command = wscluster();
    command.args(["load", "--url", &format!("ws://{}/ws", address("gateway")), "--brokers", &address("kafka")]);
    command.args([
        "-c",
        &clients,
        "--rate",
        "200",
        "--hold",
        &hold,
        "--retry",
        "50",
        "--retry-base",
        "20ms",
        "--settle",
        "1ms",
    ]);
    command.args(["--channels", "K{0..9}.trade", "--topic", "odin.trades", "--publish-rate", "50", "-q", "-o", "json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the report and asserts that nothing failed or was lost.
fn assert_nothing_lost(load: Child) -> Value {
    let (code, out, err) = output_of(load);
    assert_eq!(code, Some(0), "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    for field in ["/failed", "/failed_attempts", "/audit/lost", "/audit/declared_lost", "/audit/duplicated"] {
        assert_eq!(report.pointer(field), Some(&0.into()), "{field} in {report:#}");
    }
    assert_eq!(report["connected"], CLIENTS);
    assert_eq!(report["audit"]["basis"], "topic");
    assert!(report["audit"]["expected"].as_u64() > Some(1_000), "{report:#}");
    report
}

/// Waits until all clients are connected.
async fn connected(run: &Run) {
    let end = Instant::now() + crate::run::DEADLINE;
    while run.health().await["checks"]["capacity"]["current"] != CLIENTS {
        assert!(Instant::now() < end, "not all clients connected");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn scaling_from_two_to_four_to_one_loses_no_client_and_no_record() {
    let run = Run::start(&declared(2, ""), &[]);
    let load = load(&run, Duration::from_secs(25));
    connected(&run).await;
    run.edit(&declared(4, ""));
    run.event("applied");
    assert_eq!(run.health().await["shards"].as_array().unwrap().len(), 4);
    run.edit(&declared(1, ""));
    let events = run.events_until("applied");
    let removed: Vec<_> =
        events.iter().filter(|event| event["event"] == "removed").map(|event| &event["name"]).collect();
    assert_eq!(removed, ["prices-3", "prices-2", "prices-1"], "{events:?}");
    let report = assert_nothing_lost(load);
    assert!(report["reconnected"].as_u64() > Some(30), "clients moved: {report:#}");
}

#[tokio::test]
async fn ten_edits_in_a_minute_converge_to_the_last_one() {
    const SEED: u64 = 20_261_125;
    let mut rng = StdRng::seed_from_u64(SEED);
    let run = Run::start(&declared(2, ""), &[]);
    let load = load(&run, Duration::from_mins(1));
    connected(&run).await;
    let mut edits = Vec::new();
    for edit in 0..10 {
        let shards = rng.random_range(1..5);
        let queue = ["256Ki", "512Ki"][rng.random_range(0..2)];
        let text = declared(shards, &format!("  delivery: {{ maxQueueBytes: {queue} }}\n"));
        // An edit without effect is reported as well.
        run.edit(&format!("{text}# {edit}\n"));
        edits.push((edit, shards, queue));
        // Some edits come before the previous one is applied, some after.
        run.event(if rng.random_bool(0.5) { "edited" } else { "applied" });
    }
    // The last edit differs from all before, so that its `edited` event is unique.
    run.edit(&declared(3, "  delivery: { maxQueueBytes: 1Mi }\n"));
    let last = |event: &Value| event["changes"].to_string().contains("1Mi");
    while !last(&run.event("edited")) {}
    run.event("applied");
    let health = run.health().await;
    let names: Vec<_> = health["shards"].as_array().unwrap().iter().map(|shard| &shard["id"]).collect();
    assert_eq!(names, ["prices-0", "prices-1", "prices-2"], "seed {SEED}: {edits:?}");
    assert_eq!(health["status"], "healthy", "seed {SEED}: {edits:?}: {health:#}");
    assert_nothing_lost(load);
}
