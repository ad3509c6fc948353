//! The end of a gateway, and a drain without an end.

use super::*;

#[test]
fn serves_until_the_lag_is_over_and_ends_at_once_on_the_second_signal() {
    let (file, shard) = (impatient(), shard());
    let mut running =
        Running::start(gateway(&file, &["--listen", "127.0.0.1:0", "--drain-lag", "1m", "--shard", &shard]));
    let mut tunnel = running.tunnel();
    running.signal();
    let began = Instant::now();
    while !running.get("/readyz").contains("draining") {
        assert!(began.elapsed() < PATIENCE, "the gateway stays ready");
    }
    echoes(&mut tunnel);
    echoes(&mut running.tunnel());
    running.signal();
    assert_eq!(running.wait(), Some(0));
    assert!(matches!(tunnel.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn asks_clients_to_reconnect_on_sigterm_and_ends_when_they_have_left() {
    let mut running = Running::in_front_of(&impatient(), &shard());
    let mut tunnel = running.tunnel();
    let answer = running.ask("PUT", "/drain", r#"{"evictRate": 77}"#);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"evictRate\":77"), "{answer}");
    frame_echoes(&mut tunnel);
    running.signal();
    assert_closed_with_retry(&mut tunnel);
    drop(tunnel);
    assert_eq!(running.wait(), Some(0));
    let mut log = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("closing") && log.contains("tunnels=0"), "{log}");
    assert!(log.contains("evict_rate=77"), "{log}");
}

#[test]
fn drains_on_an_admin_request_and_cancels_the_drain() {
    let running = Running::in_front_of(&impatient(), &shard());
    let mut tunnel = running.tunnel();
    let answer = running.ask("POST", "/drain", r#"{"evictRat": 1}"#);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("evictRat"), "{answer}");
    assert!(running.ask("POST", "/drain", r#"{"evictRate": 1000}"#).starts_with("HTTP/1.1 202"));
    assert_closed_with_retry(&mut tunnel);
    assert!(running.get("/health").contains("\"state\":\"draining\""));
    let (_, head) = running.upgrade();
    assert!(head.contains("X-Wscluster-Reason: draining"), "{head}");
    assert!(running.ask("DELETE", "/drain", "").starts_with("HTTP/1.1 200"));
    assert!(running.get("/readyz").starts_with("HTTP/1.1 200"));
    echoes(&mut running.tunnel());
}

/// Open connections are closed with 1012, and new ones are accepted: none is refused or reset.
#[test]
fn two_gateways_on_one_port_are_rolled_without_a_failed_handshake() {
    let (file, shard) = (manifest(&json!({})), shard());
    let start = |listen: &str, lag: &str| {
        let args = ["--listen", listen, "--drain-lag", lag, "--workers", "1", "--shard", &shard];
        Running::start(gateway(&file, &args))
    };
    let mut old = start("127.0.0.1:0", "0s");
    let ws = old.ws;
    drop(old.tunnel());
    let end = std::sync::atomic::AtomicBool::new(false);
    let (mut served, mut closed) = (0, 0);
    // Half of the clients stay until their Close, half leave by themselves soon.
    let client = |stays| {
        let (mut served, mut closed) = (0, 0);
        while !end.load(std::sync::atomic::Ordering::SeqCst) {
            let (mut stream, head) = upgrade(ws);
            assert!(head.starts_with("HTTP/1.1 101"), "{head}");
            stream.set_read_timeout(Some(if stays { PATIENCE } else { Duration::from_millis(20) })).unwrap();
            // A Close may arrive before the echo.
            let _ = stream.write_all(b"\x82\x02hi");
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            let rest = got.strip_prefix(b"\x82\x02hi").unwrap_or(&got);
            let is_closed = rest.len() > 4 && rest[0] == 0x88 && rest[2..4] == [0x03, 0xf4];
            assert!(is_closed || rest.is_empty() && !stays, "{got:?}");
            (served, closed) = (served + 1, closed + usize::from(is_closed));
        }
        (served, closed)
    };
    let client = &client;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|at| scope.spawn(move || client(at % 2 == 0))).collect();
        for lag in ["0s", "0s", "2s"] {
            let new = start(&ws.to_string(), lag);
            drop(new.tunnel());
            old.signal();
            assert_eq!(old.wait(), Some(0));
            old = new;
        }
        end.store(true, std::sync::atomic::Ordering::SeqCst);
        // Staying clients get a Close. New ones still connect during the lag.
        old.signal();
        for client in clients {
            let (one_served, one_closed) = client.join().unwrap();
            (served, closed) = (served + one_served, closed + one_closed);
        }
    });
    assert!(served > 12 && closed >= 4, "{served} served, {closed} closed with 1012");
}

#[test]
fn ends_as_soon_as_no_tunnel_is_open() {
    let mut running = Running::in_front_of(&impatient(), &shard());
    running.signal();
    assert_eq!(running.wait(), Some(0));
}

#[test]
fn ends_soon_after_its_parent_although_tunnels_are_open() {
    let file = impatient();
    let shard = shard();
    let mut command = gateway(&file, &["--listen", "127.0.0.1:0", "--exit-with-parent", "--shard", &shard]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut tunnel = running.tunnel();
    echoes(&mut tunnel);
    drop(running.child.stdin.take());
    assert_eq!(running.wait(), Some(0));
}

fn frame_echoes(stream: &mut TcpStream) {
    let mut echo = [0; 4];
    stream.write_all(b"\x82\x02hi").unwrap();
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"\x82\x02hi");
}

/// Asserts that the stream ends after a Close 1012 with a hint when to reconnect.
fn assert_closed_with_retry(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes[0], &bytes[2..4]), (0x88, &[0x03, 0xf4][..]), "{bytes:?}");
    let reason: serde_json::Value = serde_json::from_slice(&bytes[4..]).unwrap();
    assert!(reason["retry_after_ms"].is_u64(), "{reason}");
}
