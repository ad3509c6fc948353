//! What comes after the 101: closes, retries, storms, churn, echoes, slow readers.

use wscluster_ws::decode::Role;

use super::super::worker_plan::Sending;
use super::*;

/// A server for which connection number `i` may end after its 101 by `bytes(i)`; without them it stays.
fn closing(bytes: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    server(move |mut s, i| {
        let head = switching(&key(&mut s));
        s.write_all(head.as_bytes()).unwrap();
        if let Some(bytes) = bytes(i) {
            s.write_all(&bytes).unwrap();
        }
        wait(s);
    })
}

fn with_retries(addr: SocketAddr, retries: u32) -> WorkerPlan {
    let mut plan = plan(addr, 1);
    plan.backoff.retries = retries;
    plan
}

#[test]
fn comes_back_after_a_drain_but_not_after_a_ban() {
    let hint = r#"{"retry_after_ms":5}"#;
    let drained = run(with_retries(closing(move |i| (i == 0).then(|| close_frame(1012, hint))), 2));
    assert_eq!((drained.connected, drained.failed, drained.retries), (1, 0, 1));
    assert_eq!(drained.failures["close_1012_in_settle"], 1);
    let banned = run(with_retries(closing(|_| Some(close_frame(4001, ""))), 9));
    assert_eq!((banned.connected, banned.failed, banned.retries), (0, 1, 0));
}

#[test]
fn gives_up_after_its_retries() {
    let report = run(with_retries(closing(|_| Some(close_frame(4200, ""))), 3));
    assert_eq!((report.failed, report.attempts, report.retries, report.failures["close_4200_in_settle"]), (1, 4, 3, 4));
}

#[test]
fn takes_the_hint_of_a_503_in_milliseconds_from_its_body() {
    let addr = server(|mut s, i| {
        let key = key(&mut s);
        if i == 0 {
            let body = r#"{"error":"unavailable","retry_after_ms":3}"#;
            // An hour by the header: the test would not end.
            let len = body.len();
            write!(s, "HTTP/1.1 503 x\r\nRetry-After: 3600\r\nContent-Length: {len}\r\n\r\n{body}").unwrap();
            return;
        }
        s.write_all(switching(&key).as_bytes()).unwrap();
        wait(s);
    });
    let report = run(with_retries(addr, 1));
    assert_eq!((report.connected, report.failures["http_503"]), (1, 1));
}

#[test]
fn counts_a_connection_lost_in_the_hold_and_its_return() {
    let addr = server(|mut s, i| {
        let head = switching(&key(&mut s));
        s.write_all(head.as_bytes()).unwrap();
        if i == 0 {
            // Only after the client counts as connected, which its first heartbeat shows.
            let mut byte = [0; 64];
            assert!(s.read(&mut byte).unwrap() > 0);
            s.write_all(&close_frame(4200, "")).unwrap();
        }
        wait(s);
    });
    let mut plan = with_retries(addr, 1);
    plan.schedule.hold = Duration::from_secs(1);
    plan.settle = Duration::from_millis(10);
    plan.sending = Sending::Heartbeats(Duration::from_millis(500));
    let report = run(plan);
    assert_eq!((report.connected, report.failed, report.failed_attempts), (1, 0, 0), "{report:?}");
    assert_eq!((report.dropped, report.reconnected, report.retries), (1, 1, 1));
    assert_eq!(report.drops["close_4200_in_hold"], 1);
    assert_eq!(report.latency_ms.reconnect.count, 1);
}

#[test]
fn sends_its_positions_after_a_storm_and_audits_across_it() {
    let message = |offset: u32| {
        format!(
            r#"{{"type":"price:update","seq":{offset},"ts":1,"channel":"A.trade","pos":"1-0-{offset}","prev":"1-0-{}","data":1}}"#,
            offset - 1
        )
    };
    let addr = server(move |mut s, i| {
        let head = switching(&key(&mut s));
        s.write_all(head.as_bytes()).unwrap();
        let subscribe = &texts(&mut s, &mut Decoder::new(Role::Server, 4_096))[0];
        let subscribe: serde_json::Value = serde_json::from_str(subscribe).unwrap();
        let since = &subscribe["data"]["since"]["A.trade"];
        // 5, 6, storm; then 7 is missing, 8 comes, and 8 again.
        let (expected, offsets) =
            if i == 0 { (serde_json::Value::Null, vec![5, 6]) } else { ("1-0-6".into(), vec![8, 8]) };
        assert_eq!(*since, expected);
        s.write_all(&text(ACK)).unwrap();
        for offset in offsets {
            s.write_all(&text(&message(offset))).unwrap();
        }
        wait(s);
    });
    let mut plan = plan(addr, 1);
    plan.channels = vec!["A.trade".into()];
    plan.settle = Duration::from_millis(10);
    plan.schedule.hold = Duration::from_millis(600);
    plan.schedule.storms = vec![Duration::from_millis(200)];
    let report = run(plan);
    assert_eq!((report.connected, report.failed, report.stormed, report.settled), (1, 0, 1, 2), "{report:?}");
    let chain = report.audit.chain;
    assert_eq!((report.audit.basis, report.audit.lost, chain.duplicated, chain.in_order), ("chain", 1, 1, 2));
}

