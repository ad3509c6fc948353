//! A client that keeps the positions of its channels, reconnects as the server asks, and resumes where it stopped.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use wscluster_protocol::Position;

use super::handshake::{HandshakeError, Refusal, SUBPROTOCOL};
use super::{
    Connection, ConnectionError, Endpoint, Incoming, Link, Message, Positions, ReconnectPolicy, Retry, subscribe,
};

/// The default of `spec.delivery.pingInterval`, for servers whose `hello` does not name the interval.
const PING: Duration = Duration::from_secs(27);

/// How long a closing handshake may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// What a client connects to and subscribes to.
#[derive(Clone, Debug)]
pub struct Config {
    /// A gateway or a shard.
    pub endpoint: Endpoint,
    /// Further header lines of the upgrade, see [`header_lines`](super::handshake::header_lines).
    pub headers: String,
    /// Channels to subscribe to.
    pub channels: Vec<String>,
    /// Positions of the last messages received.
    pub since: Vec<(String, Position)>,
    /// Start with the last message of each channel.
    pub latest: bool,
    /// Delays between attempts. Failures count in a row; a message resets the count.
    pub backoff: ReconnectPolicy,
    /// Limit for the TCP connection, and again for the upgrade.
    pub limit: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The server accepted the subscription.
    Subscribed,
    /// A message of a channel, or any other text that the server sent.
    Message {
        /// The text as it was sent.
        text: String,
        /// The channel and how the message follows the previous one; `None` if it is not a record.
        record: Option<(String, Link)>,
    },
    /// Messages of the channel may be missing: the server could not recover them.
    Unrecovered {
        /// The channel.
        channel: String,
        /// The reason of the server, e.g. `too_old`.
        reason: Option<String>,
    },
    /// The shard itself missed messages of the channel. Fetch fresh state.
    Gap {
        /// The channel.
        channel: String,
    },
    /// The client reconnected without a position for the channel: messages may be missing.
    NoPosition {
        /// The channel.
        channel: String,
    },
    /// The connection, or an attempt, ended. The client reconnects.
    Disconnected {
        /// Why.
        cause: Disconnect,
        /// Connections and attempts in a row that brought no message, 1 or more.
        failures: u32,
        /// Delay before the next attempt.
        retry_in: Duration,
    },
}

/// Why a connection, or an attempt to connect, ended.
#[derive(Debug)]
pub enum Disconnect {
    /// The handshake failed.
    Handshake(HandshakeError),
    /// The server sent a Close frame.
    Closed {
        /// Close code.
        code: Option<u16>,
        /// Close reason.
        reason: String,
    },
    /// The connection was lost.
    Lost(ConnectionError),
    /// Nothing arrived, pings included, for this time.
    Silent(Duration),
}

impl Disconnect {
    fn retry(&self) -> Retry {
        match self {
            Self::Handshake(error) => error.retry(),
            Self::Closed { code, reason } => Retry::of_close(*code, reason),
            Self::Lost(_) | Self::Silent(_) => Retry::JITTER,
        }
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(error) => error.fmt(f),
            Self::Closed { code: None, .. } => f.write_str("the server closed the connection"),
            Self::Closed { code: Some(code), reason } => {
                write!(f, "{}", format!("the server closed the connection: {code} {reason}").trim_end())
            }
            Self::Lost(error) => error.fmt(f),
            Self::Silent(time) => write!(f, "nothing arrived for {time:?}, twice the ping interval"),
        }
    }
}

/// The client does not reconnect.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused the upgrade, and would refuse it again.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// The server does not support this protocol.
    #[error("the server refused: it does not support {SUBPROTOCOL}")]
    Subprotocol,
    /// The server rejected the subscription.
    #[error("the server rejected the subscription: {0}")]
    Rejected(String),
    /// The server closed the connection with a code that forbids to reconnect.
    #[error("{0}; this code forbids to reconnect")]
    Forbidden(Disconnect),
    /// [`ReconnectPolicy::retries`] attempts failed.
    #[error("connection ended: {0}")]
    GaveUp(Disconnect),
}

/// A subscribed client. It holds no connection until the first [`Client::next`].
#[derive(Debug)]
pub struct Client {
    config: Config,
    positions: Positions,
    connection: Option<Connection>,
    events: VecDeque<Event>,
    retry_at: Option<Instant>,
    ping: Duration,
    has_subscribed: bool,
    failures: u32,
}

