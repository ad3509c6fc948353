//! Handshakes and subscriptions that fail.

use super::*;

#[test]
fn names_a_refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(failure_of(plan(addr, 1)), "refused");
}

#[test]
fn names_a_connection_that_is_never_established() {
    // A full backlog: the kernel drops further handshakes.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<_> = (0..4).map(|_| crate::source::dial(addr, None, None).unwrap()).collect();
    assert_eq!(failure_of(short(plan(addr, 1))), "timeout_in_connect");
    drop(fill);
}

#[test]
fn names_resets_and_ends_by_phase() {
    assert_eq!(
        failure(|mut s| {
            key(&mut s);
            reset(s);
        }),
        "reset_in_first_byte"
    );
    assert_eq!(
        failure(|mut s| {
            key(&mut s);
        }),
        "eof_in_first_byte"
    );
    assert_eq!(
        failure(|mut s| {
            key(&mut s);
            s.write_all(b"HTTP/1.1 101 Swit").unwrap();
        }),
        "eof_in_head"
    );
}

#[test]
fn names_timeouts_by_phase() {
    let silent = server(|mut s, _| {
        key(&mut s);
        wait(s);
    });
    assert_eq!(failure_of(short(plan(silent, 1))), "timeout_in_first_byte");
    let half = server(|mut s, _| {
        key(&mut s);
        s.write_all(b"HTTP/1.1 101 Swit").unwrap();
        wait(s);
    });
    assert_eq!(failure_of(short(plan(half, 1))), "timeout_in_head");
    let mute = server(|mut s, _| {
        let key = key(&mut s);
        s.write_all(switching(&key).as_bytes()).unwrap();
        wait(s);
    });
    let plan = WorkerPlan { channels: vec!["A.trade".into()], ..plan(mute, 1) };
    assert_eq!(failure_of(short(plan)), "timeout_in_subscribe");
}

fn answers(answer: &'static str) -> String {
    failure(move |mut s| {
        key(&mut s);
        s.write_all(answer.as_bytes()).unwrap();
        wait(s);
    })
}

#[test]
fn names_refusals_by_status_and_reason() {
    let full = "HTTP/1.1 503 Service Unavailable\r\nX-Wscluster-Reason: no_capacity\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(answers(full), "http_503_no_capacity");
    assert_eq!(answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "http_404");
    assert_eq!(answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "http_200");
}

#[test]
fn names_bad_upgrades() {
    let wrong = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(answers(wrong), "bad_accept_key");
    assert_eq!(answers("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), "bad_accept_key");
    assert_eq!(answers("HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), "bad_upgrade_header");
    assert_eq!(answers("SSH-2.0-OpenSSH_9.2\r\n\r\n"), "not_http");
    let extension = failure(|mut s| {
        let head = switching(&key(&mut s));
        let head = head.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        s.write_all(head.as_bytes()).unwrap();
        wait(s);
    });
    assert_eq!(extension, "bad_upgrade_header");
}

/// One client's failure when the server sends `bytes` behind the 101 and ends.
fn after_101(bytes: Vec<u8>) -> String {
    failure(move |mut s| {
        let head = switching(&key(&mut s));
        s.write_all(&[head.as_bytes(), &bytes].concat()).unwrap();
    })
}

#[test]
fn calls_no_connection_a_success_that_ends_right_after_its_101() {
    assert_eq!(after_101(Vec::new()), "eof_in_settle");
    assert_eq!(after_101(close_frame(1011, "no shard")), "close_1011_in_settle");
    assert_eq!(after_101(server_frame(Opcode::Close, b"").to_vec()), "close_without_code_in_settle");
    assert_eq!(after_101(vec![0x81, 0x80]), "protocol_violation_in_settle");
    let cut = failure(|mut s| {
        let head = switching(&key(&mut s));
        s.write_all(head.as_bytes()).unwrap();
        reset(s);
    });
    assert!(["reset_in_settle", "reset_in_first_byte", "reset_in_head"].contains(&cut.as_str()), "{cut}");
}

#[test]
fn names_a_rejected_subscription() {
    let addr = server(|mut s, _| {
        let head = switching(&key(&mut s));
        let error = text(r#"{"type":"error","code":"too_many_channels","message":"no"}"#);
        s.write_all(&[head.as_bytes(), &error].concat()).unwrap();
        wait(s);
    });
    let plan = WorkerPlan { channels: vec!["A.trade".into()], ..plan(addr, 1) };
    assert_eq!(failure_of(plan), "subscribe_rejected_too_many_channels");
}
