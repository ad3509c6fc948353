//! Two sockets, one future: bytes go both ways until both sides have ended.
//!
//! An idle tunnel holds no buffer: bytes pass through one scratch buffer of the thread. Bytes that the other side
//! does not accept at once are boxed as its spill, and nothing more is read in that direction until the spill is
//! written. So a stalled reader costs at most [`SCRATCH`] bytes, and back-pressure reaches the sender.
//!
//! The tunnel follows where frames end, and nothing else: to insert a Close between two frames when the client is
//! moved away ([`leave`]), and to know which frames are outstanding when one side ends. That end is passed on as a
//! half-close, and the other side may go on sending, unless nothing is outstanding ([`Tunnel::client_has_all`],
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

/// Bytes moved by one read, and the maximum held for a stalled direction.
pub(crate) const SCRATCH: usize = 16 << 10;

/// How long a client may go on sending after its shard has ended: enough to answer a Close frame. Then both sides are
/// closed, because a killed shard never reads again.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Consecutive reads before other tunnels are polled.
const TURN: usize = 16;

thread_local! {
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// Runs `work` with this thread's scratch buffer. Must not be nested.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SPACE.with_borrow_mut(|space| work(space))
}

/// A client and its shard.
pub(crate) struct Tunnel<S> {
    client: S,
    shard: S,
    /// Client to shard.
    up: Flow,
    /// Shard to client.
    down: Flow,
    /// The frames passed up so far.
    asked: Frames,
    /// The frames passed down so far.
    answered: Frames,
    end: Option<Box<End>>,
    handle: TunnelHandle,
}

/// The end of a tunnel, while it lasts.
struct End {
    /// Fires when the end has taken too long.
    timer: Pin<Box<Sleep>>,
    /// The client is being moved away.
    leaving: Option<Leaving>,
}

impl End {
    fn begin(leaving: Option<Leaving>) -> Self {
        Self { timer: Box::pin(tokio::time::sleep(LINGER)), leaving }
    }
}

/// Bytes that a shard has sent before the tunnel was created.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct First<'b> {
    /// Bytes not yet written to the client.
    pub(crate) unsent: &'b [u8],
    /// The frames behind the 101, written or not.
    pub(crate) frames: &'b [u8],
}

impl<S: Socket> Tunnel<S> {
    /// Joins the two sockets; `early` are bytes that the client, `first` bytes that the shard has sent already.
    pub(crate) fn new(client: S, shard: S, early: &[u8], first: First<'_>, handle: TunnelHandle) -> Self {
        let (mut asked, mut answered) = (Frames::default(), Frames::default());
        asked.pass(early);
        answered.pass(first.frames);
        let (up, down) = (Flow::starting_with(early), Flow::starting_with(first.unsent));
        Self { client, shard, up, down, asked, answered, end: None, handle }
    }

    /// Whether a client that has ended its side has received everything outstanding: what the shard had sent by then
    /// and, if the client sent any frame, all answers, which end with the shard's Close (RFC 6455 §5.5.1).
    fn client_has_all(&self, cx: &mut Context<'_>) -> bool {
        let is_answered = self.answered.is_closed() || self.asked.is_empty() && self.answered.at_boundary();
        is_answered && self.down.spill.is_none() && self.shard.poll_readable(cx).is_pending()
    }

    /// Whether a shard that has ended its side has received everything that its client may send: nothing follows a
    /// Close (RFC 6455 §5.5.1).
    fn shard_has_all(&self, cx: &mut Context<'_>) -> bool {
        self.asked.is_closed() && self.up.spill.is_none() && self.client.poll_readable(cx).is_pending()
    }
}

impl<S: Socket> Future for Tunnel<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.handle.command(cx) {
            None => {}
            Some(TunnelCommand::End) => return Poll::Ready(()),
            Some(TunnelCommand::Leave(hint_ms)) => this.leave(hint_ms),
        }
        if this.end.as_ref().is_some_and(|end| end.leaving.is_some()) {
            return this.poll_leaving(cx);
        }
        let bytes = this.handle.bytes();
        let up = this.up.pump(&this.client, &this.shard, &bytes.up, &mut this.asked, cx);
        let down = this.down.pump(&this.shard, &this.client, &bytes.down, &mut this.answered, cx);
        match (up, down) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            // If one side failed, nothing is left to relay.
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

/// Sees the relayed bytes, and may stop the relay.
trait Pass {
    /// `Some(n)`: only the first `n` bytes of `piece` pass, and nothing more is read.
    fn pass(&mut self, piece: &[u8]) -> Option<usize>;
}

/// Relays everything.
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
    /// Stopped by [`Pass`]; the spill may still have to be written.
    Stopped,
    /// The source has ended; the spill may still have to be written.
    Ended,
    /// The destination has been half-closed.
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

    /// Appends `bytes` to the spill.
    fn append(&mut self, bytes: &[u8]) {
        let rest = self.spill.take().map_or_else(Vec::new, |spill| spill.bytes[spill.written..].to_vec());
        self.spill(&[&rest, bytes].concat());
    }

    fn spill(&mut self, bytes: &[u8]) {
        self.spill = (!bytes.is_empty()).then(|| Box::new(Spill { bytes: bytes.into(), written: 0 }));
    }

    /// Passes the end of `from` on to `to`, once.
    fn finish(&mut self, to: &impl Socket) {
        if self.state == State::Ended {
            to.finish();
            self.state = State::Finished;
        }
    }

    /// Moves bytes until no more can be moved. Ready when `from` has ended, or [`Pass`] has stopped the relay, and
    /// all bytes are written.
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
