//! The command line of `wscluster load`: what a person types. [`super::settings`] turns it into a checked run.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::ArgAction;
use wscluster_api::units::{Size, Span};
use wscluster_runtime::args::{Output, name_value, rate, rate_or_never};

use super::capacity::Limits;
use super::schedule::Rate;
use super::threshold::Threshold;

const EXAMPLES: &str = "\
Examples:
  12,000 clients at 100/s through the gateway, held for a minute, one heartbeat each every 10 s:
    wscluster load ws://127.0.0.1:8080/ws --connections 12000 --rate 100 --hold 60s --send-interval 10s
  The same straight at three shards, failing a script when anything failed or was slow:
    wscluster load --shard 127.0.0.1:4001 --shard 127.0.0.1:4002 --shard 127.0.0.1:4003 \\
      --connections 12000 --fail-on 'failed>0' --fail-on 'latency_ms.upgrade.p99>250' --output json
  Publish 50 records a second and audit that every subscriber gets each of them once, through a reconnect storm:
    wscluster load ws://127.0.0.1:8080/ws --connections 2000 --channels 'K{0..9}.trade' \\
      --kafka 127.0.0.1:9092 --topic odin.trades --publish-rate 50 --storm-at 20s --retry 5
  What one shard holds on this machine:
    wscluster load --find-capacity --limit p99=50ms,cpu=90,loss=0

Exit codes: 0 all went as wanted, 1 a threshold of --fail-on was crossed (without --fail-on: no client connected),
2 the command line is wrong, 3 could not run, or the audit of --topic failed.
Fields for --fail-on and of --output json: docs/load.md.";

/// Arguments of `wscluster load`.
#[derive(clap::Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: --help")]
pub struct Args {
    /// Where clients connect, e.g. `ws://127.0.0.1:8080/ws`.
    #[arg(conflicts_with = "shard")]
    pub(super) url: Option<String>,
    /// Connect straight to this shard (host:port, path /ws); repeat it for several, used in turn.
    #[arg(long, value_name = "ADDR")]
    pub(super) shard: Vec<String>,

    /// Clients.
    #[arg(long, short = 'c', default_value_t = 100, value_name = "N", help_heading = "Connections")]
    pub(super) connections: u32,
    /// Clients started a second, or `max`: as fast as --in-flight handshakes at a time allow (a closed loop).
    /// Default: 100; 1000 with --find-capacity.
    #[arg(long, short = 'r', help_heading = "Connections")]
    pub(super) rate: Option<Rate>,
    /// Handshakes under way at a time with `--rate max`.
    #[arg(long, default_value_t = 512, value_name = "N", help_heading = "Connections")]
    pub(super) in_flight: u32,
    /// How long all clients stay, counted from when the last of them has connected or failed.
    #[arg(long, default_value = "10s", value_name = "TIME", help_heading = "Connections")]
    pub(super) hold: Span,
    /// A client counts as connected when it has lived this long after its 101.
    #[arg(long, default_value = "1s", value_name = "TIME", help_heading = "Connections")]
    pub(super) settle: Span,
    /// Limit for the TCP connection, and again for the answer to the upgrade.
    #[arg(long, default_value = "10s", value_name = "TIME", help_heading = "Connections")]
    pub(super) timeout: Span,
    /// Clients that leave and are replaced by new ones, a second, during the hold.
    #[arg(long, default_value_t = 0.0, value_name = "RATE", value_parser = rate_or_never, help_heading = "Connections")]
    pub(super) churn: f64,
    /// Cut every connection at once this long into the hold, and reconnect; repeat for several storms.
    #[arg(long, value_name = "TIME", help_heading = "Connections")]
    pub(super) storm_at: Vec<Span>,
    /// Attempts after a failed or lost one, spread by full jitter; Retry-After and close codes are obeyed.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Connections")]
    pub(super) retry: u32,
    /// Base of the retry delay, doubled with every attempt in a row.
    #[arg(long, default_value = "100ms", value_name = "TIME", help_heading = "Connections")]
    pub(super) retry_base: Span,
    /// Upper bound of the retry delay, unless the server asks for more.
    #[arg(long, default_value = "10s", value_name = "TIME", help_heading = "Connections")]
    pub(super) retry_max: Span,
    /// Extra header of every upgrade, `Name: value`; repeatable.
    #[arg(long, short = 'H', value_name = "HEADER", help_heading = "Connections")]
    pub(super) header: Vec<String>,