impl Client {
    /// A client that is not connected yet.
    pub fn new(config: Config) -> Self {
        let positions = Positions::new(config.since.iter().cloned());
        let (connection, events, retry_at) = (None, VecDeque::new(), None);
        Self { config, positions, connection, events, retry_at, ping: PING, has_subscribed: false, failures: 0 }
    }

    /// Whether a server ever accepted the subscription.
    pub fn has_subscribed(&self) -> bool {
        self.has_subscribed
    }

    /// The next event. Connects, subscribes and waits as needed.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let Some(connection) = &mut self.connection else {
                if let Some(at) = self.retry_at {
                    sleep_until(at).await;
                }
                match self.connect().await {
                    Ok(connection) => self.connection = Some(connection),
                    Err(cause) => self.disconnected(cause)?,
                }
                continue;
            };
            // A link may fail silently. TCP does not report this to a peer that only receives.
            let silence = 2 * self.ping;
            match timeout(silence, connection.next()).await {
                Ok(Ok(Incoming::Text(text))) => self.receive(text)?,
                Ok(Ok(Incoming::Close { code, reason })) => self.disconnected(Disconnect::Closed { code, reason })?,
                Ok(Ok(Incoming::Binary(_) | Incoming::Control)) => {}
                Ok(Err(error)) => self.disconnected(Disconnect::Lost(error))?,
                Err(_) => self.disconnected(Disconnect::Silent(silence))?,
            }
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close(CLOSE_TIME).await;
        }
    }

    async fn connect(&mut self) -> Result<Connection, Disconnect> {
        let Config { endpoint, headers, channels, latest, limit, .. } = &self.config;
        let mut connection = Connection::open(endpoint, headers, *limit).await.map_err(Disconnect::Handshake)?;
        let request = subscribe(channels, Some(self.positions.since(channels, *latest)));
        connection.send(&request).await.map_err(|error| Disconnect::Lost(error.into()))?;
        if self.has_subscribed {
            let unknown = self.positions.unknown(channels).into_iter();
            self.events.extend(unknown.map(|channel| Event::NoPosition { channel: channel.to_owned() }));
        }
        self.ping = PING;
        Ok(connection)
    }

    fn disconnected(&mut self, cause: Disconnect) -> Result<(), ClientError> {
        self.connection = None;
        self.failures = self.failures.saturating_add(1);
        let retry = cause.retry();
        let Some(retry_in) = self.config.backoff.delay(retry, self.failures) else {
            return Err(match cause {
                Disconnect::Handshake(HandshakeError::Refused(refusal)) if retry == Retry::NEVER => {
                    ClientError::Refused(refusal)
                }
                Disconnect::Handshake(HandshakeError::Subprotocol) => ClientError::Subprotocol,
                cause if retry == Retry::NEVER => ClientError::Forbidden(cause),
                cause => ClientError::GaveUp(cause),
            });
        };
        self.retry_at = Some(Instant::now() + retry_in);
        self.events.push_back(Event::Disconnected { cause, failures: self.failures, retry_in });
        Ok(())
    }

    fn receive(&mut self, text: String) -> Result<(), ClientError> {
        let record = match Message::parse(&text) {
            Message::Hello { ping, .. } => {
                self.ping = ping.unwrap_or(PING);
                return Ok(());
            }
            Message::Pong => return Ok(()),
            Message::Subscribed(mut ack) => {
                self.has_subscribed = true;
                self.events.push_back(Event::Subscribed);
                for (channel, _) in ack.recovered.into_iter().filter(|(_, recovered)| !recovered) {
                    self.positions.replace(&channel, &[]);
                    let reason = ack.reason.remove(&channel);
                    self.events.push_back(Event::Unrecovered { channel, reason });
                }
                for (channel, positions) in &ack.positions {
                    self.positions.replace(channel, positions);
                }
                return Ok(());
            }
            Message::Gap { channel, positions } => {
                self.positions.replace(&channel, &positions);
                self.events.push_back(Event::Gap { channel: channel.into_owned() });
                return Ok(());
            }
            // The only request is the subscription, and it would be rejected again.
            Message::Error { message, .. } => return Err(ClientError::Rejected(message.unwrap_or(text))),
            Message::Record(record) => {
                let link = self.positions.step(&record.channel, record.position, record.prev);
                self.failures = 0;
                Some((record.channel.into_owned(), link))
            }
            Message::Other => None,
        };
        self.events.push_back(Event::Message { text, record });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
