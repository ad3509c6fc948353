//! The client's side of a handshake: reads its head, notices that it has disconnected, sends a refusal.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use wscluster_ws::upgrade::{Refusal, accept_key, parse_request};

use super::admission::Credentials;
use super::client_address::client_address;
use super::forward;
use super::outcome::{Outcome, Phase};
use super::settings::Settings;
use super::socket::{Socket as _, has_hung_up};
use super::tunnel::with_scratch;

/// How long, and how many bytes, a refused client may go on sending. Closing earlier would reset the connection, and
/// lose the answer.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 256 << 10;

/// A client whose handshake is under way.
pub(crate) struct Client {
    /// Its socket.
    pub(crate) stream: TcpStream,
    /// Bytes may wait in the socket although its readiness was cleared.
    unreported: Cell<bool>,
}

/// A valid upgrade request, ready to be sent to any shard.
#[derive(Debug)]
pub(crate) struct ClientRequest {
    /// What admission needs of it.
    pub(crate) credentials: Credentials,
    /// The head as it is forwarded to shards.
    pub(crate) head: Vec<u8>,
    /// The `Sec-WebSocket-Accept` that answers it.
    pub(crate) accept: String,
    /// Bytes that the client sent behind its head.
    pub(crate) early: Vec<u8>,
}

impl Client {
    /// A client that was just accepted.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, unreported: Cell::new(false) }
    }

    /// Reads the head; `Err` is the outcome.
    pub(crate) async fn read_head(&self, peer: SocketAddr, settings: &Settings) -> Result<ClientRequest, Outcome> {
        let read = async {
            let mut before = Vec::new();
            loop {
                if let Some(request) = self.read_more(&mut before, peer, settings).await? {
                    return Ok(request);
                }
            }
        };
        tokio::time::timeout(settings.head_timeout, read).await.unwrap_or(Err(Outcome::Refused(Refusal::HeadTimeout)))
    }

    async fn read_more(
        &self,
        before: &mut Vec<u8>,
        peer: SocketAddr,
        settings: &Settings,
    ) -> Result<Option<ClientRequest>, Outcome> {
        let gone = |before: &[u8]| if before.is_empty() { Outcome::Idle } else { Outcome::ClientGone(Phase::Head) };
        poll_fn(|cx| self.stream.poll_readable(cx)).await.map_err(|_| gone(before))?;
        with_scratch(|space| {
            let n = match self.stream.read(space) {
                Ok(0) => return Err(gone(before)),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(gone(before)),
            };
            // Nearly every head arrives in one piece, and is parsed in place.
            if before.is_empty() {
                let asked = read_request(&space[..n], peer, settings)?;
                if asked.is_none() {
                    before.extend_from_slice(&space[..n]);
                }
                return Ok(asked);
            }
            before.extend_from_slice(&space[..n]);
            read_request(before, peer, settings)
        })
    }

    /// Resolves when the client disconnects. Bytes that it sends meanwhile stay in the socket.
    pub(crate) async fn gone(&self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.stream.poll_readable(cx)).is_err() || has_hung_up(&self.stream) {
                return Poll::Ready(());
            }
            self.unreported.set(true);
        }
    }

    /// The socket, for a tunnel.
    pub(crate) fn into_stream(self) -> io::Result<TcpStream> {
        if self.unreported.get() {
            // Registered again, it reports the bytes that wait.
            return TcpStream::from_std(self.stream.into_std()?);
        }
        Ok(self.stream)
    }

    /// Sends a last answer and closes, once the client has had time to read it.
    pub(crate) async fn farewell(self, answer: &[u8]) {
        if answer.is_empty() {
            return;
        }
        let leave = async {
            let mut sent = 0;
            while sent < answer.len() {
                poll_fn(|cx| self.stream.poll_writable(cx)).await?;
                match self.stream.write(&answer[sent..]) {
                    Ok(n) => sent += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            self.stream.finish();
            let mut dropped = 0;
            while dropped < FAREWELL_BYTES {
                poll_fn(|cx| self.stream.poll_readable(cx)).await?;
                match with_scratch(|space| self.stream.read(space)) {
                    Ok(0) => break,
                    Ok(n) => dropped += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        // The connection closes in any case.
        let _ = tokio::time::timeout(FAREWELL, leave).await;
    }
}

fn read_request(bytes: &[u8], peer: SocketAddr, settings: &Settings) -> Result<Option<ClientRequest>, Outcome> {
    let Some(request) = parse_request(bytes, settings.head).map_err(Outcome::Refused)? else { return Ok(None) };
    let address = client_address(peer, &request);
    Ok(Some(ClientRequest {
        credentials: Credentials::read(settings, &request, address).map_err(Outcome::Refused)?,
        head: forward::request(&request, address),
        accept: accept_key(request.key),
        early: bytes[request.len..].to_vec(),
    }))
}
