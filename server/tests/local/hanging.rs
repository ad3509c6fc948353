//! A shard that stands still: for a while it is left alone, for long it is ended and starts again.

use rustix::process::Signal;
use serde_json::json;

use crate::run::{Run, kill, manifest, runs};

#[tokio::test]
async fn shard_that_hangs_starts_again_and_one_that_was_stopped_for_a_while_goes_on() {
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
