//! `verify` passes a deployment that is as declared, and names the check that another one fails.

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Run, kill, manifest, output, wscluster};

fn verify(run: &Run, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = wscluster();
    command.args(["verify", "--output", "json", "--local", &run.ready_file()]).args(more);
    let (code, out, err) = output(&mut command);
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
}

/// Name and verdict of each check.
fn verdicts(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    checks.map(|finding| (text(&finding["check"]), text(&finding["verdict"]))).collect()
}

fn of(report: &Value, check: &str) -> Value {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|finding| finding["check"] == check).find(|f| f["verdict"] == "failed").cloned().unwrap_or_default()
}

#[test]
fn passes_a_deployment_as_declared_even_when_full() {
    let run = Run::start(&manifest(3, 20, "  gateway: { queue: { timeout: 1s } }\n"), &[]);
    let (code, report) = verify(&run, &["-f", &run.manifest_file(), "--full"]);
    assert_eq!(code, Some(0), "{report:#}");
    let names: Vec<_> = verdicts(&report).into_iter().map(|(name, verdict)| format!("{name} {verdict}")).collect();
    let expected = [
        "health ok",
        "shards ok",
        "capacity ok",
        "identity ok",
        "gateway ok",
        "balance ok",
        "delivery ok",
        "slots ok",
        "fill ok",
        "refusal ok",
        "refusal ok",
        "refusal ok",
        "refusal ok",
        "release ok",
        "reopen ok",
    ];
    assert_eq!(names, expected, "{report:#}");
    // The deployment is unchanged afterwards.
    let (code, report) = verify(&run, &["-f", &run.manifest_file()]);
    assert_eq!(code, Some(0), "{report:#}");
}

#[test]
fn fails_when_fewer_shards_or_slots_exist_than_declared() {
    let run = Run::start(&manifest(2, 20, ""), &[]);
    let (code, report) = verify(&run, &["-f", &run.manifest_file(), "--shards", "3", "--capacity", "6000"]);
    assert_eq!(code, Some(1));
    assert!(of(&report, "shards")["detail"].as_str().unwrap().starts_with("2 shards where 3 are declared"));
    assert!(of(&report, "capacity")["detail"].as_str().unwrap().contains("20 connections where 6000"));
}

#[test]
fn fails_when_a_shard_hangs() {
    let run = Run::start(&manifest(2, 20, ""), &[]);
    kill(run.shard_pid(1), Signal::STOP);
    run.event("status");
    let (code, report) = verify(&run, &["-f", &run.manifest_file(), "--timeout", "2s"]);
    assert_eq!(code, Some(1));
    assert!(of(&report, "shards")["detail"].as_str().unwrap().contains("prices-1 unreachable"), "{report:#}");
    assert!(of(&report, "identity")["detail"].as_str().unwrap().contains("prices-1"), "{report:#}");
    kill(run.shard_pid(1), Signal::CONT);
}

#[test]
fn fails_when_the_shards_read_another_broker() {
    let run = Run::start(&manifest(1, 20, ""), &[]);
    let other = Run::start(&manifest(1, 20, ""), &[]);
    let kafka = other.ready["kafka"].as_str().unwrap().to_owned();
    let (code, report) = verify(&run, &["-f", &run.manifest_file(), "--brokers", &kafka, "--timeout", "2s"]);
    assert_eq!(code, Some(1));
    assert!(of(&report, "delivery")["detail"].as_str().unwrap().contains("no message within 2s"), "{report:#}");
}

#[test]
fn distinguishes_a_wrong_command_line_from_a_failed_check() {
    let (code, _, err) = output(wscluster().args(["verify"]));
    assert_eq!(code, Some(2));
    assert!(err.contains("give --admin"), "{err}");
    let (code, out, _) = output(wscluster().args(["verify", "--admin", "127.0.0.1:1", "--timeout", "2s"]));
    assert_eq!(code, Some(1));
    assert!(out.contains("FAIL  health") && out.contains("Connection refused"), "{out}");
}
