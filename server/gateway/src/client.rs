//! The client's side of a handshake: reading its head, noticing that it has left, and telling it no.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use wscluster_ws::upgrade::{Refusal, accept_key, parse_request};

use super::forward;
use super::outcome::{Outcome, Phase};
use super::socket::{Socket as _, has_hung_up};
use super::state::Settings;
use super::tunnel::with_scratch;

/// How long, and how much, a refused client may go on sending, so that our answer is not lost to a reset.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 256 << 10;

/// A client that wants an upgrade.
pub struct Client {
    /// Its socket.
    pub stream: TcpStream,
    /// It has sent bytes behind its head, so that its end can no longer be told by looking.
    early: Cell<bool>,
}

/// A good upgrade, ready to be sent to any shard.
#[derive(Debug)]
pub struct Asked {
    /// The head as shards get it.
    pub head: Vec<u8>,
    /// The `Sec-WebSocket-Accept` that answers it.
    pub accept: String,
    /// What the client sent behind its head.
    pub early: Vec<u8>,
}

impl Client {
    /// Right after accept.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, early: Cell::new(false) }
    }

    /// Reads the head; `Err` is the outcome.
    pub async fn read_head(&self, address: IpAddr, settings: &Settings) -> Result<Asked, Outcome> {
        let read = async {
            let mut before = Vec::new();
            loop {
                if let Some(asked) = self.read_more(&mut before, address, settings).await? {
                    return Ok(asked);
                }
            }
        };
        tokio::time::timeout(settings.head_timeout, read).await.unwrap_or(Err(Outcome::Refused(Refusal::HeadTimeout)))
    }

    async fn read_more(
        &self,
        before: &mut Vec<u8>,
        address: IpAddr,
        settings: &Settings,
    ) -> Result<Option<Asked>, Outcome> {
        let gone = |before: &[u8]| if before.is_empty() { Outcome::Idle } else { Outcome::ClientGone(Phase::Head) };
        poll_fn(|cx| self.stream.poll_readable(cx)).await.map_err(|_| gone(before))?;
        with_scratch(|space| {
            let n = match self.stream.read(space) {
                Ok(0) => return Err(gone(before)),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(gone(before)),
            };
            // Nearly every head comes in one piece and is read where it lies.
            if before.is_empty() {
                let asked = read_asked(&space[..n], address, settings)?;
                if asked.is_none() {
                    before.extend_from_slice(&space[..n]);
                }
                return Ok(asked);
            }
            before.extend_from_slice(&space[..n]);
            read_asked(before, address, settings)
        })
    }

    /// Resolves when the client hangs up. Bytes that it sends early stay where they are; behind them its end cannot be
    /// seen, and it counts as there.
    pub async fn gone(&self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.early.get() {
            if ready!(self.stream.poll_readable(cx)).is_err() || has_hung_up(&self.stream) {
                return Poll::Ready(());
            }
            // Ready and not hung up: either bytes are there, or readiness was old and is cleared now.
            self.early.set(self.stream.poll_readable(cx).is_ready());
        }
        Poll::Pending
    }

    /// Sends a last answer and closes, giving the client the time to read it.
    pub async fn farewell(self, answer: &[u8]) {
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
        // However it ends, it is over.
        let _ = tokio::time::timeout(FAREWELL, leave).await;
    }
}

fn read_asked(bytes: &[u8], address: IpAddr, settings: &Settings) -> Result<Option<Asked>, Outcome> {
    let Some(request) = parse_request(bytes, settings.head).map_err(Outcome::Refused)? else { return Ok(None) };
    request.check_origin(&settings.allowed_origins).map_err(Outcome::Refused)?;
    Ok(Some(Asked {
        head: forward::request(&request, address),
        accept: accept_key(request.key),
        early: bytes[request.len..].to_vec(),
    }))
}
