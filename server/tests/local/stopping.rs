//! The end of a run: connections are moved away first, no process is left, and the exit code shows how it went.

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::run::{Client, Run, manifest, runs};

#[tokio::test]
async fn first_signal_drains_and_ends_everything() {
    let mut run = Run::start(&manifest(2, 10, ""), &[]);
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = run.client().await;
        client.subscribe(json!({ "channels": ["BTC.trade"] })).await;
        clients.push(client);
    }
    // At once: the last poll may be a quarter of a second old and lack some clients.
    run.signal(Signal::INT);
    for close in join_all(clients.into_iter().map(Client::ended)).await {
        let (code, reason) = close.expect("a Close");
        assert_eq!(code, CloseCode::Restart, "1012: {reason}");
        let hint: Value = serde_json::from_str(&reason).unwrap();
        assert!(hint["retry_after_ms"].as_u64().is_some(), "{reason}");
    }
    let stopping = run.event("stopping");
    assert_eq!((&stopping["reason"], &stopping["connections"]), (&json!("SIGINT"), &json!(6)));
    assert!(stopping["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{stopping}");
    let stopped = run.event("stopped");
    assert_eq!((&stopped["left"], &stopped["killed"]), (&json!(0), &json!([])), "{stopped}");
    assert_eq!(run.exit_code(), Some(0));
    assert!(!run.pids().iter().any(|&pid| runs(pid)), "no child is left");
}

#[tokio::test]
async fn client_that_never_answers_a_close_does_not_delay_the_end() {
    let mut run = Run::start(&manifest(1, 10, ""), &["--grace", "1s"]);
    let _silent = [run.client().await, run.client().await];
    run.signal(Signal::TERM);
    let stopped = run.event("stopped");
    assert_eq!((&stopped["left"], &stopped["killed"]), (&json!(2), &json!([])), "{stopped}");
    assert_eq!(run.exit_code(), Some(0));
    assert!(!run.pids().iter().any(|&pid| runs(pid)));
}

#[tokio::test]
async fn second_signal_ends_at_once() {
    // At one connection per second, which fits the grace period, a drain of 20 takes 20 s.
    let slow = "  drain: { evictRate: 1 }\n";
    let mut run = Run::start(&manifest(1, 50, slow), &["--grace", "60s"]);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(run.client().await);
    }
    run.signal(Signal::TERM);
    assert_eq!(run.event("stopping")["connections"], 20);
    run.signal(Signal::TERM);
    let stopped = run.event("stopped");
    assert!(!stopped["killed"].as_array().unwrap().is_empty(), "{stopped}");
    assert!(stopped["left"].as_u64().is_some_and(|left| (15..=20).contains(&left)), "{stopped}");
    assert_eq!(run.exit_code(), Some(130));
    assert!(!run.pids().iter().any(|&pid| runs(pid)));
}

#[test]
fn kills_a_hanging_child_after_the_grace_period() {
    let mut run = Run::start(&manifest(1, 10, ""), &["--grace", "1s"]);
    let stuck = run.shard_pid(0);
    crate::run::kill(stuck, Signal::STOP);
    run.signal(Signal::TERM);
    assert_eq!(run.event("stopped")["killed"], json!(["prices-0"]));
    assert_eq!(run.exit_code(), Some(1), "a child had to be killed");
    assert!(!runs(stuck));
}
