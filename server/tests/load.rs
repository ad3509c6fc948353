//! `wscluster load` as a process: exit codes, worker processes, Ctrl-C.

#![allow(clippy::unwrap_used)] // a test, also in its fixtures

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use served::{server, upgrade};

mod served;

/// Upgrades, and then reads without answering.
fn serve(mut stream: TcpStream) -> Option<()> {
    upgrade(&mut stream, "")?;
    let mut buf = [0; 1_024];
    while stream.read(&mut buf).ok()? > 0 {}
    Some(())
}

fn load(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wscluster"));
    command.arg("load").args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = load(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn merges_the_results_of_worker_processes() {
    let url = format!("ws://{}/ws", server(serve));
    let args = [
        "--url",
        &url,
        "-c",
        "30",
        "--rate",
        "1000",
        "--hold",
        "1ms",
        "--settle",
        "10ms",
        "--processes",
        "3",
        "-o",
        "json",
    ];
    let (code, out, err) = run(&args);
    assert_eq!(code, Some(0), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    for field in ["planned", "started", "connected", "attempts", "opened"] {
        assert_eq!(report[field], 30, "{field} in {report}");
    }
    assert_eq!(report["failed"], 0);
    assert_eq!(report["latency_ms"]["upgrade"]["count"], 30);
    assert_eq!((&report["generator"]["processes"], &report["generator"]["threads"]), (&3.into(), &3.into()));
}

#[test]
fn exits_with_1_when_a_threshold_is_crossed() {
    let url = format!("ws://{}/ws", server(serve));
    let quick = ["-c", "1", "--hold", "1ms", "--settle", "1ms", "-q"];
    let with = |threshold| [&["--url", url.as_str()], &quick[..], &["--fail-on", threshold]].concat();
    assert_eq!(run(&with("failed>0")).0, Some(0));
    let (code, out, err) = run(&with("connected>=1"));
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("crossed: connected>=1 (it is 1)"), "{err}");
}

#[test]
fn exits_with_1_when_no_client_connected_and_no_threshold_was_given() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{nobody}/ws");
    let (code, out, err) = run(&["--url", &url, "-c", "2", "--hold", "1ms", "-q"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert_eq!(err, format!("error: none of 2 clients connected to {url}: refused\n"));
    // If a threshold is given, it alone determines the exit code.
    assert_eq!(run(&["--url", &url, "-c", "2", "--hold", "1ms", "-q", "--fail-on", "connected>0"]).0, Some(0));
}

#[test]
fn exits_with_2_and_a_remedy_when_the_command_line_is_wrong() {
    let url = "ws://127.0.0.1:9/ws";
    for (args, says) in [
        (&[][..], "--url"),
        (&["http://127.0.0.1:9/"], "ws://"),
        (&["--url", url, "--fail-on", "faild>0"], "latency_ms.upgrade.p99"),
        (&["--url", url, "--rate", "0"], "0.001 or more"),
        (&["--url", url, "--churn", "1e-20"], "0.001 or more"),
        (&["--url", url, "-c", "0"], "1 to 1000000"),
        (&["--url", url, "--channels", "K{2..1}"], "K{0..99}.trade"),
        (&["--url", url, "--processes", "1", "-c", "900000"], "or 0 for as many as needed"),
        (&["--url", url, "--brokers", "127.0.0.1:9"], "--topic"),
        (&["--url", url, "--brokers", "127.0.0.1:9", "--topic", "t"], "--channels"),
        (&["--url", url, "-H", "no header"], "'Cookie=a=b'"),
        (&["--find-capacity", "--limit", "p98=1"], "p99=50ms"),
    ] {
        let (code, out, err) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {out}{err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
}

#[test]
fn takes_old_spellings_with_a_hint() {
    let (code, _, err) = run(&["ws://127.0.0.1:9/ws", "--kafka", "127.0.0.1:9", "--topic", "t"]);
    assert_eq!(code, Some(2), "{err}");
    let lines: Vec<_> = err.lines().collect();
    let hints = ["hint: the URL of load is now given by --url URL", "hint: --kafka is now --brokers"];
    assert_eq!(lines[..2], hints, "{err}");
    assert!(lines[2].starts_with("error: --topic needs --channels"), "{err}");
}

#[test]
fn prints_its_report_when_interrupted() {
    let url = format!("ws://{}/ws", server(serve));
    let child = load(&["--url", &url, "-c", "2", "--hold", "1h", "--settle", "1ms", "--processes", "2", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    let mut child = child;
    // After the first progress line, the signal handler is installed.
    let mut byte = [0];
    child.stderr.as_mut().unwrap().read_exact(&mut byte).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["interrupted"], &report["failed"]), (&true.into(), &0.into()), "{report}");
}
