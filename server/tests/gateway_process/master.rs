//! `gateway --master`: a parent process that keeps the listening sockets.

use super::*;

fn start(file: &NamedTempFile, shard: &str) -> Running {
    Running::start(gateway(file, &["--master", "--listen", "127.0.0.1:0", "--workers", "2", "--shard", shard]))
}

/// The child of a process, other than `not`.
fn child_of(parent: u32, not: Option<i32>) -> i32 {
    let began = Instant::now();
    loop {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let child = children.split_whitespace().map(|pid| pid.parse().unwrap()).find(|pid| Some(*pid) != not);
        if let Some(child) = child {
            return child;
        }
        assert!(began.elapsed() < PATIENCE, "no other child");
        thread::yield_now();
    }
}

fn kill(pid: i32) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

/// Kills the gateway three times while clients connect. Every connection is accepted, and answered unless the killed
/// process had accepted it.
#[test]
fn refuses_no_connection_while_a_killed_gateway_restarts() {
    let (file, shard) = (manifest(&json!({})), shard());
    let running = start(&file, &shard);
    let mut tunnel = running.tunnel();
    let mut killed = child_of(running.child.id(), None);
    for _ in 0..3 {
        kill(killed);
        assert!(matches!(tunnel.read(&mut [0; 1]), Ok(0) | Err(_)), "tunnels end with their gateway");
        // No process accepts now.
        let waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(running.ws).unwrap()).collect();
        let next = child_of(running.child.id(), Some(killed));
        for stream in waiting {
            let (mut stream, head) = upgrade_on(stream);
            assert!(head.starts_with("HTTP/1.1 101"), "{head}");
            echoes(&mut stream);
            tunnel = stream;
        }
        killed = next;
    }
}

#[test]
fn forwards_signals_and_the_exit_code_of_the_gateway() {
    let (file, shard) = (impatient(), shard());
    let args = ["--master", "--listen", "127.0.0.1:0", "--drain-lag", "1m", "--shard", &shard];
    let mut running = Running::start(gateway(&file, &args));
    let tunnel = running.tunnel();
    running.signal();
    let began = Instant::now();
    while !running.get("/readyz").contains("draining") {
        assert!(began.elapsed() < PATIENCE, "the signal was not forwarded");
    }
    running.signal();
    assert_eq!(running.wait(), Some(0));
    drop(tunnel);
    assert!(TcpStream::connect(running.ws).is_err(), "the port is free");

    let (code, says) = output(&impatient(), &["--master", "--listen", "127.0.0.1:0", "--members", "/nowhere/members"]);
    assert!(code == Some(2) && says.contains("failed to read /nowhere/members"), "{says}");
}

#[test]
fn gateway_ends_when_its_master_is_killed() {
    let mut running = start(&impatient(), &shard());
    let mut tunnel = running.tunnel();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    // The tunnel ends after a Close.
    let _ = tunnel.read_to_end(&mut Vec::new());
    let began = Instant::now();
    while TcpStream::connect(running.ws).is_ok() {
        assert!(began.elapsed() < PATIENCE, "the gateway still listens");
    }
}

#[test]
fn gives_up_after_repeated_kills_of_the_gateway() {
    let mut running = start(&impatient(), &shard());
    let mut killed = None;
    for _ in 0..5 {
        let next = child_of(running.child.id(), killed);
        kill(next);
        killed = Some(next);
    }
    assert_eq!(running.wait(), Some(128 + 9), "the parent of the master sees the crash loop");
}

#[test]
fn second_signal_ends_a_stopped_gateway() {
    let mut running = start(&impatient(), &shard());
    let child = rustix::process::Pid::from_raw(child_of(running.child.id(), None)).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::STOP).unwrap();
    running.signal();
    let began = Instant::now();
    // A signal that arrives while the same one is pending has no effect.
    while running.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "the master does not end");
        running.signal();
        thread::yield_now();
    }
    assert_eq!(running.wait(), Some(128 + 9));
}
