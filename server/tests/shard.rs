//! The shard as a process: signals, limits of the operating system, and errors at the start.

#![allow(clippy::unwrap_used)] // tests, all of it

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running shard; killed when dropped.
struct Shard {
    process: Child,
    ws: SocketAddr,
    admin: SocketAddr,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

const MANIFEST: &str = "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: { name: t }\n\
    spec: { capacity: 100, drain: { evictRate: 1000, deadline: 20s }, source: { kafka: { topics: [{ name: t, channel: '{key}' }] } } }\n";

fn command(before: &str, args: &str) -> Command {
    let dir = tempfile::tempdir().unwrap().keep();
    let file = dir.join("cluster.yaml");
    std::fs::write(&file, MANIFEST).unwrap();
    let binary = env!("CARGO_BIN_EXE_wscluster");
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{before} exec {binary} shard -f {} {args}", file.display()));
    command
}

impl Shard {
    fn start(before: &str, args: &str) -> Self {
        let mut command = command(before, &format!("--echo --listen 127.0.0.1:0 --admin 127.0.0.1:0 {args}"));
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let stderr = process.stderr.take().unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let announced: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| announced["listening"][name].as_str().unwrap().parse().unwrap();
        let shard = Self { ws: address("ws"), admin: address("admin"), process, stdout, stderr };
        let start = Instant::now();
        while !shard.get("/readyz").starts_with("HTTP/1.1 200 ") {
            assert!(start.elapsed() < PATIENCE, "the shard did not become ready");
        }
        shard
    }

    /// A socket on which an upgrade request was sent.
    fn ask(&self) -> TcpStream {
        let mut socket = TcpStream::connect(self.ws).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let text = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.ws
        );
        socket.write_all(text.as_bytes()).unwrap();
        socket
    }

    fn connect(&self) -> TcpStream {
        let mut socket = self.ask();
        assert!(read_head(&mut socket).starts_with("HTTP/1.1 101 "));
        socket
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Exit code and log.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the shard did not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).unwrap();
        (status.code(), log)
    }

    fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if socket.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The code of the next frame, a Close.
fn close_code(socket: &mut TcpStream) -> u16 {
    let mut frame = [0; 4];
    socket.read_exact(&mut frame).unwrap();
    assert_eq!(frame[0], 0x88, "{frame:02x?}");
    u16::from_be_bytes([frame[2], frame[3]])
}

#[test]
fn first_signal_drains_and_exits_with_0() {
    let shard = Shard::start("", "--workers 2");
    let mut clients: Vec<TcpStream> = (0..20).map(|_| shard.connect()).collect();
    shard.signal("TERM");
    for client in &mut clients {
        assert_eq!(close_code(client), 1012);
    }
    drop(clients);
    let (code, log) = shard.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("drained"), "{log}");
}

#[test]
fn second_signal_ends_at_once() {
    let shard = Shard::start("", "--workers 1");
    let mut client = shard.connect();
    shard.signal("TERM");
    assert_eq!(close_code(&mut client), 1012);
    // The shard waits for the client's Close, which does not come. A completed drain would exit with 0.
    shard.signal("INT");
    let (code, log) = shard.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
}

#[test]
fn ends_with_its_parent() {
    let mut shard = Shard::start("", "--workers 1 --exit-with-parent");
    let mut client = shard.connect();
    drop(shard.process.stdin.take());
    assert_eq!(close_code(&mut client), 1012);
    drop(client);
    assert_eq!(shard.end().0, Some(0));
}

