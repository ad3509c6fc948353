//! `wscluster tail` as a process: its output, and its end on a signal even if its output is not read.

#![allow(clippy::unwrap_used)] // a test, also in its fixtures

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use served::{server, upgrade};

mod served;

const DEADLINE: Duration = Duration::from_mins(1);

/// A pipe with this many bytes has no room for another line of [`flood`].
const FULL: u64 = 60_000;

/// Sends messages until the client stops reading.
fn flood(mut stream: TcpStream) -> Option<()> {
    upgrade(&mut stream, "Sec-WebSocket-Protocol: wscluster.v1\r\n")?;
    let data = "x".repeat(900);
    for n in 1_u64.. {
        let text = format!(r#"{{"type":"t","channel":"a","pos":"1-0-{n}","prev":"1-0-{}","data":"{data}"}}"#, n - 1);
        let len = u16::try_from(text.len()).unwrap().to_be_bytes();
        stream.write_all(&[&[0x81, 126], &len[..], text.as_bytes()].concat()).ok()?;
    }
    Some(())
}

fn tail(more: &[&str]) -> Child {
    let url = format!("ws://{}/ws", server(flood));
    let mut command = Command::new(env!("CARGO_BIN_EXE_wscluster"));
    command.args(["tail", "a", "--output", "json", "--url", &url]).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
}

fn assert_in_order(lines: &[String]) {
    for (n, line) in (1..).zip(lines) {
        assert!(line.contains(&format!(r#""pos":"1-0-{n}","#)) && line.ends_with(r#"xxx"}"#), "{n}: {line}");
    }
}

#[test]
fn prints_every_message_in_order() {
    let mut child = tail(&["--count", "500"]);
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(lines.len(), 500);
    assert_in_order(&lines);
}

#[test]
fn ends_on_a_signal_or_after_its_time_although_nobody_reads() {
    for (more, signal) in [(&[][..], Some(Signal::TERM)), (&[], Some(Signal::INT)), (&["--for", "1s"], None)] {
        let mut child = tail(more);
        let mut stdout = child.stdout.take().unwrap();
        let end = Instant::now() + DEADLINE;
        while rustix::io::ioctl_fionread(&stdout).unwrap() < FULL {
            assert!(Instant::now() < end, "no output");
            std::thread::yield_now();
        }
        if let Some(signal) = signal {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                child.kill().unwrap();
                panic!("tail did not end: {more:?} {signal:?}");
            }
            std::thread::yield_now();
        };
        assert!(status.success(), "{status}");
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        let (lines, _half) = text.rsplit_once('\n').unwrap();
        assert_in_order(&lines.lines().map(str::to_owned).collect::<Vec<_>>());
    }
}
