//! Two sockets, one future: bytes go both ways until both sides have ended.
//!
//! An idle tunnel holds no buffer: bytes pass through one scratch space of the thread. What the other side does not
//! take at once is boxed as its spill, and nothing more is read for that direction until the spill is gone: memory
//! for a stalled reader is bounded by [`SCRATCH`], and back-pressure reaches the sender.
//!
//! Of what it passes it knows where frames end, and nothing more: so that a Close can be put between two of them when the
//! client is told to leave ([`leave`]), and to know what is owed when one side ends. Its end is passed on as a half-close,
//! and the other side may go on, unless nothing more of it is owed to anybody ([`Tunnel::client_has_all`],
//! [`Tunnel::shard_has_all`]): then the tunnel ends at once.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;
use wscluster_routing::flow::Bytes;
use wscluster_ws::boundary::Frames;

use self::leave::Leaving;
use super::registry::{TunnelCommand, TunnelHandle};
use super::socket::Socket;

mod leave;

/// Bytes moved by one read; the most that a stalled direction holds here.
pub const SCRATCH: usize = 16 << 10;

/// How long a client may go on sending after its shard has ended. Long enough for the answer to a Close frame; then
/// both sides are closed, because a killed shard never reads again.
pub const LINGER: Duration = Duration::from_secs(5);

/// Reads in a row before other tunnels get their turn.
const TURN: usize = 16;

thread_local! {
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// Runs `work` with this thread's scratch space. It must not be asked for again inside.
pub fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SPACE.with_borrow_mut(|space| work(space))
}

/// A client and its shard.
pub struct Tunnel<S> {
    client: S,
    shard: S,
    /// Client to shard.
    up: Flow,
    /// Shard to client.
    down: Flow,
    /// The frames that have passed up.
    asked: Frames,
    /// The frames that have passed down.
    answered: Frames,
    end: Option<Box<End>>,
    seat: TunnelHandle,
}

/// An end that takes time.
struct End {
    /// When it has taken too long.
    timer: Pin<Box<Sleep>>,
    /// The client was told to go, or will be.
    leaving: Option<Leaving>,
}

impl End {
    fn begin(leaving: Option<Leaving>) -> Self {
        Self { timer: Box::pin(tokio::time::sleep(LINGER)), leaving }
    }
}

/// What a shard has sent before there was a tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub struct First<'b> {
    /// What the client has not got yet.
    pub unsent: &'b [u8],
    /// The frames behind the 101, sent or not.
    pub frames: &'b [u8],
}

impl<S: Socket> Tunnel<S> {
    /// Joins the two; `early` is what the client, and `first` what the shard, has sent already.
    pub fn new(client: S, shard: S, early: &[u8], first: First<'_>, seat: TunnelHandle) -> Self {
        let (mut asked, mut answered) = (Frames::default(), Frames::default());
        asked.pass(early);
        answered.pass(first.frames);
        let (up, down) = (Flow::starting_with(early), Flow::starting_with(first.unsent));
        Self { client, shard, up, down, asked, answered, end: None, seat }
    }

    /// Whether a client that has ended has got all that it is owed: what the shard had sent by then and, where it has asked
    /// anything, all answers. They end with the shard's Close (RFC 6455 §5.5.1).
    fn client_has_all(&self, cx: &mut Context<'_>) -> bool {
        let is_answered = self.answered.is_closed() || self.asked.is_empty() && self.answered.at_boundary();
        is_answered && self.down.spill.is_none() && self.shard.poll_readable(cx).is_pending()
    }

    /// Whether a shard that has ended has got all that its client may say: nothing follows a Close (RFC 6455 §5.5.1).
    fn shard_has_all(&self, cx: &mut Context<'_>) -> bool {
        self.asked.is_closed() && self.up.spill.is_none() && self.client.poll_readable(cx).is_pending()
    }
}

