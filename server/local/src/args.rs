//! The command line of `wscluster local`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use wscluster_admin::AdminHosts;
use wscluster_api::units::Span;
use wscluster_runtime::args::Output;

const EXAMPLES: &str = "\
Examples:
  # the built-in quickstart with random trades; open the browser address that it prints
  wscluster local --demo
  # your own manifest, after: wscluster init cluster.yaml
  wscluster local -f cluster.yaml
  # free ports; the first line of standard output has all addresses
  wscluster local -f cluster.yaml --port 0 --output json
  # another Kafka cluster than the manifest names
  wscluster local -f cluster.yaml --brokers broker-1:9092,broker-2:9092

Exit codes: 0 ended on a signal, 1 did not start or had to kill a process, 2 wrong command line or
manifest, 130 ended at once by a second signal.";

/// Arguments of `wscluster local`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// WsCluster manifest; edits apply while clients stay connected [default: built-in manifests/quickstart.yaml].
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Port that clients connect to; 0 picks a free one [default: spec.gateway.service.port].
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Port of /health, /metrics and the page for browsers; 0 picks a free one [default: --port plus 1].
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// Names of the admin port.
    #[command(flatten)]
    pub hosts: AdminHosts,
    /// IP address to listen on; 0.0.0.0 admits other machines. Shards and the embedded broker stay on 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_parser = host)]
    pub host: IpAddr,
    /// Kafka bootstrap addresses, instead of those in the manifest; separated by commas.
    #[arg(long, short, value_name = "HOST:PORT", value_delimiter = ',', env = "WSCLUSTER_BROKERS",
        value_parser = NonEmptyStringValueParser::new())]
    pub brokers: Vec<String>,
    /// Publish random trades to the embedded broker.
    #[arg(long)]
    pub demo: bool,
    /// Format of standard output.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Time after Ctrl-C to move connections away and end all processes.
    #[arg(long, value_name = "DURATION", default_value_t = Span::secs(5), allow_hyphen_values = true)]
    pub grace: Span,
}

fn host(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        "write an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of its addresses".into()
    })
}