    /// Channels to subscribe to: names and patterns, e.g. `BTC.trade,K{0..99}.trade`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", help_heading = "Messages")]
    pub(super) channels: Vec<String>,
    /// Channels each client takes from that list, in turn; 0 means all of them.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Messages")]
    pub(super) subscribe_per_client: u32,
    /// Each client sends a heartbeat (with --echo: a message) this often; absent: never.
    #[arg(long, value_name = "TIME", help_heading = "Messages")]
    pub(super) send_interval: Option<Span>,
    /// The server echoes: send messages instead of heartbeats and time their return.
    #[arg(long, help_heading = "Messages")]
    pub(super) echo: bool,
    /// Bytes of a message or record that this tester sends.
    #[arg(long, default_value = "128", value_name = "BYTES", help_heading = "Messages")]
    pub(super) payload: Size,
    /// Clients that read only --slow-rate; counted apart, not audited.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Messages")]
    pub(super) slow: u32,
    /// Bytes a slow client reads a second.
    #[arg(long, default_value = "1Ki", value_name = "BYTES", help_heading = "Messages")]
    pub(super) slow_rate: Size,

    /// Kafka bootstrap addresses: read the topic beside the clients, so that the audit knows what they had to get.
    #[arg(long, value_delimiter = ',', value_name = "ADDR", requires = "topic", help_heading = "Audit")]
    pub(super) kafka: Vec<String>,
    /// Topic of these channels, `NAME` or `NAME=TEMPLATE`; the template is the manifest's, default `{key}.SUFFIX`
    /// with the suffix of the channels.
    #[arg(long, value_name = "TOPIC", requires = "kafka", help_heading = "Audit")]
    pub(super) topic: Option<String>,
    /// Records to publish a second, to all channels in turn, from the first connection to the end of the hold.
    #[arg(long, default_value_t = 0.0, value_name = "RATE", value_parser = rate_or_never, requires = "kafka", help_heading = "Audit")]
    pub(super) publish_rate: f64,
    /// Further librdkafka property (TLS, SASL), e.g. `security.protocol=SSL`; repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value, requires = "kafka", help_heading = "Audit")]
    pub(super) kafka_property: Vec<(String, String)>,
    /// What was published less than this before a client left need not have reached it; also how long clients stay
    /// after the last record was published.
    #[arg(long, default_value = "2s", value_name = "TIME", help_heading = "Audit")]
    pub(super) tail: Span,

    /// Threads with an event loop each, in every process.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "This tester")]
    pub(super) threads: u32,
    /// Processes; 0 means one per 9,000 clients.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "This tester")]
    pub(super) processes: u32,
    /// Source address to connect from; repeat it for several. Default for loopback targets: as many of 127.0.0.2,
    /// 127.0.0.3, … as --connections needs ports.
    #[arg(long, value_name = "IP", help_heading = "This tester")]
    pub(super) source: Vec<IpAddr>,
    /// Form of the result.
    #[arg(long, short = 'o', default_value = "text", help_heading = "This tester")]
    pub(super) output: Output,
    /// End with code 1 when this holds for the result, e.g. `failed>0` or `latency_ms.delivery.p99>50ms`; repeatable.
    #[arg(long, value_name = "EXPRESSION", value_delimiter = ',', help_heading = "This tester")]
    pub(super) fail_on: Vec<Threshold>,
    /// Form of the progress on standard error: a line for people, or a JSON object every second.
    #[arg(long, default_value = "text", value_name = "FORM", help_heading = "This tester")]
    pub(super) progress: Output,
    /// No progress on standard error.
    #[arg(long, short = 'q', help_heading = "This tester")]
    pub(super) quiet: bool,

    /// Raise connections and message rate step by step until a limit breaks. Without a URL: against one shard that is
    /// started for it, fed by an embedded broker.
    #[arg(long, help_heading = "Capacity")]
    pub(super) find_capacity: bool,
    /// What must hold at each step: `p99` (publish to receipt), `cpu` (percent of one CPU per worker), `loss`
    /// (messages), `failed` (clients).
    #[arg(long, default_value = "p99=50ms,cpu=90,loss=0,failed=0", help_heading = "Capacity")]
    pub(super) limit: Limits,
    /// Messages each client receives a second, one search a value.
    #[arg(long, value_delimiter = ',', default_values_t = [0.1, 1.0, 10.0], value_name = "RATES", value_parser = rate, help_heading = "Capacity")]
    pub(super) message_rates: Vec<f64>,
    /// Connections never tried beyond.
    #[arg(long, default_value_t = 18_000, value_name = "N", help_heading = "Capacity")]
    pub(super) max_connections: u32,
    /// Workers of the shard that is started.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Capacity")]
    pub(super) shard_workers: u32,
    /// Admin address of the server under test, for its CPU; with a URL or --shard.
    #[arg(long, value_name = "ADDR", help_heading = "Capacity")]
    pub(super) admin: Option<SocketAddr>,
    /// Manifest of the shard that is started; default: one topic, history 60 s.
    #[arg(long, short = 'f', value_name = "FILE", help_heading = "Capacity")]
    pub(super) file: Option<PathBuf>,

    /// Take part in another tester's run: orders come on standard input.
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    pub(super) member: bool,
}
