//! A paused terminal or pager does not block a run.

use rustix::process::Signal;
use serde_json::json;

use crate::run::{Run, eventually, kill, manifest, runs, wscluster};

#[test]
fn supervises_and_ends_while_nobody_reads_its_log() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = wscluster();
    command.env("WSCLUSTER_LOG", "trace").stderr(writer);
    let mut run = Run::start_with(command, &manifest(2, 10, ""), &[]);
    // It holds 64 KiB, less the part of the next line that did not fit.
    eventually("the pipe is full", || rustix::io::ioctl_fionread(&reader).unwrap() >= 48 << 10);
    kill(run.shard_pid(0), Signal::KILL);
    assert_eq!(run.event("exited")["name"], "prices-0");
    assert_eq!(run.event("restarted")["name"], "prices-0");
    run.healthy_again();
    run.signal(Signal::INT);
    assert_eq!(run.event("stopping")["reason"], "SIGINT");
    assert_eq!(run.event("stopped")["killed"], json!([]));
    assert_eq!(run.exit_code(), Some(0));
    assert!(!run.pids().iter().any(|&pid| runs(pid)));
}
