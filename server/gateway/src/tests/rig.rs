//! The rig: fake shards with scripts, a gateway with one worker, and a client that sends bytes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wscluster_admin::health::{Checks, ShardHealth, State, Status};
use wscluster_api::spec::Drain;
use wscluster_routing::backend::Backend;
use wscluster_routing::member::Member;
use wscluster_runtime::fds::Budget;
use wscluster_runtime::sockets::{Share, listen};
use wscluster_ws::upgrade::{HeadLimits, accept_key};

use crate::gateway::Gateway;
use crate::settings::Settings;
use crate::stage::Stage;
use crate::{metrics, worker};

pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Long enough for a loaded machine, and only ever reached by a failing test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// How a fake shard handles an upgrade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Script {
    /// Grants a slot if one is free, then echoes bytes.
    Serve,
    /// Grants, and sends "hi" in the same segment as the 101.
    ServeAndSpeak,
    /// Sends these bytes, then closes; `{accept}` becomes the right accept key.
    Say(&'static str),
    /// Sends these bytes, then waits for the end of the connection.
    SayAndWait(&'static str),
    /// Reads the request, sends nothing.
    Hang,
    /// Grants, then closes the connection without sending anything.
    ServeAndDie,
    /// Grants, then sends without end and never reads.
    Flood,
}

#[derive(Debug)]
pub(crate) struct FakeShard {
    pub(crate) ws: SocketAddr,
    pub(crate) capacity: u32,
    pub(crate) script: Mutex<Script>,
    /// Upgrades received.
    pub(crate) asked: AtomicU32,
    /// Slots taken now, and the most ever.
    pub(crate) slots: AtomicU32,
    pub(crate) most: AtomicU32,
    /// Connections open now, with or without a slot.
    pub(crate) open: AtomicU32,
    /// Bytes sent by [`Script::Flood`].
    pub(crate) flooded: AtomicU32,
    /// Everything received.
    pub(crate) received: Mutex<Vec<u8>>,
}

impl FakeShard {
    pub(crate) async fn start(script: Script, capacity: u32) -> Arc<Self> {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let shard = Arc::new(Self {
            ws: listener.local_addr().unwrap(),
            capacity,
            script: Mutex::new(script),
            asked: AtomicU32::new(0),
            slots: AtomicU32::new(0),
            most: AtomicU32::new(0),
            open: AtomicU32::new(0),
            flooded: AtomicU32::new(0),
            received: Mutex::default(),
        });
        let accepting = Arc::clone(&shard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shard = Arc::clone(&accepting);
                tokio::spawn(async move {
                    shard.open.fetch_add(1, SeqCst);
                    let _ = shard.serve(stream).await;
                    shard.open.fetch_sub(1, SeqCst);
                });
            }
        });
        shard
    }

    fn admit(&self) -> Option<u32> {
        let taken = self.slots.fetch_update(SeqCst, SeqCst, |slots| (slots < self.capacity).then_some(slots + 1));
        taken.ok().map(|before| {
            self.most.fetch_max(before + 1, SeqCst);
            before + 1
        })
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buf = vec![0; 64 << 10];
        let n = stream.read(&mut buf).await?;
        self.asked.fetch_add(1, SeqCst);
        self.received.lock().unwrap().extend_from_slice(&buf[..n]);
        let script = *self.script.lock().unwrap();
        let mut load = format!("{}/{}", self.slots.load(SeqCst), self.capacity);
        let slot = match script {
            Script::Say(_) | Script::SayAndWait(_) | Script::Hang => None,
            _ => self.admit(),
        };
        if let Some(connections) = slot {
            load = format!("{connections}/{}", self.capacity);
        }
        let result = self.go_on(&mut stream, script, slot.is_some(), &load, &mut buf).await;
        if slot.is_some() {
            self.slots.fetch_sub(1, SeqCst);
        }
        result
    }

    async fn go_on(
        &self,
        stream: &mut TcpStream,
        script: Script,
        granted: bool,
        load: &str,
        buf: &mut [u8],
    ) -> io::Result<()> {
        let switching = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \
             {}\r\nX-Wscluster-Load: {load}\r\nSet-Cookie: a=b\r\n\r\n",
            accept_key(KEY)
        );
        match script {
            Script::Say(text) => {
                stream.write_all(text.replace("{accept}", &accept_key(KEY)).as_bytes()).await?;
                return Ok(());
            }
            Script::SayAndWait(text) => stream.write_all(text.as_bytes()).await?,
            Script::Hang => {}
            _ if !granted => {
                let refusal = format!(
                    "HTTP/1.1 503 Service Unavailable\r\nX-Wscluster-Reason: full\r\nX-Wscluster-Load: \
                     {load}\r\nContent-Length: 0\r\n\r\n"
                );
                return stream.write_all(refusal.as_bytes()).await;
            }
            Script::ServeAndDie => return stream.write_all(switching.as_bytes()).await,
            Script::ServeAndSpeak => stream.write_all(format!("{switching}hi").as_bytes()).await?,
            Script::Serve => stream.write_all(switching.as_bytes()).await?,
            Script::Flood => {
                stream.write_all(switching.as_bytes()).await?;
                loop {
                    self.flooded.fetch_add(stream.write(buf).await? as u32, SeqCst);
                }
            }
        }
        loop {
            let n = stream.read(buf).await?;
            if n == 0 {
                return Ok(());
            }
            self.received.lock().unwrap().extend_from_slice(&buf[..n]);
            stream.write_all(&buf[..n]).await?;
        }
    }
}

