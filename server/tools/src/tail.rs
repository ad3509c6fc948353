//! `wscluster tail CHANNEL…`: prints the messages of channels as they arrive.
//!
//! The client is [`wscluster_client::Client`]: it keeps positions, resumes after a lost connection, and notices missing
//! messages. This file maps arguments to it and prints its events: messages on standard output, remarks on standard
//! error.

mod print;

use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot;
use wscluster_api::units::Span;
use wscluster_client::handshake::{HeaderError, header_lines};
use wscluster_client::{Client, ClientError, Config, Endpoint, EndpointError, Event, Link, ReconnectPolicy};
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

Exit codes: 0 ended by --count, --for or a signal, 1 refused or never subscribed, 2 wrong command
line.";

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

/// Time limit for the TCP connection, and again for the upgrade.
const CONNECT: Duration = Duration::from_secs(10);

/// Time limit for writing the current line at the end, because the reader of standard output may be slow.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Why `tail` failed.
#[derive(Debug, thiserror::Error)]
enum TailError {
    #[error("failed to read --url: {0}")]
    Url(#[from] EndpointError),
    #[error("failed to read --header: {0}")]
    Header(#[from] HeaderError),
    #[error("{0}; is --url the address of clients, such as ws://localhost:8080/ws, and not an admin port?")]
    NotFound(ClientError),
    #[error(transparent)]
    Client(ClientError),
    #[error("failed to subscribe in the time of --for: {0}")]
    NeverSubscribed(String),
    #[error("failed to write: {0}")]
    Output(#[from] std::io::Error),
    #[error("an internal fault ended the client; the output above shows it")]
    Fault,
}

impl From<ClientError> for TailError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(ref refusal) if refusal.status == 404 => Self::NotFound(error),
            error => Self::Client(error),
        }
    }
}

/// What ends `tail` from outside.
enum Stop {
    TimeUp,
    Signal,
}

