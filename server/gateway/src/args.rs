//! The command line of `wscluster gateway`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use wscluster_admin::Access;
use wscluster_api::units::Span;
use wscluster_routing::member::Member;

use super::discovery::Service;

const EXAMPLES: &str = "\
Examples:
  # shards by address
  wscluster gateway -f cluster.yaml --listen 0.0.0.0:8080 --admin 127.0.0.1:9090 \\
      --shard prices-0=127.0.0.1:8100,127.0.0.1:9100 \\
      --shard prices-1=127.0.0.1:8101,127.0.0.1:9101
  # shards behind a Kubernetes Service
  wscluster gateway -f cluster.yaml --discover default/prices-shards

The first line of standard output has the addresses. SIGTERM drains the gateway; a second one ends
it at once.
Exit codes: 0 ended on a signal, 1 did not start or failed, 2 wrong command line or manifest.";

/// Arguments of `wscluster gateway`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES,
    override_usage = "wscluster gateway [OPTIONS] --file <FILE> <--shard …|--members …|--discover …>",
    group(clap::ArgGroup::new("source").required(true).args(["shards", "members", "discover"])))]
pub struct Args {
    /// WsCluster manifest; `-` is standard input.
    #[arg(short = 'f', long = "file", env = "WSCLUSTER_FILE", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Address that clients connect to; several gateways may share the port.
    #[arg(long, env = "WSCLUSTER_LISTEN", default_value = "0.0.0.0:8080", value_name = "HOST:PORT")]
    pub(crate) listen: SocketAddr,
    /// Address of /health, /livez, /readyz, /metrics and /drain.
    #[arg(long, env = "WSCLUSTER_ADMIN", default_value = "0.0.0.0:9090", value_name = "HOST:PORT")]
    pub(crate) admin: SocketAddr,
    #[command(flatten)]
    pub(crate) access: Access,
    /// Name, WebSocket address and admin address of a shard; repeatable.
    #[arg(long = "shard", value_name = "NAME=WS_ADDR,ADMIN_ADDR")]
    pub(crate) shards: Vec<Member>,
    /// File with one `NAME=WS_ADDR,ADMIN_ADDR` per line, instead of --shard; edits apply while the gateway runs.
    #[arg(long, value_name = "FILE")]
    pub(crate) members: Option<PathBuf>,
    /// Kubernetes Service whose endpoints are the shards, by its ports `ws` and `admin`. The API server is that of the
    /// pod's service account, or of KUBECONFIG.
    #[arg(long, env = "WSCLUSTER_DISCOVER", value_name = "NAMESPACE/SERVICE")]
    pub(crate) discover: Option<Service>,
    /// Local addresses of connections to shards, separated by commas, used in turn. For each shard, the kernel has only
    /// as many ports for an address as `net.ipv4.ip_local_port_range` has [default: one that the kernel chooses].
    #[arg(long, env = "WSCLUSTER_SOURCE_ADDRESSES", value_delimiter = ',', value_name = "IP")]
    pub(crate) source_address: Vec<IpAddr>,
    /// Event loops, one thread each [default: spec.template.gateway.workers, or one per CPU].
    #[arg(long, env = "WSCLUSTER_WORKERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) workers: Option<u32>,
    /// Log every handshake with its phase times, not only failed ones.
    #[arg(long, env = "WSCLUSTER_LOG_HANDSHAKES")]
    pub(crate) log_handshakes: bool,
    /// Time between reporting not ready and refusing clients: a load balancer needs it to react.
    #[arg(long, env = "WSCLUSTER_DRAIN_LAG", default_value = "0s", value_name = "DURATION")]
    pub(crate) drain_lag: Span,
    /// Keep the listening sockets in this process and run the gateway in a child, as nginx and HAProxy do. When the
    /// child dies, the next one starts on the same sockets after 0.1 s, or later if it dies again and again. Clients
    /// that connect meanwhile wait instead of being refused.
    #[arg(long)]
    pub(crate) master: bool,
    /// End when standard input closes, as it does when the parent process ends.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}