#[test]
fn comes_back_with_the_position_of_its_acknowledgement() {
    let addr = server(move |mut s, i| {
        let head = switching(&key(&mut s));
        s.write_all(head.as_bytes()).unwrap();
        let subscribe = &texts(&mut s, &mut Decoder::new(Role::Server, 4_096))[0];
        let subscribe: serde_json::Value = serde_json::from_str(subscribe).unwrap();
        // Nothing comes before the storm; 5 is missing after it.
        if i == 0 {
            assert_eq!(subscribe["data"]["since"], serde_json::json!({}));
            s.write_all(&text(r#"{"type":"subscription_ack","positions":{"A.trade":"1-0-4"}}"#)).unwrap();
        } else {
            assert_eq!(subscribe["data"]["since"], serde_json::json!({ "A.trade": "1-0-4" }));
            s.write_all(&text(ACK)).unwrap();
            s.write_all(&text(r#"{"type":"t","channel":"A.trade","pos":"1-0-6","prev":"1-0-5"}"#)).unwrap();
        }
        wait(s);
    });
    let mut plan = plan(addr, 1);
    plan.channels = vec!["A.trade".into()];
    plan.settle = Duration::from_millis(10);
    plan.schedule.hold = Duration::from_millis(600);
    plan.schedule.storms = vec![Duration::from_millis(200)];
    let report = run(plan);
    assert_eq!((report.connected, report.stormed, report.settled), (1, 1, 2), "{report:?}");
    assert_eq!((report.audit.basis, report.audit.lost), ("chain", 1));
}

#[test]
fn replaces_clients_by_plan() {
    let mut plan = plan(closing(|_| None), 4);
    plan.settle = Duration::from_millis(10);
    plan.schedule.churn = 20.0;
    plan.schedule.hold = Duration::from_millis(520);
    let report = run(plan);
    assert_eq!((report.failed, report.dropped), (0, 0), "{report:?}");
    // A worker that is late skips some, and the end of the hold cuts off those that have not connected again.
    assert!((1..=10).contains(&report.churned), "{report:?}");
    assert!((report.churned..=report.churned + 4).contains(&report.opened), "{report:?}");
}

#[test]
fn measures_echoes() {
    let addr = server(|mut s, _| {
        let head = switching(&key(&mut s));
        s.write_all(head.as_bytes()).unwrap();
        let mut decoder = Decoder::new(Role::Server, 4_096);
        loop {
            let echoes = texts(&mut s, &mut decoder);
            if echoes.is_empty() {
                return;
            }
            for echo in &echoes {
                s.write_all(&text(echo)).unwrap();
            }
        }
    });
    let mut plan = plan(addr, 3);
    plan.schedule.hold = Duration::from_millis(300);
    plan.sending = Sending::Echoes(Duration::from_millis(50));
    plan.payload = 128;
    let report = run(plan);
    assert!(report.messages.replies >= 9, "{report:?}");
    assert!(report.messages.sent - report.messages.replies <= 3, "{report:?}");
    assert_eq!(report.latency_ms.reply.count, report.messages.replies);
}

#[test]
fn learns_why_a_slow_client_was_ended() {
    let addr = server(|mut s, _| {
        let head = switching(&key(&mut s));
        s.write_all(head.as_bytes()).unwrap();
        // Far above what the client reads in its first second, then the verdict.
        let _ = s.write_all(&text(&"x".repeat(30_000)));
        let _ = s.write_all(&close_frame(4100, ""));
    });
    let mut plan = plan(addr, 1);
    plan.slow = 1;
    plan.settle = Duration::from_millis(10);
    plan.schedule.hold = Duration::from_millis(1_200);
    let report = run(plan);
    assert_eq!((report.failed, report.slow.opened, report.slow.ended), (0, 1, 1), "{report:?}");
    assert_eq!(report.slow.ends["close_4100_in_hold"], 1);
}

#[test]
fn runs_a_closed_loop_with_several_threads() {
    let mut plan = plan(closing(|_| None), 50);
    plan.schedule.rate = crate::schedule::Rate::Max;
    (plan.threads, plan.slots, plan.in_flight) = (2, 2, 3);
    let report = run(plan);
    assert_eq!((report.connected, report.failed, report.generator.threads), (50, 0, 2));
}
