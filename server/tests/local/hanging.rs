//! A stopped shard: after a short stop it continues, after a long one it is killed and restarted.

use rustix::process::Signal;
use serde_json::json;

use crate::run::{Run, kill, manifest, runs};

#[tokio::test]
async fn hanging_shard_is_restarted_and_briefly_stopped_one_continues() {
    let run = Run::start(&manifest(2, 10, ""), &[]);
    let [hangs, pauses] = [run.shard_pid(0), run.shard_pid(1)];
    kill(hangs, Signal::STOP);
    kill(pauses, Signal::STOP);
    let stopped = std::time::Instant::now();
    while stopped.elapsed() < crate::run::DEADLINE && run.health().await["shards"][1]["age_ms"].as_u64() < Some(20_000)
    {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    kill(pauses, Signal::CONT);
    let hung = run.event("hung");
    assert_eq!((&hung["name"], &hung["pid"]), (&json!("prices-0"), &json!(hangs)));
    assert!(hung["silent_ms"].as_u64() >= Some(40_000), "{hung}");
    let exited = run.event("exited");
    assert_eq!((&exited["name"], &exited["signal"]), (&json!("prices-0"), &json!(9)));
    assert_eq!(run.event("restarted")["name"], "prices-0");
    run.healthy_again();
    assert!(runs(pauses) && !runs(hangs));
}