/// A budget with enough descriptors.
pub(crate) fn budget() -> Arc<Budget> {
    Budget::new(20_000, 0)
}

pub(crate) fn settings() -> Settings {
    Settings {
        head: HeadLimits { max_bytes: 2_048, max_headers: 20 },
        head_timeout: Duration::from_secs(10),
        handshake_timeout: Duration::from_secs(10),
        shard_timeout: Duration::from_secs(10),
        max_waiting: 100,
        queue_timeout: Duration::from_secs(10),
        allowed_origins: Vec::new(),
        drain: Drain::default(),
        pong_timeout: Duration::from_secs(30),
        workers: None,
        drain_lag: Duration::ZERO,
        source_addresses: Vec::new(),
        log_handshakes: false,
    }
}

pub(crate) struct Rig {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) ws: SocketAddr,
    registry: Registry,
}

impl Rig {
    /// A gateway that has just polled the health of `shards`.
    pub(crate) fn start(shards: &[&Arc<FakeShard>], settings: Settings) -> Self {
        Self::with_fds(shards, settings, budget())
    }

    pub(crate) fn with_fds(shards: &[&Arc<FakeShard>], settings: Settings, fds: Arc<Budget>) -> Self {
        let gateway = Gateway::new(settings, fds);
        let members: Vec<_> = shards
            .iter()
            .enumerate()
            .map(|(at, shard)| Member { name: format!("s-{at}"), ws: shard.ws, admin: ANY })
            .collect();
        gateway.set_members(&members);
        let listener = listen(ANY, Share::Exclusive).unwrap();
        let ws = listener.local_addr().unwrap();
        worker::start(Arc::clone(&gateway), listener, 0).unwrap();
        let registry = metrics::registry(&gateway);
        let rig = Self { gateway, ws, registry };
        for (at, shard) in shards.iter().enumerate() {
            rig.tell(at, State::Ready, shard.slots.load(SeqCst), shard.capacity, "a");
        }
        rig
    }

    pub(crate) fn shard(&self, at: usize) -> Arc<Backend> {
        Arc::clone(&self.gateway.table.shards()[at])
    }

    /// Has the effect of a health answer.
    pub(crate) fn tell(&self, at: usize, state: State, connections: u32, capacity: u32, incarnation: &str) {
        let health = health(state, connections, capacity, incarnation);
        self.shard(at).polled(health, self.gateway.table.now_ms());
        self.gateway.offer_slots();
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Invariant A4, once nothing is on its way: the outcomes add up to the attempts.
    pub(crate) async fn settled(&self) {
        until("every handshake has ended", || {
            let (attempts, ended) = self.gateway.metrics.totals();
            attempts == ended
        })
        .await;
        let text = self.metrics();
        let sum = |name: &str| -> u64 {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
        };
        let outcomes = sum("wscluster_gateway_handshake_outcomes_total");
        assert_eq!(outcomes, sum("wscluster_gateway_handshake_attempts_total"), "{text}");
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire(TcpStream::connect(self.ws).await.unwrap())
    }

    /// A client that has sent a good upgrade.
    pub(crate) async fn ask(&self) -> Wire {
        let mut wire = self.connect().await;
        wire.send(&good("")).await;
        wire
    }

    /// A client with an open tunnel.
    pub(crate) async fn tunnel(&self) -> Wire {
        let mut wire = self.ask().await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 101, "{answer:?}");
        wire
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.gateway.enter(Stage::Closing);
    }
}

pub(crate) fn health(state: State, connections: u32, capacity: u32, incarnation: &str) -> ShardHealth {
    ShardHealth {
        status: Status::Healthy,
        healthy: true,
        reason: None,
        state,
        shard: "s".to_owned(),
        incarnation: incarnation.to_owned(),
        revision: String::new(),
        connections,
        capacity,
        gateways: 0,
        available: capacity.saturating_sub(connections),
        utilization: 0.0,
        checks: Checks::default(),
        uptime: 1.0,
    }
}

pub(super) fn good(more: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
         {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// A client's socket.
pub(crate) struct Wire(pub(crate) TcpStream);

#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// What came behind the head so far.
    pub(crate) rest: Vec<u8>,
}

impl HttpAnswer {
    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.lines().any(|found| found == line)
    }
}

impl Wire {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn answer(&mut self) -> HttpAnswer {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = bytes.split_off(end + 4);
                let head = String::from_utf8(bytes).unwrap();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return HttpAnswer { status, head, rest };
            }
            let read = tokio::time::timeout(PATIENCE, self.0.read_buf(&mut bytes)).await;
            let n = read.expect("no answer").unwrap();
            assert_ne!(n, 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        }
    }

    /// Reads exactly `len` bytes.
    pub(crate) async fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        tokio::time::timeout(PATIENCE, self.0.read_exact(&mut bytes)).await.expect("no bytes").unwrap();
        bytes
    }

    /// Whatever comes until the end of the connection.
    pub(crate) async fn until_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("no end");
        bytes
    }

    /// The whole answer, then the end of the connection.
    pub(crate) async fn final_answer(&mut self) -> HttpAnswer {
        let mut answer = self.answer().await;
        answer.rest.extend(self.until_end().await);
        answer
    }
}
