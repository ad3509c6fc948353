//! The command line of `wscluster load`: what a person types. [`super::settings`] turns it into a checked run.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::ArgAction;
use wscluster_api::units::{Size, Span};
use wscluster_runtime::args::{Output, http_header, name_value, rate, rate_or_never};

use super::capacity::Limits;
use super::schedule::Rate;
use super::threshold::Threshold;

const EXAMPLES: &str = "\
Examples:
  # 12,000 clients through the gateway, 100 new ones per second, a heartbeat each every 10 s
  wscluster load --url ws://127.0.0.1:8080/ws --connections 12000 --rate 100 --hold 60s \\
      --send-interval 10s
  # directly to shards; exit code 1 if a client failed or an upgrade was slow
  wscluster load --shard 127.0.0.1:4001 --shard 127.0.0.1:4002 --connections 12000 \\
      --fail-on 'failed>0' --fail-on 'latency_ms.upgrade.p99>250' --output json
  # publish 50 records per second, and audit that each subscriber receives each once,
  # through a reconnect storm
  wscluster load --url ws://127.0.0.1:8080/ws --connections 2000 --channels 'K{0..9}.trade' \\
      --brokers 127.0.0.1:9092 --topic odin.trades --publish-rate 50 --storm-at 20s --retry 5
  # how much one shard can carry on this machine
  wscluster load --find-capacity --limit p99=50ms,cpu=90,loss=0

Exit codes: 0 succeeded, 1 a threshold of --fail-on was crossed (without --fail-on: no client
connected), 2 wrong command line, 3 could not run, or the audit of --topic failed.
docs/load.md lists the fields of --output json, which --fail-on takes.";

/// Arguments of `wscluster load`.
#[derive(clap::Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own
#[command(after_long_help = EXAMPLES, after_help = "--help has examples.")]
pub struct Args {
    /// WebSocket address to connect to, such as `ws://127.0.0.1:8080/ws`.
    #[arg(long, value_name = "URL", conflicts_with = "shard")]
    url: Option<String>,
    #[arg(hide = true, conflicts_with_all = ["shard", "url"], help = "the URL of load is now given by --url URL")]
    old_url: Option<String>,
    /// Connect directly to this shard, path /ws; repeatable: clients use the shards in turn.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) shard: Vec<String>,

    /// Number of clients.
    #[arg(long, short = 'c', default_value_t = 100, value_name = "N", help_heading = "Connections")]
    pub(super) connections: u32,
    /// New clients per second, or `max`: as many as --in-flight handshakes at a time allow (a closed loop)
    /// [default: 100, or 1000 with --find-capacity].
    #[arg(long, short = 'r', value_name = "RATE", help_heading = "Connections")]
    pub(super) rate: Option<Rate>,
    /// Concurrent handshakes with `--rate max`.
    #[arg(long, default_value_t = 512, value_name = "N", help_heading = "Connections")]
    pub(super) in_flight: u32,
    /// Time that all clients stay, counted from when the last one has connected or failed.
    #[arg(long, default_value = "10s", value_name = "DURATION", help_heading = "Connections")]
    pub(super) hold: Span,
    /// A client counts as connected once it has stayed this long after its 101 response.
    #[arg(long, default_value = "1s", value_name = "DURATION", help_heading = "Connections")]
    pub(super) settle: Span,
    /// Time for the TCP connection, and again for the response to the upgrade.
    #[arg(long, default_value = "10s", value_name = "DURATION", help_heading = "Connections")]
    pub(super) timeout: Span,
    /// Clients per second that leave during the hold and are replaced by new ones.
    #[arg(long, default_value_t = 0.0, value_name = "RATE", value_parser = rate_or_never, help_heading = "Connections")]
    pub(super) churn: f64,
    /// Cut all connections at once this long into the hold, then reconnect; repeatable.
    #[arg(long, value_name = "DURATION", help_heading = "Connections")]
    pub(super) storm_at: Vec<Span>,
    /// Attempts after a failed or lost connection, with full jitter. Clients obey Retry-After and close codes.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Connections")]
    pub(super) retry: u32,
    /// Bound of the first retry delay; it doubles with each attempt in a row.
    #[arg(long, default_value = "100ms", value_name = "DURATION", help_heading = "Connections")]
    pub(super) retry_base: Span,
    /// Largest bound of the retry delay, unless the server asks for more.
    #[arg(long, default_value = "10s", value_name = "DURATION", help_heading = "Connections")]
    pub(super) retry_max: Span,
    /// Header of every upgrade, such as a token or an origin; repeatable.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = http_header, help_heading = "Connections")]
    pub(super) header: Vec<(String, String)>,