/// Runs `wscluster tail`.
pub fn run(args: &Args) -> ExitCode {
    if let Some(channel) = unsubscribed(args) {
        let given = args.channels.join(" ");
        let error = format!("--since {channel}: the command line does not subscribe to it ({given}); add the channel");
        return fail(USAGE, error);
    }
    let config = match config(args) {
        Ok(config) => config,
        Err(error) => return fail(USAGE, error),
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime().and_then(|supervisor| supervisor.block_on(supervise(args, config, runtime()?))) {
        Ok(ended) => ended,
        Err(error) => return fail(FAILED, format_args!("failed to start: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        // `wscluster tail … | head` ends this way.
        Err(TailError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, error),
    }
}

fn config(args: &Args) -> Result<Config, TailError> {
    let headers = args.header.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let retries = if args.no_reconnect { 0 } else { u32::MAX };
    Ok(Config {
        endpoint: Endpoint::of_url(&args.url)?,
        headers: header_lines(headers)?,
        channels: args.channels.clone(),
        since: args.since.clone(),
        latest: args.latest,
        backoff: ReconnectPolicy { retries, ..ReconnectPolicy::default() },
        limit: CONNECT,
    })
}

/// A channel of `--since` that is not subscribed to.
fn unsubscribed(args: &Args) -> Option<&str> {
    args.since
        .iter()
        .map(|(channel, _)| channel.as_str())
        .find(|channel| args.channels.iter().all(|one| one != channel))
}

/// Runs the client on a thread of its own, in `runtime`: printing blocks while standard output is not read, and a
/// signal must end the process nevertheless.
async fn supervise(
    args: &Args,
    config: Config,
    runtime: tokio::runtime::Runtime,
) -> std::io::Result<Result<(), TailError>> {
    let (stop, stopped) = oneshot::channel();
    let (ended, mut end) = oneshot::channel();
    let args_of_thread = args.clone();
    std::thread::Builder::new().name("tail".into()).spawn(move || {
        let followed = runtime.block_on(follow_until(stopped, &args_of_thread, Client::new(config)));
        let _ = ended.send(followed);
    })?;
    let time_up = async {
        match args.period {
            Some(period) => tokio::time::sleep(period.0).await,
            None => std::future::pending().await,
        }
    };
    let cause = tokio::select! {
        followed = &mut end => return Ok(followed.unwrap_or(Err(TailError::Fault))),
        () = time_up => Stop::TimeUp,
        _ = wscluster_runtime::shutdown::stop_requested(false) => Stop::Signal,
    };
    let _ = stop.send(cause);
    Ok(tokio::time::timeout(LAST_LINE, end).await.map_or(Ok(()), |followed| followed.unwrap_or(Ok(()))))
}

async fn follow_until(stopped: oneshot::Receiver<Stop>, args: &Args, mut client: Client) -> Result<(), TailError> {
    let mut trouble = None;
    let stop = tokio::select! {
        followed = follow(args, &mut client, &mut trouble) => {
            if followed.is_ok() {
                client.close().await;
            }
            return followed;
        }
        stop = stopped => stop,
    };
    match stop {
        Ok(Stop::TimeUp) if !client.has_subscribed() => {
            let trouble = trouble.unwrap_or_else(|| "the server did not answer".to_owned());
            Err(TailError::NeverSubscribed(trouble))
        }
        _ => Ok(()),
    }
}

/// Prints what arrives until `--count` is reached. `trouble` becomes the reason of the last disconnect.
async fn follow(args: &Args, client: &mut Client, trouble: &mut Option<String>) -> Result<(), TailError> {
    let mut left = args.count;
    loop {
        match client.next().await? {
            Event::Subscribed => {}
            Event::Message { text, record } => {
                match &record {
                    Some((channel, Link::Hole)) => print::remark(&format!("{channel}: messages are missing here")),
                    Some((channel, Link::Repeat)) => {
                        print::remark(&format!("{channel}: the next message was received before"));
                    }
                    _ => {}
                }
                print::message(&text, args.output)?;
                if let (Some(left), Some(_)) = (&mut left, &record) {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        return Ok(());
                    }
                }
            }
            Event::Unrecovered { channel, reason } => {
                let reason = reason.as_deref().unwrap_or("no reason given");
                print::remark(&format!("{channel}: messages may be missing ({reason})"));
            }
            Event::Gap { channel } => {
                print::remark(&format!("{channel}: the shard missed messages; fetch fresh state"));
            }
            Event::NoPosition { channel } => {
                print::remark(&format!("{channel}: no position to resume from; messages may be missing"));
            }
            Event::Disconnected { cause, retry_in, .. } => {
                print::remark(&format!("{cause}; reconnecting in {} ms", retry_in.as_millis()));
                *trouble = Some(cause.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wscluster_runtime::args::parsed;

    use super::*;

    #[test]
    fn finds_a_position_of_a_channel_without_a_subscription() {
        let args = parsed(["tail", "K.a", "b=c", "--since", "b=c=1-0-5", "--since", "Z.a=1-0-5"]).unwrap();
        assert_eq!(unsubscribed(&args), Some("Z.a"));
        assert_eq!(run(&args), ExitCode::from(USAGE));
        let args = parsed(["tail", "K.a", "--since", "K.a=1-0-5"]).unwrap();
        assert_eq!(unsubscribed(&args), None);
    }

    #[test]
    fn names_what_is_wrong_with_the_url_or_a_header() {
        let refusal = |more: &[&str]| {
            let args = parsed([&["tail", "a"], more].concat()).unwrap();
            assert_eq!(run(&args), ExitCode::from(USAGE));
            config(&args).unwrap_err().to_string()
        };
        assert!(refusal(&["--url", "wss://x/ws"]).contains("plain ws:// only"));
        assert!(refusal(&["--url", "http://x/ws"]).contains("plain ws:// only"));
        assert!(refusal(&["--url", "not a url"]).contains("failed to read --url: \"not a url\""));
        assert!(refusal(&["--header", "A=\u{1}"]).contains("failed to read --header: \"A=\\u{1}\""));
    }

    /// Follows a server that sends `answer` and nothing else.
    async fn follow_answer(answer: &'static [u8], more: &[&str], stop: Option<Stop>) -> Result<(), TailError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let args: Args = parsed([&["tail", "a", "--url", &url], more].concat()).unwrap();
        let (sender, stopped) = oneshot::channel();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
            if let Some(stop) = stop {
                let _ = sender.send(stop);
                stream
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            followed = follow_until(stopped, &args, Client::new(config(&args).unwrap())) => followed,
            _stream = async { let stream = server.await; std::future::pending::<()>().await; stream } => unreachable!(),
        }
    }

    #[tokio::test]
    async fn explains_a_404() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        let error = follow_answer(answer, &[], None).await.unwrap_err().to_string();
        assert!(error.starts_with("the server refused: 404 Not Found; is --url the address of clients"), "{error}");
    }

    #[tokio::test]
    async fn fails_when_the_time_is_up_without_a_subscription() {
        let error = follow_answer(b"", &[], Some(Stop::TimeUp)).await.unwrap_err().to_string();
        assert_eq!(error, "failed to subscribe in the time of --for: the server did not answer");
    }

    #[tokio::test]
    async fn ends_well_on_a_signal_without_a_subscription() {
        follow_answer(b"", &[], Some(Stop::Signal)).await.unwrap();
    }
}
