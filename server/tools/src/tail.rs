//! `wscluster tail CHANNEL…`: prints the messages of channels with their positions, as they come.
//!
//! It does what a good client does: it keeps the position of each channel, comes back after a broken connection as the close
//! code asks, says what it last saw, and tells when something was missed. It checks the links between messages itself.

mod follow;
mod print;
mod progress;

use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot;
use wscluster_api::units::Span;
use wscluster_protocol::Position;
use wscluster_runtime::args::{Output, http_header};
use wscluster_runtime::exit::{FAILED, USAGE, fail};

const EXAMPLES: &str = "\
Examples:
  wscluster tail BTC.trade ETH.trade
  # ten messages, beginning with the last one sent
  wscluster tail --url ws://localhost:8080/ws --latest --count 10 BTC.trade
  # resume from the last `pos` of an earlier run, as JSON lines
  wscluster tail BTC.trade --since BTC.trade=9f3c01aa-2-1047 --output json

tail reconnects and resumes after a lost connection. It gives up a connection that is silent for two
ping intervals of the server (54 s by default), and an attempt without an answer after 10 s.

Exit codes: 0 ended by --count, --for or a signal, 1 refused or never subscribed, 2 wrong command line.";

/// Arguments of `wscluster tail`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Channels to subscribe to.
    #[arg(required = true)]
    channels: Vec<String>,
    /// WebSocket address of a gateway or a shard.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080/ws", env = "WSCLUSTER_URL")]
    url: String,
    /// Position of the last message received on a channel, its `pos`; repeatable.
    #[arg(long, value_name = "CHANNEL=POSITION", value_parser = since)]
    since: Vec<(String, Position)>,
    /// Begin with the last message of each channel.
    #[arg(long, conflicts_with = "since")]
    latest: bool,
    /// Header of the upgrade, such as a token or an origin; repeatable.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = http_header)]
    header: Vec<(String, String)>,
    /// End after this many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time.
    #[arg(long = "for", value_name = "DURATION")]
    period: Option<Span>,
    /// Do not reconnect: a lost connection is an error.
    #[arg(long)]
    no_reconnect: bool,
    /// Format of the messages on standard output; JSON prints each as it was received.
    #[arg(long, short, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

fn since(text: &str) -> Result<(String, Position), String> {
    // A channel may hold the sign, a position does not.
    let (channel, position) = text.rsplit_once('=').ok_or("write it as CHANNEL=POSITION")?;
    let position = position.parse().map_err(|error: wscluster_protocol::PositionError| error.to_string())?;
    Ok((channel.to_owned(), position))
}

/// Why following is to end.
enum Stop {
    TimeUp,
    Signal,
}

/// How long the line that is being written may take when following is to end: whoever reads it does so meanwhile.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Runs the part.
pub fn run(args: &Args) -> ExitCode {
    if let Some(channel) = stranger(args) {
        let given = args.channels.join(" ");
        let error =
            format!("--since {channel}: it is none of the channels to subscribe to ({given}); name it there too");
        return fail(USAGE, error);
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let attended = runtime().and_then(|attending| attending.block_on(attend(args, runtime()?)));
    let followed = match attended {
        Ok(followed) => followed,
        Err(error) => return fail(FAILED, format_args!("failed to start: {error}")),
    };
    match followed {
        Ok(()) => ExitCode::SUCCESS,
        // `wscluster tail … | head` ends by this, and well.
        Err(follow::FollowError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error @ (follow::FollowError::Url { .. } | follow::FollowError::Header(_))) => fail(USAGE, error),
        Err(error) => fail(FAILED, error),
    }
}

/// A channel that a position is given for, and that is not asked for.
fn stranger(args: &Args) -> Option<&str> {
    args.since
        .iter()
        .map(|(channel, _)| channel.as_str())
        .find(|channel| args.channels.iter().all(|one| one != channel))
}

/// Follows on a thread of its own, by `following`: writing waits for whoever reads, and a signal must not wait for them too.
async fn attend(args: &Args, following: tokio::runtime::Runtime) -> std::io::Result<Result<(), follow::FollowError>> {
    let (stop, stopped) = oneshot::channel();
    let (ended, mut end) = oneshot::channel();
    let to_follow = args.clone();
    std::thread::Builder::new().name("tail".into()).spawn(move || {
        let contact = follow::Contact::default();
        let followed = following.block_on(async {
            tokio::select! {
                followed = follow::follow(&to_follow, &contact) => followed,
                stop = stopped => match stop {
                    Ok(Stop::TimeUp) => contact.ended(),
                    _ => Ok(()),
                },
            }
        });
        let _ = ended.send(followed);
    })?;
    let time_up = async {
        match args.period {
            Some(period) => tokio::time::sleep(period.0).await,
            None => std::future::pending().await,
        }
    };
    let why = tokio::select! {
        followed = &mut end => return Ok(followed.unwrap_or(Err(follow::FollowError::Fault))),
        () = time_up => Stop::TimeUp,
        _ = wscluster_runtime::shutdown::stop_requested(false) => Stop::Signal,
    };
    let _ = stop.send(why);
    // Nobody reads: nothing more can be said to them.
    Ok(tokio::time::timeout(LAST_LINE, end).await.map_or(Ok(()), |followed| followed.unwrap_or(Ok(()))))
}

/// How long to wait before attempt `n` (from 0): anything up to a bound that doubles, so that clients do not come in step.
fn backoff(attempt: u32) -> Duration {
    let most = Duration::from_millis(200).saturating_mul(1 << attempt.min(6)).min(Duration::from_secs(10));
    most.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use wscluster_runtime::args::parsed;

    use super::*;

    #[test]
    fn finds_a_position_of_a_channel_that_is_not_asked_for() {
        let args = parsed(["tail", "K.a", "b=c", "--since", "b=c=1-0-5", "--since", "Z.a=1-0-5"]).unwrap();
        assert_eq!(stranger(&args), Some("Z.a"));
        assert_eq!(run(&args), ExitCode::from(USAGE));
        let args = parsed(["tail", "K.a", "--since", "K.a=1-0-5"]).unwrap();
        assert_eq!(stranger(&args), None);
    }
}
