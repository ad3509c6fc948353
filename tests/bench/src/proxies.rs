//! The compared proxies. Each has one worker on one CPU and is configured for WebSocket tunnels as its documentation
//! recommends. They run as child processes with a configuration and folder of their own, never as system services.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::backend::Address;
use crate::child::Child;
use crate::error::{Doing as _, Error, Result};
use crate::machine::first_line;
use crate::ours::{Binary, Manifest};
use crate::{bail, cpu};

/// A kind of proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// HAProxy.
    Haproxy,
    /// nginx.
    Nginx,
    /// Our gateway.
    Wscluster,
}

impl Kind {
    /// All kinds, peers first.
    pub const ALL: [Self; 3] = [Self::Haproxy, Self::Nginx, Self::Wscluster];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Wscluster => "wscluster gateway",
        }
    }

    /// Its version, or how to install it.
    pub fn version(self, binary: &Binary) -> Result<String> {
        let (line, package) = match self {
            Self::Haproxy => (first_line("haproxy", &["-v"]), "haproxy"),
            Self::Nginx => (first_line("nginx", &["-v"]), "nginx-light"),
            Self::Wscluster => return binary.version(),
        };
        line.ok_or_else(|| {
            Error::Unusable(format!("{package} is missing: apt-get install -y --no-install-recommends {package}"))
        })
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Kind.
    pub kind: Kind,
    /// Where clients connect.
    pub addr: SocketAddr,
    /// The process that relays messages.
    pub pid: u32,
    child: Child,
    _folder: TempDir,
}

impl Proxy {
    /// Starts `kind` in front of `backends`, on CPU `cpu`, and waits until it accepts.
    pub async fn start(kind: Kind, backends: &[Address], cpu: usize, binary: &Binary) -> Result<Self> {
        let folder = TempDir::with_prefix("wscluster-bench-").doing("create a folder")?;
        if kind == Kind::Wscluster {
            let manifest = Manifest { shards: backends.len(), ..Manifest::default() };
            let (child, addr) = binary.gateway(folder.path(), &manifest, backends, cpu).await?;
            return Ok(Self { kind, addr, pid: child.pid(), child, _folder: folder });
        }
        let addr = free_port()?;
        let child = if kind == Kind::Haproxy {
            let config = write(folder.path(), "haproxy.cfg", &haproxy(addr, backends))?;
            Child::start("haproxy", Some(cpu), "haproxy", &["-db", "-f", &config])?
        } else {
            let config = write(folder.path(), "nginx.conf", &nginx(addr, backends, folder.path()))?;
            let prefix = folder.path().display().to_string();
            Child::start("nginx", Some(cpu), "nginx", &["-p", &prefix, "-e", "stderr", "-c", &config])?
        };
        accepts(addr).await?;
        let pid = match kind {
            // The master only supervises; its one worker relays.
            Kind::Nginx => match cpu::children(child.pid())?[..] {
                [worker] => worker,
                ref others => bail!("nginx has {} workers instead of one", others.len()),
            },
            _ => child.pid(),
        };
        Ok(Self { kind, addr, pid, child, _folder: folder })
    }

    /// Ends the proxy.
    pub async fn stop(self) {
        self.child.stop().await;
    }
}

/// A port of loopback that is free at the moment. These peers cannot report the port that they were given.
fn free_port() -> Result<SocketAddr> {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").doing("find a free port")?;
    probe.local_addr().doing("find a free port")
}

async fn accepts(addr: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(addr).await.is_err() {
        if Instant::now() > deadline {
            bail!("nobody accepts on {addr}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<String> {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, text).doing(format!("write {}", path.display()))?;
    Ok(path.display().to_string())
}

/// One thread, no log, no health checks (they would use CPU), and `timeout tunnel` as its manual recommends for
/// WebSocket.
fn haproxy(addr: SocketAddr, backends: &[Address]) -> String {
    let mut servers = String::new();
    for (i, backend) in backends.iter().enumerate() {
        servers += &format!("    server s{i} {} maxconn 20000\n", backend.ws);
    }
    format!(
        "global\n    nbthread 1\n    maxconn 9900\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n    \
         timeout http-request 10s\n    timeout tunnel 1h\n\
         frontend front\n    bind {addr} backlog 4096\n    default_backend shards\n\
         backend shards\n    balance leastconn\n{servers}"
    )
}

/// One worker, no log, no buffering, and the `Upgrade`/`Connection` map of its page "WebSocket proxying".
fn nginx(addr: SocketAddr, backends: &[Address], folder: &Path) -> String {
    let mut servers = String::new();
    for backend in backends {
        servers += &format!("        server {};\n", backend.ws);
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {}/{kind};\n", folder.display()))
        .concat();
    format!(
        "daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\nerror_log stderr warn;\npid {}/nginx.pid;\n\
         events {{ use epoll; worker_connections 19000; multi_accept on; }}\n\
         http {{\n{temporary}    access_log off;\n    tcp_nodelay on;\n    \
         map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n    \
         upstream shards {{\n        least_conn;\n{servers}    }}\n    \
         server {{\n        listen {addr} backlog=4096;\n        location / {{\n            \
         proxy_pass http://shards;\n            proxy_http_version 1.1;\n            \
         proxy_set_header Upgrade $http_upgrade;\n            proxy_set_header Connection $connection_upgrade;\n            \
         proxy_set_header Host $host;\n            proxy_buffering off;\n            \
         proxy_read_timeout 1h;\n            proxy_send_timeout 1h;\n        }}\n    }}\n}}\n",
        folder.display()
    )
}