impl<S: Socket> Future for Tunnel<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.seat.order(cx) {
            None => {}
            Some(TunnelCommand::End) => return Poll::Ready(()),
            Some(TunnelCommand::Leave(hint_ms)) => this.leave(hint_ms),
        }
        if this.end.as_ref().is_some_and(|end| end.leaving.is_some()) {
            return this.poll_leaving(cx);
        }
        let bytes = this.seat.bytes();
        let up = this.up.pump(&this.client, &this.shard, &bytes.up, &mut this.asked, cx);
        let down = this.down.pump(&this.shard, &this.client, &bytes.down, &mut this.answered, cx);
        match (up, down) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            // Where one side broke there is nobody to pass the rest on to.
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Poll::Ready(())
            }
            (Poll::Ready(Ok(())), Poll::Pending) if this.client_has_all(cx) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Pending) => {
                this.up.finish(&this.shard);
                Poll::Pending
            }
            (Poll::Pending, Poll::Ready(Ok(()))) if this.shard_has_all(cx) => Poll::Ready(()),
            (Poll::Pending, Poll::Ready(Ok(()))) => {
                this.down.finish(&this.client);
                let end = this.end.get_or_insert_with(|| Box::new(End::begin(None)));
                end.timer.as_mut().poll(cx)
            }
        }
    }
}

/// Looks at what passes, and may say where it must stop.
trait Pass {
    /// `Some(n)`: only the first `n` bytes of `piece` pass, and nothing more is read.
    fn pass(&mut self, piece: &[u8]) -> Option<usize>;
}

/// Nothing is looked at.
struct All;

impl Pass for All {
    fn pass(&mut self, _: &[u8]) -> Option<usize> {
        None
    }
}

impl Pass for Frames {
    fn pass(&mut self, piece: &[u8]) -> Option<usize> {
        Frames::pass(self, piece);
        None
    }
}

/// One direction.
#[derive(Default)]
struct Flow {
    spill: Option<Box<Spill>>,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Stopped by [`Pass`]; what passed may still be on its way.
    Stopped,
    /// The source has ended; the spill may still be on its way.
    Ended,
    /// The destination was told.
    Finished,
}

struct Spill {
    bytes: Box<[u8]>,
    written: usize,
}

impl Flow {
    fn starting_with(bytes: &[u8]) -> Self {
        let mut flow = Self::default();
        flow.spill(bytes);
        flow
    }

    /// Sends `bytes` behind all that is on its way.
    fn append(&mut self, bytes: &[u8]) {
        let rest = self.spill.take().map_or_else(Vec::new, |spill| spill.bytes[spill.written..].to_vec());
        self.spill(&[&rest, bytes].concat());
    }

    fn spill(&mut self, bytes: &[u8]) {
        self.spill = (!bytes.is_empty()).then(|| Box::new(Spill { bytes: bytes.into(), written: 0 }));
    }

    /// Tells `to` that `from` has ended, once.
    fn finish(&mut self, to: &impl Socket) {
        if self.state == State::Ended {
            to.finish();
            self.state = State::Finished;
        }
    }

    /// Moves what can be moved; ready when all has been moved and `from` has ended, or when it must stop.
    fn pump<S: Socket>(
        &mut self,
        from: &S,
        to: &S,
        moved: &Bytes,
        pass: &mut impl Pass,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..TURN {
            if let Some(spill) = &mut self.spill {
                match to.write(&spill.bytes[spill.written..]) {
                    Ok(n) => {
                        moved.add(n);
                        spill.written += n;
                        if spill.written == spill.bytes.len() {
                            self.spill = None;
                        }
                    }
                    Err(error) if would_block(&error) => ready!(to.poll_writable(cx))?,
                    Err(error) => return Poll::Ready(Err(error)),
                }
                continue;
            }
            match self.state {
                State::Ended | State::Finished | State::Stopped => return Poll::Ready(Ok(())),
                State::Open => {
                    ready!(from.poll_readable(cx))?;
                    with_scratch(|space| self.relay(from, to, moved, pass, space))?;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn relay<S: Socket>(
        &mut self,
        from: &S,
        to: &S,
        moved: &Bytes,
        pass: &mut impl Pass,
        space: &mut [u8],
    ) -> io::Result<()> {
        let mut n = match from.read(space) {
            Ok(0) => {
                self.state = State::Ended;
                return Ok(());
            }
            Ok(n) => n,
            Err(error) if would_block(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(stop) = pass.pass(&space[..n]) {
            n = stop;
            self.state = State::Stopped;
        }
        let written = match to.write(&space[..n]) {
            Ok(written) => written,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(error),
        };
        moved.add(written);
        self.spill(&space[written..n]);
        Ok(())
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
