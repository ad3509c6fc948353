//! The two servers: our shard and a server on Centrifugo's engine, each a process on CPU 0.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::bail;
use crate::child::Child;
use crate::error::{Doing as _, Result};
use crate::fleet::Door;
use crate::kafka::Kafka;
use crate::machine::first_line;
use crate::ours::{Binary, Manifest, TOPIC, channel, subscribe};

/// Key of the one channel to which all clients subscribe.
pub(super) const KEY: &str = "b";

/// How long a subject may take to listen.
const START: Duration = Duration::from_secs(20);

/// A kind of server.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// `wscluster shard`.
    Shard(Binary),
    /// The program in `tests/bench/peers/centrifuge`.
    Engine(PathBuf),
    /// A full Centrifugo server.
    Centrifugo(PathBuf),
}

/// A running server.
pub(super) struct Subject {
    child: Child,
    ws: SocketAddr,
    ours: bool,
    _folder: TempDir,
}

#[derive(Deserialize)]
struct Announced {
    listening: Listening,
}

#[derive(Deserialize)]
struct Listening {
    ws: SocketAddr,
}

impl Kind {
    /// Compiles the peer if necessary.
    pub(super) fn engine() -> Result<Self> {
        let build = "tests/bench/peers/centrifuge/build";
        let output = std::process::Command::new(build)
            .output()
            .doing(format!("run {build} (from the top of the repository)"))?;
        if !output.status.success() {
            bail!("failed to build the peer: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self::Engine(String::from_utf8_lossy(&output.stdout).trim().into()))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Shard(_) => "shard",
            Self::Engine(_) => "centrifuge",
            Self::Centrifugo(_) => "Centrifugo",
        }
    }

    pub(super) fn version(&self) -> Result<String> {
        match self {
            Self::Shard(binary) => binary.version(),
            Self::Centrifugo(path) => Ok(first_line(path, &["version"]).unwrap_or_else(|| "unknown".to_owned())),
            Self::Engine(path) => {
                let Ok(output) = std::process::Command::new("go").args(["version", "-m"]).arg(path).output() else {
                    return Ok("unknown".to_owned());
                };
                let text = String::from_utf8_lossy(&output.stdout);
                let go = text.lines().next().and_then(|line| line.rsplit(": ").next()).unwrap_or("go").to_owned();
                let modules =
                    text.lines().filter(|l| l.contains("centrifugal/centrifuge\t") || l.contains("twmb/franz-go\t"));
                let modules = modules.filter_map(|line| {
                    let mut words = line.split_whitespace().skip(1);
                    Some(format!("{} {}", words.next()?, words.next()?))
                });
                Ok(modules.chain([go]).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Subject {
    /// Starts a server and waits until it listens.
    pub(super) async fn start(kind: &Kind, kafka: &Kafka) -> Result<Self> {
        let folder = crate::local::folder()?;
        let cpu = Some(crate::SUBJECT_CPU);
        let (child, ws) = match kind {
            Kind::Shard(binary) => {
                let (child, address) =
                    binary.shard(folder.path(), &Manifest::default(), 0, &kafka.brokers, crate::SUBJECT_CPU).await?;
                (child, address.ws)
            }
            Kind::Engine(path) => {
                let args = ["-brokers", &kafka.brokers, "-topic", TOPIC, "-suffix", ".t"];
                let mut child = Child::start("centrifuge", cpu, &path.display().to_string(), &args)?;
                let announced: Announced = child.line(START).await?;
                (child, announced.listening.ws)
            }
            Kind::Centrifugo(path) => centrifugo(path, &folder, kafka).await?,
        };
        Ok(Self { child, ws, ours: matches!(kind, Kind::Shard(_)), _folder: folder })
    }

    /// Where clients connect, and how they subscribe.
    pub(super) fn door(&self) -> Door {
        let (path, hello) = if self.ours {
            ("/ws", subscribe(KEY))
        } else {
            // Both commands in one message, as Centrifuge's clients send them.
            let connect = json!({ "id": 1, "connect": {} });
            let subscribe = json!({ "id": 2, "subscribe": { "channel": channel(KEY) } });
            ("/connection/websocket", format!("{connect}\n{subscribe}"))
        };
        Door { path: path.to_owned(), hellos: vec![hello], stamped: true, ..Door::at(self.ws) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) async fn stop(self) {
        self.child.stop().await;
    }
}

/// Configuration of a full server. It does not accept port 0. It reads the channel of a record only from a header,
/// which the publisher therefore sends.
async fn centrifugo(path: &std::path::Path, folder: &TempDir, kafka: &Kafka) -> Result<(Child, SocketAddr)> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).doing("find a free port")?;
    let config = json!({
        "http_server": { "address": "127.0.0.1", "port": free.port().to_string() },
        "log": { "level": "error" },
        "client": { "insecure": true, "allowed_origins": ["*"] },
        "channel": { "without_namespace": { "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true } },
        "consumers": [{ "enabled": true, "name": "bench", "type": "kafka", "kafka": {
            "brokers": kafka.brokers.split(',').collect::<Vec<_>>(),
            "topics": [TOPIC],
            "consumer_group": "bench",
            "publication_data_mode": { "enabled": true, "channels_header": "channels" },
        } }],
    });
    let file = folder.path().join("config.json");
    std::fs::write(&file, config.to_string()).doing(format!("write {}", file.display()))?;
    let args = ["--config", &file.display().to_string()];
    let child = Child::start("centrifugo", Some(crate::SUBJECT_CPU), &path.display().to_string(), &args)?;
    let deadline = tokio::time::Instant::now() + START;
    while tokio::net::TcpStream::connect(free).await.is_err() {
        if tokio::time::Instant::now() > deadline {
            bail!("Centrifugo does not listen at {free}; see {}", child.log().display());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((child, free))
}