    /// Channels to subscribe to: names and patterns, such as `BTC.trade,K{0..99}.trade`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", help_heading = "Messages")]
    pub(super) channels: Vec<String>,
    /// Channels of that list that each client subscribes to, in turn; 0 means all.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Messages")]
    pub(super) subscribe_per_client: u32,
    /// Each client sends a heartbeat, or with --echo a message, this often [default: never].
    #[arg(long, value_name = "DURATION", help_heading = "Messages")]
    pub(super) send_interval: Option<Span>,
    /// The server echoes: send messages instead of heartbeats, and measure the time until they return.
    #[arg(long, help_heading = "Messages")]
    pub(super) echo: bool,
    /// Size of a message or record that this tester sends.
    #[arg(long, default_value = "128", value_name = "BYTES", help_heading = "Messages")]
    pub(super) payload: Size,
    /// Clients that read only at --slow-rate; they are counted separately and not audited.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Messages")]
    pub(super) slow: u32,
    /// Bytes per second that a slow client reads.
    #[arg(long, default_value = "1Ki", value_name = "BYTES", help_heading = "Messages")]
    pub(super) slow_rate: Size,

    /// Kafka bootstrap addresses, separated by commas. The audit reads the topic, and compares it with what clients
    /// received.
    #[arg(
        long,
        short,
        alias = "kafka",
        value_delimiter = ',',
        value_name = "HOST:PORT",
        requires = "topic",
        help_heading = "Audit"
    )]
    pub(super) brokers: Vec<String>,
    /// Topic of the channels, `NAME` or `NAME=TEMPLATE`. The template is that of the manifest
    /// [default: `{key}.SUFFIX`, with the suffix of the channels].
    #[arg(long, value_name = "TOPIC", requires = "brokers", help_heading = "Audit")]
    pub(super) topic: Option<String>,
    /// Records per second to publish, to all channels in turn, from the first connection to the end of the hold.
    #[arg(long, default_value_t = 0.0, value_name = "RATE", value_parser = rate_or_never, requires = "brokers",
        help_heading = "Audit")]
    pub(super) publish_rate: f64,
    /// Further librdkafka property (TLS, SASL), such as `security.protocol=SSL`; repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value, requires = "brokers", help_heading = "Audit")]
    pub(super) kafka_property: Vec<(String, String)>,
    /// Records published less than this before a client left need not have reached it. Clients also stay this long
    /// after the last record was published.
    #[arg(long, default_value = "2s", value_name = "DURATION", help_heading = "Audit")]
    pub(super) tail: Span,

    /// Threads of each process, with one event loop each.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "This tester")]
    pub(super) threads: u32,
    /// Processes; 0 means one per 9,000 clients.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "This tester")]
    pub(super) processes: u32,
    /// Source address to connect from; repeatable [default for loopback targets: as many of 127.0.0.2, 127.0.0.3, …
    /// as --connections needs ports].
    #[arg(long, value_name = "IP", help_heading = "This tester")]
    pub(super) source: Vec<IpAddr>,
    /// Format of the result on standard output.
    #[arg(long, short = 'o', default_value = "text", value_name = "FORMAT", help_heading = "This tester")]
    pub(super) output: Output,
    /// Exit with code 1 if this is true of the result, such as `failed>0` or `latency_ms.delivery.p99>50ms`;
    /// repeatable.
    #[arg(long, value_name = "EXPRESSION", value_delimiter = ',', help_heading = "This tester")]
    pub(super) fail_on: Vec<Threshold>,
    /// Format of the progress on standard error: a line for people, or a JSON object every second.
    #[arg(long, default_value = "text", value_name = "FORMAT", help_heading = "This tester")]
    pub(super) progress: Output,
    /// No progress on standard error.
    #[arg(long, short = 'q', help_heading = "This tester")]
    pub(super) quiet: bool,

    /// Raise connections and message rate step by step until a limit breaks. Without --url or --shard, load starts a
    /// shard and an embedded broker for it.
    #[arg(long, help_heading = "Capacity")]
    pub(super) find_capacity: bool,
    /// Limits at each step: `p99` (publish to receipt), `cpu` (percent of one CPU per worker), `loss` (messages),
    /// `failed` (clients).
    #[arg(long, value_name = "LIMITS", default_value = "p99=50ms,cpu=90,loss=0,failed=0", help_heading = "Capacity")]
    pub(super) limit: Limits,
    /// Messages per second that each client receives; one search per value.
    #[arg(long, value_delimiter = ',', default_values_t = [0.1, 1.0, 10.0], value_name = "RATES", value_parser = rate, help_heading = "Capacity")]
    pub(super) message_rates: Vec<f64>,
    /// Most connections to try.
    #[arg(long, default_value_t = 18_000, value_name = "N", help_heading = "Capacity")]
    pub(super) max_connections: u32,
    /// Workers of the shard that load starts.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Capacity")]
    pub(super) shard_workers: u32,
    /// Admin address of the server under test, to measure its CPU; with --url or --shard.
    #[arg(long, value_name = "HOST:PORT", help_heading = "Capacity")]
    pub(super) admin: Option<SocketAddr>,
    /// WsCluster manifest of the shard that load starts [default: one topic, 60 s of history].
    #[arg(long, short = 'f', value_name = "FILE", help_heading = "Capacity")]
    pub(super) file: Option<PathBuf>,

    /// Run as a child of another tester, which writes the plan to standard input.
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    pub(super) member: bool,
}

impl Args {
    /// The WebSocket address, in either spelling.
    pub(super) fn url(&self) -> Option<&String> {
        self.url.as_ref().or(self.old_url.as_ref())
    }
}
