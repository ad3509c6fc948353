//! The gateway as a process: errors of the command line, the limit of open files, signals, discovery and `--master`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::NamedTempFile;

mod draining;
mod log;
mod master;
mod members;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
                       dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: \
                         Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

fn manifest(gateway: &serde_json::Value) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let cluster = json!({
        "apiVersion": "wscluster.dev/v1alpha1",
        "kind": "WsCluster",
        "metadata": { "name": "prices" },
        "spec": {
            "source": { "kafka": { "topics": [{ "name": "t", "channel": "{key}.t" }] } },
            "gateway": gateway,
        },
    });
    write!(file, "{cluster}").unwrap();
    file
}

fn impatient() -> NamedTempFile {
    manifest(&json!({ "queue": { "timeout": "100ms" } }))
}

fn gateway(file: &NamedTempFile, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wscluster"));
    command.arg("gateway").arg("-f").arg(file.path()).args(["--admin", "127.0.0.1:0"]).args(args);
    piped(&mut command);
    command
}

fn piped(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

struct Running {
    child: Child,
    ws: SocketAddr,
    admin: SocketAddr,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| line["listening"][name].as_str().unwrap().parse().unwrap();
        Self { ws: address("ws"), admin: address("admin"), child }
    }

    fn in_front_of(file: &NamedTempFile, shard: &str) -> Self {
        Self::start(gateway(file, &["--listen", "127.0.0.1:0", "--workers", "1", "--shard", shard]))
    }

    fn get(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        write!(stream, "{head}{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn upgrade(&self) -> (TcpStream, String) {
        upgrade(self.ws)
    }

    /// An open tunnel, once the shard is known to the gateway.
    fn tunnel(&self) -> TcpStream {
        let began = Instant::now();
        loop {
            let (stream, head) = self.upgrade();
            if head.starts_with("HTTP/1.1 101") {
                return stream;
            }
            assert!(began.elapsed() < PATIENCE, "{head}");
        }
    }

    fn signal(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::yield_now();
        }
        panic!("the gateway does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn upgrade(ws: SocketAddr) -> (TcpStream, String) {
    upgrade_on(TcpStream::connect(ws).unwrap())
}

fn upgrade_on(mut stream: TcpStream) -> (TcpStream, String) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(UPGRADE.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

fn echoes(stream: &mut TcpStream) {
    let mut echo = [0; 10];
    stream.write_all(b"still here").unwrap();
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"still here");
}

/// A fake shard that grants every upgrade and echoes, with an admin port.
fn shard() -> String {
    let (ws, admin) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let name = format!("s={},{}", ws.local_addr().unwrap(), admin.local_addr().unwrap());
    thread::spawn(move || ws.incoming().map_while(Result::ok).for_each(|stream| drop(thread::spawn(|| serve(stream)))));
    thread::spawn(move || admin.incoming().map_while(Result::ok).for_each(answer_health));
    name
}

fn serve(mut stream: TcpStream) {
    let mut buf = [0; 4_096];
    let mut upgraded = false;
    while let Ok(n @ 1..) = stream.read(&mut buf) {
        let answer = if std::mem::replace(&mut upgraded, true) { &buf[..n] } else { SWITCHING.as_bytes() };
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

fn answer_health(mut stream: TcpStream) {
    let body = json!({
        "status": "healthy", "healthy": true, "state": "ready", "shard": "s", "incarnation": "a", "revision": "",
        "connections": 0, "capacity": 100, "available": 100, "utilization": 0.0, "uptime": 1.0,
        "checks": {
            "capacity": { "current": 0, "max": 100, "percentage": 0.0 },
            "cpu": { "percentage": 0.0 },
            "memory": { "percentage": 0.0, "bytes": 0, "limit_bytes": 0 },
        },
    })
    .to_string();
    let mut buf = [0; 4_096];
    let _ = stream.read(&mut buf);
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

fn output(file: &NamedTempFile, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = gateway(file, args).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn reports_wrong_arguments_with_a_remedy() {
    let file = impatient();
    let good = "s=127.0.0.1:1,127.0.0.1:2";
    for (args, says) in [
        (&["--shard", "s=127.0.0.1:1"][..], "write NAME=HOST:PORT,HOST:PORT"),
        (&["--shard", "s=localhost,127.0.0.1:1"], "write NAME=HOST:PORT,HOST:PORT"),
        (&["--shard", good, "--shard", good], "shard \"s\" is named twice"),
        (&["--members", "/nowhere/members"], "failed to read /nowhere/members"),
        (&["--members", "/nowhere/members", "--shard", good], "cannot be used with"),
        (&["--shard", good, "--workers", "0"], "0 is not in 1..=1024"),
        (&[], "--discover <NAMESPACE/SERVICE>"),
        (&["--shard", good, "--discover", "a/b"], "cannot be used with"),
        (&["--discover", "prices-shards"], "write NAMESPACE/NAME"),
    ] {
        let (status, stderr) = output(&file, args);
        assert!(status == Some(2) && stderr.contains(says), "{args:?}: {status:?} {stderr}");
    }
    let (status, stderr) = output(&manifest(&json!({ "quue": 1 })), &["--shard", good]);
    assert!(status == Some(2) && stderr.contains("quue"), "{stderr}");
}

#[test]
fn reports_that_the_port_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let (status, stderr) = output(&impatient(), &["--listen", &listen, "--shard", "s=127.0.0.1:1,127.0.0.1:2"]);
    assert_eq!(status, Some(1));
    assert!(stderr.contains(&listen) && stderr.contains("another process holds the port"), "{stderr}");
}

#[test]
fn is_not_ready_before_a_shard_has_answered() {
    let running = Running::in_front_of(&impatient(), "s=127.0.0.1:1,127.0.0.1:1");
    assert!(running.get("/readyz").starts_with("HTTP/1.1 503"));
    assert!(running.get("/livez").starts_with("HTTP/1.1 200"));
    let (_, head) = running.upgrade();
    assert!(head.contains("X-Wscluster-Reason: no_shard"), "{head}");
    let health = running.get("/health");
    assert!(health.contains("\"status\":\"unhealthy\"") && health.contains("\"state\":\"unreachable\""), "{health}");
}

#[test]
fn keeps_open_tunnels_at_the_limit_of_open_files() {
    let file = impatient();
    let shard = shard();
    let limited = gateway(&file, &["--listen", "127.0.0.1:0", "--workers", "1", "--shard", &shard]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(limited.get_program()).args(limited.get_args());
    piped(&mut shell);
    let mut running = Running::start(shell);
    let mut open = vec![running.tunnel()];
    let refusal = loop {
        let (stream, head) = running.upgrade();
        if !head.starts_with("HTTP/1.1 101") {
            break head;
        }
        open.push(stream);
        assert!(open.len() < 32, "the limit has no effect");
    };
    assert!(refusal.contains("503") && refusal.contains("X-Wscluster-Reason: fd_limit"), "{refusal}");
    let health = running.get("/health");
    assert!(health.contains("\"status\":\"degraded\"") && health.contains("ulimit -n"), "{health}");
    open.iter_mut().for_each(echoes);
    running.child.kill().unwrap();
    let mut log = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    for line in ["fewer tunnels may be open than the shards hold", "new clients are refused (fd_limit)"] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

#[test]
fn metrics_add_up() {
    let running = Running::in_front_of(&impatient(), &shard());
    let mut tunnel = running.tunnel();
    echoes(&mut tunnel);
    let mut bad = TcpStream::connect(running.ws).unwrap();
    bad.write_all(b"POST / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = String::new();
    bad.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let text = running.get("/metrics");
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let near = |name: &str, expected: f64| assert!((value(name) - expected).abs() < 1e-9, "{name} in {text}");
    near("wscluster_gateway_handshake_outcomes_total{outcome=\"upgraded\"", 1.0);
    near("wscluster_gateway_handshake_outcomes_total{outcome=\"refused\",reason=\"method\"", 1.0);
    near("wscluster_gateway_relayed_bytes_total{direction=\"to_shard\"", 10.0);
    near("wscluster_gateway_relayed_bytes_total{direction=\"to_client\"", 10.0);
    near("wscluster_gateway_tunnels", 1.0);
    near("wscluster_gateway_shard_capacity{shard=\"s\"", 100.0);
    assert!(value("wscluster_gateway_handshake_phase_seconds_count{phase=\"dial\"") >= 1.0);
}
