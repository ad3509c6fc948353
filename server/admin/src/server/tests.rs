use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use axum::body::Bytes;
use axum::routing::post;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::client::AdminClient;
use crate::drain::Drain;
use crate::token::Token;

async fn start(limits: Limits) -> SocketAddr {
    let router = Router::new().route("/", get(async || "ok")).route("/", post(async |_: Bytes| "ok"));
    start_with(router, limits).await
}

async fn start_with(router: Router, limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let guard = Guard::new(&Access::default()).unwrap();
    tokio::spawn(async move { serve_within(&listener, &router, guard, limits).await });
    addr
}

/// Sends `what`, and reads the answer to its end.
async fn exchange(addr: SocketAddr, what: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(what.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    ended.expect("the server holds the connection").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn closes_idle_connections_and_half_sent_requests() {
    let limits = Limits { head: Duration::from_millis(50), answer: Duration::from_millis(50), ..LIMITS };
    let addr = start(limits).await;
    for half in ["", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        assert!(!exchange(addr, half).await.contains("200 OK"), "{half:?}");
    }
    let half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nab";
    assert!(exchange(addr, half).await.starts_with("HTTP/1.1 408 "));
    // After an answer the connection is idle, and closed too.
    assert!(exchange(addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
}

const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// No timeout makes room in these tests.
fn patient(connections: usize) -> Limits {
    Limits { connections, head: Duration::from_hours(1), answer: Duration::from_hours(1) }
}

/// Sends a request on a kept connection, and reads its answer.
async fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let byte = tokio::time::timeout(Duration::from_secs(20), stream.read_u8()).await.expect("an answer");
        answer.push(byte?);
    }
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn oldest_silent_connection_makes_room_for_a_probe() {
    let addr = start(patient(2)).await;
    let mut oldest = TcpStream::connect(addr).await.unwrap();
    let mut newer = TcpStream::connect(addr).await.unwrap();
    assert!(exchange(addr, LAST).await.ends_with("\r\n\r\nok"));
    assert!(oldest.read_u8().await.is_err(), "the oldest connection is still open");
    assert!(ask(&mut newer).await.is_ok(), "more connections than necessary were closed");
}

#[tokio::test]
async fn probes_are_answered_while_silent_connections_arrive() {
    let addr = start(patient(64)).await;
    let crowd = async {
        let mut silent = Vec::new();
        for _ in 0..256 {
            silent.push(TcpStream::connect(addr).await.unwrap());
        }
        for _ in 0..10 {
            assert!(exchange(addr, LAST).await.ends_with("\r\n\r\nok"));
        }
    };
    let probes = async {
        for _ in 0..50 {
            assert!(exchange(addr, LAST).await.ends_with("\r\n\r\nok"));
        }
    };
    tokio::join!(crowd, probes);
}

#[tokio::test]
async fn kept_connections_survive_a_crowd_of_silent_ones() {
    let addr = start(patient(3)).await;
    let mut kept = TcpStream::connect(addr).await.unwrap();
    ask(&mut kept).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..9 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    assert!(exchange(addr, LAST).await.ends_with("\r\n\r\nok"));
    assert!(ask(&mut kept).await.is_ok());
}

#[tokio::test]
async fn half_sent_bodies_make_room_for_a_probe() {
    let addr = start(patient(2)).await;
    let mut halves = Vec::new();
    for _ in 0..4 {
        let mut half = TcpStream::connect(addr).await.unwrap();
        half.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nab")
            .await
            .unwrap();
        halves.push(half);
    }
    assert!(exchange(addr, LAST).await.ends_with("\r\n\r\nok"));
}

#[tokio::test]
async fn calls_of_foreign_pages_change_nothing() {
    let changes = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&changes);
    let router = Router::new().route("/drain", post(async move || counter.fetch_add(1, SeqCst).to_string()));
    let addr = start_with(router, LIMITS).await;
    let status = async |head: &str, body: &str| {
        let length = body.len();
        let rest = format!("Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        let answer = exchange(addr, &format!("POST /drain HTTP/1.1\r\n{head}\r\n{rest}")).await;
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for (head, body, expected) in [
        ("Host: evil.example", "", 421),
        ("Host: 127.0.0.1:1\r\nHost: evil.example", "", 421),
        ("X-No-Host: a", "", 421),
        ("Host: 127.0.0.1:1\r\nOrigin: https://evil.example", "", 403),
        ("Host: 127.0.0.1:1\r\nOrigin: http://127.0.0.1:2", "", 403),
        ("Host: 127.0.0.1:1\r\nOrigin: null", "", 403),
        ("Host: 127.0.0.1:1\r\nSec-Fetch-Site: cross-site", "", 403),
        ("Host: 127.0.0.1:1\r\nSec-Fetch-Site: same-site", "", 403),
        ("Host: 127.0.0.1:1", "{}", 415),
        ("Host: 127.0.0.1:1\r\nContent-Type: text/plain", "{}", 415),
        ("Host: 127.0.0.1:1\r\nContent-Type: application/x-www-form-urlencoded", "{}", 415),
        ("Host: 127.0.0.1:1\r\nContent-Type: text/plain; a=application/json", "{}", 415),
    ] {
        assert_eq!(status(head, body).await, expected, "{head}");
    }
    assert_eq!(changes.load(SeqCst), 0);
    for (head, body) in [
        ("Host: 127.0.0.1:1", ""),
        ("Host: localhost:1\r\nOrigin: http://localhost:1\r\nSec-Fetch-Site: same-origin", ""),
        ("Host: prices-0:1\r\nSec-Fetch-Site: none", ""),
        ("Host: 127.0.0.1:1\r\nContent-Type: Application/JSON; charset=utf-8", "{}"),
    ] {
        assert_eq!(status(head, body).await, 200, "{head}");
    }
    assert_eq!(changes.load(SeqCst), 4);
}

#[tokio::test]
async fn only_probes_and_metrics_are_answered_under_any_name() {
    let ok = || get(async || "ok");
    let router = Router::new().route("/readyz", ok()).route("/metrics", ok()).route("/health", ok()).route("/", ok());
    let addr = start_with(router, LIMITS).await;
    let status = async |path: &str, version: &str, head: &str| {
        let answer = exchange(addr, &format!("GET {path} HTTP/{version}\r\nConnection: close\r\n{head}\r\n")).await;
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for (path, expected) in [("/readyz", 200), ("/metrics", 200), ("/health", 421), ("/", 421)] {
        assert_eq!(status(path, "1.1", "Host: evil.example\r\n").await, expected, "{path}");
    }
    assert_eq!(status("http://evil.example/health", "1.1", "Host: 127.0.0.1\r\n").await, 421);
    assert_eq!(status("/health", "1.0", "").await, 200, "an old client sends no Host");
}

#[tokio::test]
async fn answers_are_not_shown_in_frames() {
    let answer = exchange(start(LIMITS).await, LAST).await;
    for field in ["content-security-policy: default-src 'none'; frame-ancestors 'none'", "x-frame-options: DENY"] {
        assert!(answer.contains(field), "{answer}");
    }
}

#[tokio::test]
async fn calls_need_the_token_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let token = Token::random();
    std::fs::write(&file, token.reveal()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let guard = Guard::new(&Access { token_file: Some(file), ..Access::default() }).unwrap();
    let router =
        Router::new().route("/drain", post(async || "{}").delete(async || "{}")).route("/health", get(async || "{}"));
    tokio::spawn(async move { serve_within(&listener, &router, guard, LIMITS).await });
    let (stranger, friend) = (AdminClient::new(Duration::from_secs(20)), AdminClient::new(Duration::from_secs(20)));
    let friend = friend.token(&token);
    for refused in [stranger.cancel_drain(addr).await, stranger.begin_drain(addr, &Drain::default()).await] {
        assert_eq!(refused.unwrap_err().status(), Some(StatusCode::UNAUTHORIZED));
    }
    stranger.health::<serde_json::Value>(addr).await.unwrap();
    friend.cancel_drain(addr).await.unwrap();
    friend.begin_drain(addr, &Drain::default()).await.unwrap();
}
