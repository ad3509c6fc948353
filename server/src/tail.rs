//! `wscluster tail CHANNEL…`: prints the messages of channels with their positions, as they come.
//!
//! It does what a good client does: it keeps the position of each channel, comes back after a broken connection as the close
//! code asks, says what it last saw, and tells when something was missed. It checks the links between messages itself.

mod follow;
mod print;
mod progress;

use std::process::ExitCode;
use std::time::Duration;

use wscluster_api::units::Span;

use crate::cli::{Output, USAGE, name_value};
use crate::feed::Position;

const EXAMPLES: &str = "\
Examples:
  wscluster tail BTC.trade ETH.trade
  # the last message first, then what comes; ten messages and out
  wscluster tail --url ws://localhost:8080/ws --latest --count 10 BTC.trade
  # go on where an earlier run stopped (its last `pos`), as JSON lines
  wscluster tail BTC.trade --since BTC.trade=9f3c01aa-2-1047 --output json

A connection from which nothing comes for two ping intervals of the server (its `hello` says how long, 27 s by default) is
given up, and so is a connect or an upgrade without an answer for 10 s; it comes back as after any other end.

Exit codes: 0 ended by --count, --for or by hand, 1 refused or never subscribed, 2 wrong command line.";

/// Arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Channels to subscribe to.
    #[arg(required = true)]
    channels: Vec<String>,
    /// WebSocket address of a gateway or a shard.
    #[arg(long, default_value = "ws://127.0.0.1:8080/ws", env = "WSCLUSTER_URL")]
    url: String,
    /// Position of the last message seen, `CHANNEL=POSITION`; may be given several times.
    #[arg(long, value_name = "CHANNEL=POSITION", value_parser = since)]
    since: Vec<(String, Position)>,
    /// Begin with the last message of each channel.
    #[arg(long, conflicts_with = "since")]
    latest: bool,
    /// Header of the upgrade, `NAME=VALUE`, such as a token or an origin; may be given several times.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = name_value)]
    header: Vec<(String, String)>,
    /// End after this many messages, 1 or more.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time.
    #[arg(long = "for", value_name = "DURATION")]
    period: Option<Span>,
    /// End when the connection ends, with an error.
    #[arg(long)]
    no_reconnect: bool,
    /// Form of the messages on standard output: for people, or each as the JSON that came.
    #[arg(long, short, default_value = "text")]
    output: Output,
}

fn since(text: &str) -> Result<(String, Position), String> {
    // A channel may hold the sign, a position does not.
    let (channel, position) = text.rsplit_once('=').ok_or("write it as CHANNEL=POSITION")?;
    let position = position.parse().map_err(|error: crate::feed::PositionError| error.to_string())?;
    Ok((channel.to_owned(), position))
}

/// Runs the part.
pub fn run(args: &Args) -> ExitCode {
    let period = args.period.map(|period| period.0);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("failed to start: {error}"), ExitCode::FAILURE),
    };
    let contact = follow::Contact::default();
    let followed = runtime.block_on(async {
        let end = async {
            match period {
                Some(period) => tokio::time::sleep(period).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            followed = follow::follow(args, &contact) => followed,
            () = end => contact.ended(),
            _ = crate::process::stop_requested(false) => Ok(()),
        }
    });
    match followed {
        Ok(()) => ExitCode::SUCCESS,
        // `wscluster tail … | head` ends by this, and well.
        Err(follow::FollowError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error @ (follow::FollowError::Url { .. } | follow::FollowError::Header(_))) => {
            fail(&error.to_string(), ExitCode::from(USAGE))
        }
        Err(error) => fail(&error.to_string(), ExitCode::FAILURE),
    }
}

fn fail(error: &str, code: ExitCode) -> ExitCode {
    eprintln!("error: {error}");
    code
}

/// How long to wait before attempt `n` (from 0): anything up to a bound that doubles, so that clients do not come in step.
fn backoff(attempt: u32) -> Duration {
    let most = Duration::from_millis(200).saturating_mul(1 << attempt.min(6)).min(Duration::from_secs(10));
    most.mul_f64(rand::random::<f64>())
}
