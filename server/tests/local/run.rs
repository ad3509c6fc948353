//! A run of `wscluster local` under test. It ends with the test, whether that passes or fails.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wscluster_admin::Token;
use wscluster_admin::client::AdminClient;

/// Only a failing test waits this long.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) fn wscluster() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wscluster"));
    command.env_remove("WSCLUSTER_BROKERS").env("WSCLUSTER_LOG", "info");
    command
}

/// A manifest of `shards` shards with `more` in its spec.
pub(crate) fn manifest(shards: u32, capacity: u32, more: &str) -> String {
    format!(
        "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: {{ name: prices }}\nspec:\n  shards: {shards}\n  \
         capacity: {capacity}\n  source:\n    kafka:\n      topics:\n        - {{ name: odin.trades, channel: \
         \"{{key}}.trade\", partitions: 3 }}\n{more}"
    )
}

pub(crate) struct Run {
    pub(crate) child: Child,
    pub(crate) ready: Value,
    pub(crate) folder: tempfile::TempDir,
    lines: mpsc::Receiver<String>,
}

impl Run {
    /// Starts `manifest` on free ports and waits until it is ready.
    pub(crate) fn start(manifest: &str, more: &[&str]) -> Self {
        Self::start_with(wscluster(), manifest, more)
    }

    /// Starts `command` with the arguments of a run, on `manifest` and free ports, and waits until it is ready.
    pub(crate) fn start_with(mut command: Command, manifest: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.yaml");
        std::fs::write(&file, manifest).unwrap();
        let mut child = command
            .args(["local", "--port", "0", "--output", "json", "-f"])
            .arg(&file)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut run = Self { child, ready: Value::Null, folder, lines };
        run.ready = run.line();
        assert!(run.ready["gateway"].is_string(), "{}", run.ready);
        std::fs::write(run.ready_file(), run.ready.to_string() + "\n").unwrap();
        run
    }

    /// The next line of standard output.
    fn line(&self) -> Value {
        let line = self.lines.recv_timeout(DEADLINE).expect("a line in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next event of this kind; skips others.
    pub(crate) fn event(&self, kind: &str) -> Value {
        loop {
            let line = self.line();
            if line["event"] == kind {
                return line;
            }
        }
    }

    /// All events up to and including the next one of this kind.
    pub(crate) fn events_until(&self, kind: &str) -> Vec<Value> {
        let mut events = vec![self.line()];
        while events.last().is_some_and(|event| event["event"] != kind) {
            events.push(self.line());
        }
        events
    }

    /// Replaces the manifest file atomically, like an editor.
    pub(crate) fn edit(&self, manifest: &str) {
        let new = self.folder.path().join("cluster.yaml.new");
        std::fs::write(&new, manifest).unwrap();
        std::fs::rename(new, self.manifest_file()).unwrap();
    }

    /// Waits until the status is healthy again.
    pub(crate) fn healthy_again(&self) {
        while self.event("status")["status"] != "healthy" {}
    }

    pub(crate) fn manifest_file(&self) -> String {
        self.folder.path().join("cluster.yaml").display().to_string()
    }

    pub(crate) fn ready_file(&self) -> String {
        self.folder.path().join("run.json").display().to_string()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Waits for the end and returns the exit code; `None` after a signal.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        exit_code(&mut self.child)
    }

    /// Process ids of all children.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let of = |part: &str| self.ready[part].as_array().unwrap().clone();
        [of("shards"), of("gateways")].concat().iter().map(|child| child["pid"].as_u64().unwrap() as u32).collect()
    }

    pub(crate) fn shard_pid(&self, at: usize) -> u32 {
        self.ready["shards"][at]["pid"].as_u64().unwrap() as u32
    }

    /// Publishes a record and waits until the broker has it.
    pub(crate) fn publish(&self, key: &str, value: &Value) {
        let mut config = rdkafka::ClientConfig::new();
        let producer: BaseProducer =
            config.set("bootstrap.servers", self.ready["kafka"].as_str().unwrap()).create().unwrap();
        let value = value.to_string();
        producer.send(BaseRecord::to("odin.trades").key(key).payload(&value)).map_err(|(error, _)| error).unwrap();
        producer.flush(DEADLINE).unwrap();
    }

    /// A client with the token of the run.
    pub(crate) fn control(&self) -> AdminClient {
        let file = self.ready["token_file"].as_str().unwrap();
        AdminClient::new(DEADLINE).token(&Token::read(file.as_ref()).unwrap())
    }

    pub(crate) async fn health(&self) -> Value {
        let admin = self.ready["admin"].as_str().unwrap();
        wscluster_admin::client::get_json(admin, "/health", DEADLINE).await.unwrap()
    }

    /// A client through the gateway.
    pub(crate) async fn client(&self) -> Client {
        Client::open(self.ready["gateway"].as_str().unwrap()).await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Its children end with it, which another test asserts.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// Whether the process runs; a zombie does not.
pub(crate) fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn exit_code(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() >= end {
            let _ = child.kill();
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command to its end: exit code, standard output, standard error.
pub(crate) fn output(command: &mut Command) -> (Option<i32>, String, String) {
    output_of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for the end of a command with pipes: exit code, standard output, standard error.
pub(crate) fn output_of(mut child: Child) -> (Option<i32>, String, String) {
    let mut err = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let mut out = child.stdout.take().unwrap();
    let results = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let code = exit_code(&mut child);
    (code, results.join().unwrap(), errors.join().unwrap())
}

pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(crate) async fn open(address: &str) -> Self {
        let opened = tokio::time::timeout(DEADLINE, tokio_tungstenite::connect_async(format!("ws://{address}/ws")));
        Self(opened.await.expect("in time").expect("a connection").0)
    }

    /// Subscribes and returns the acknowledgement.
    pub(crate) async fn subscribe(&mut self, data: Value) -> Value {
        self.0.send(Message::text(json!({ "type": "subscribe", "data": data }).to_string())).await.unwrap();
        self.message(|message| message["type"] == "subscription_ack").await
    }

    /// The next message that `fits`; skips others.
    pub(crate) async fn message(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let message = self.0.next().await.expect("the connection stays").expect("a frame");
                if let Message::Text(text) = message {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    if fits(&value) {
                        return value;
                    }
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.expect("a message in time")
    }

    /// Waits for the end of the connection: code and reason of its Close, or `None` without a Close.
    pub(crate) async fn ended(mut self) -> Option<(CloseCode, String)> {
        let ended = async {
            let mut close = None;
            loop {
                // The next read sends the answer to a Close.
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => close = frame.map(|f| (f.code, f.reason.to_string())),
                    Some(Ok(_)) => {}
                    Some(Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_))) | None => return close,
                    Some(Err(error)) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.expect("an end in time")
    }
}