#[test]
fn refuses_clients_at_the_limit_of_open_files_with_a_reason_and_keeps_the_connected() {
    let mut shard = Shard::start("ulimit -n 64;", "--workers 1");
    let mut open = Vec::new();
    let refusal = loop {
        let mut socket = shard.ask();
        let head = read_head(&mut socket);
        if !head.starts_with("HTTP/1.1 101 ") {
            break (head, socket);
        }
        open.push(socket);
        assert!(open.len() < 64, "the limit has no effect");
    };
    let (head, mut socket) = refusal;
    assert!(open.len() > 8, "only {} of 64 files were used for clients", open.len());
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("X-Wscluster-Reason: fd_limit\r\n"), "{head}");
    assert!(head.contains("Retry-After: "), "{head}");
    let mut body = String::new();
    socket.read_to_string(&mut body).unwrap();
    assert!(body.contains("(64)") && body.contains("ulimit -n"), "{body}");
    // Idle connections cannot use up the file descriptors reserved for the admin port.
    let silent: Vec<_> = (0..80).map(|_| TcpStream::connect(shard.ws).unwrap()).collect();
    for _ in 0..3 {
        assert!(shard.get("/livez").starts_with("HTTP/1.1 200 "));
    }
    let answer = shard.get("/health");
    let health: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&health["status"], &health["state"]), (&"degraded".into(), &"full".into()), "{answer}");
    assert!(health["reason"].as_str().unwrap().contains("ulimit -n"), "{answer}");
    drop(silent);
    let ping = wscluster_ws::frame::client_frame(wscluster_ws::frame::Opcode::Ping, b"", [0; 4]);
    for socket in &mut open {
        socket.write_all(&ping).unwrap();
        let mut answer = [0; 2];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x8a, 0]);
    }
    drop(open);
    let start = Instant::now();
    while !read_head(&mut shard.ask()).starts_with("HTTP/1.1 101 ") {
        assert!(start.elapsed() < PATIENCE, "the shard still refuses clients after others have left");
    }
    let _ = shard.process.kill();
    let (_, log) = shard.end();
    assert!(log.contains("open_files_limit=64") && log.contains("LimitNOFILE"), "{log}");
    assert_eq!(log.matches("new clients are refused (fd_limit)").count(), 1, "{log}");
}

#[test]
fn reports_why_it_cannot_start_and_the_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (args, code, parts) in [
        (
            format!("--echo --listen {taken} --admin 127.0.0.1:0"),
            1,
            ["failed to listen", "another process holds the port"],
        ),
        ("--listen 127.0.0.1:0 --admin 127.0.0.1:0".to_owned(), 2, ["no Kafka brokers", "--brokers"]),
        ("-f /nonexistent.yaml".to_owned(), 2, ["cannot be used multiple times", "--file"]),
    ] {
        let output = command("", &args).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{log}");
        assert!(parts.iter().all(|part| log.contains(part)), "{args}: {log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn rejects_a_port_that_another_program_listens_on_with_reuseport() {
    let other = wscluster_runtime::sockets::listen(
        "127.0.0.1:0".parse().unwrap(),
        wscluster_runtime::sockets::Share::ReusePort,
    )
    .unwrap();
    let taken = other.local_addr().unwrap();
    for workers in [1, 2] {
        // Without a parent, a shard that accepts the port exits with 0 at once.
        let args = format!("--echo --exit-with-parent --workers {workers} --listen {taken} --admin 127.0.0.1:0");
        let output = command("", &args).stdin(Stdio::null()).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("another process holds the port"), "{log}");
    }
}

#[test]
fn health_has_the_fields_that_scripts_read() {
    let shard = Shard::start("", "--workers 1 --name prices-7 --incarnation abc --revision r1");
    let _client = shard.connect();
    let answer = shard.get("/health");
    let health: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["state"], "ready");
    assert_eq!(
        (&health["shard"], &health["incarnation"], &health["revision"]),
        (&"prices-7".into(), &"abc".into(), &"r1".into())
    );
    assert_eq!(health["checks"]["capacity"]["current"], 1);
    assert_eq!(
        (&health["connections"], &health["capacity"], &health["available"]),
        (&1.into(), &100.into(), &99.into())
    );
    assert!(health["checks"]["cpu"]["percentage"].is_number() && health["checks"]["memory"]["percentage"].is_number());
    assert!(shard.get("/readyz").starts_with("HTTP/1.1 200 "));
    assert!(shard.stdout.buffer().is_empty(), "standard output has one line only");
}
