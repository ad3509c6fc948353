//! Two sockets, one future: bytes go both ways until both sides have ended.
//!
//! An idle tunnel holds no buffer: bytes pass through one scratch buffer of the thread. Bytes that the other side
//! does not accept at once are boxed as its spill, and nothing more is read in that direction until the spill is
//! written. So a stalled reader costs at most [`SCRATCH`] bytes, and back-pressure reaches the sender.
//!
//! The tunnel follows where frames end, and nothing else: to insert a Close between two frames when the client is
//! moved away ([`leave`]), and to know which frames are outstanding when one side ends. If nothing is outstanding
//! ([`Tunnel::client_has_all`], [`Tunnel::shard_has_all`]), the tunnel ends at once. Otherwise the end is passed on,
//! the client's as a Close frame ([`Tunnel::pass_end`]), the shard's as a half-close, and the other side may go on
//! sending. A failed write ends only its own direction.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use wscluster_protocol::close::CloseCode;
use wscluster_ws::boundary::Frames;
use wscluster_ws::frame::{Opcode, client_frame, close_payload};

use self::flow::{Broken, Flow, State};
use self::leave::Leaving;
use super::registry::{TunnelCommand, TunnelHandle};
use super::socket::Socket;

mod flow;
mod leave;

/// Bytes moved by one read, and the maximum held for a stalled direction.
pub(crate) const SCRATCH: usize = 16 << 10;

/// How long a client may take to end after its shard has ended: enough to answer a Close frame. Then both sides are
/// closed, because a killed shard never reads again.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// The same for a client that goes on sending. It may still be reading what is under way to it, which a reset would
/// destroy: the kernel resets a closed connection when bytes arrive.
const LONGEST_LINGER: Duration = Duration::from_secs(30);

thread_local! {
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// Runs `work` with this thread's scratch buffer. Must not be nested.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SPACE.with_borrow_mut(|space| work(space))
}

/// A client and its shard.
pub(crate) struct Tunnel<S: Socket> {
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
    began: Instant,
    /// The client is being moved away.
    leaving: Option<Leaving>,
}

impl End {
    fn begin(leaving: Option<Leaving>) -> Self {
        Self { timer: Box::pin(tokio::time::sleep(LINGER)), began: Instant::now(), leaving }
    }

    /// Starts [`LINGER`] anew.
    fn prolong(&mut self) {
        let until = (Instant::now() + LINGER).min(self.began + LONGEST_LINGER);
        self.timer.as_mut().reset(until);
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
        let ended = this.relay(cx);
        this.count_stalls();
        ended
    }
}

impl<S: Socket> Tunnel<S> {
    fn relay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.handle.command(cx) {
            None => {}
            Some(TunnelCommand::End) => return Poll::Ready(()),
            Some(TunnelCommand::Leave(hint_ms)) => self.leave(hint_ms),
        }
        if self.end.as_ref().is_some_and(|end| end.leaving.is_some()) {
            return self.poll_leaving(cx);
        }
        match (self.pump_up(cx), self.pump_down(cx)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            // Without its client a tunnel has no purpose.
            (Poll::Ready(Err(ClientGone)), _)
            | (_, Poll::Ready(Err(ClientGone)))
            | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Pending) if self.client_has_all(cx) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Pending) => self.pass_end(cx),
            (Poll::Pending, Poll::Ready(Ok(()))) if self.shard_has_all(cx) => Poll::Ready(()),
            (Poll::Pending, Poll::Ready(Ok(()))) => {
                self.down.finish(&self.client);
                let end = self.end.get_or_insert_with(|| Box::new(End::begin(None)));
                if std::mem::take(&mut self.up.has_read) {
                    end.prolong();
                }
                end.timer.as_mut().poll(cx)
            }
        }
    }

    fn count_stalls(&mut self) {
        let counts = self.handle.bytes();
        self.up.count(&counts.stalled_up);
        self.down.count(&counts.stalled_down);
    }

    /// Passes the end of the client on to the shard, as a Close frame in its name: the shard answers what is
    /// outstanding and its Close, then ends first, as a server should (RFC 6455 §7.1.1). After a half-close the
    /// gateway would have ended first, and each such client would use up a port for a minute. Ready if nothing can be
    /// passed, because the client has ended in the middle of a frame.
    fn pass_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.up.state != State::Ended || self.asked.is_empty() || self.asked.is_closed() {
            return Poll::Pending;
        }
        if !self.asked.at_boundary() {
            let has_rest = self.down.spill.is_some() || self.shard.poll_readable(cx).is_ready();
            return if has_rest { Poll::Pending } else { Poll::Ready(()) };
        }
        let payload = close_payload(CloseCode::GoingAway.number(), "");
        self.up.append(&client_frame(Opcode::Close, &payload, rand::random()));
        self.up.state = State::Finished;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Relays from the client. If the shard takes no more bytes, what it has sent before is still delivered; the
    /// client's bytes are read and dropped, because unread bytes turn the end of a connection into a reset.
    fn pump_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientGone>> {
        let bytes = self.handle.bytes();
        let mut up = self.up.pump(&self.client, &self.shard, &bytes.up, &mut self.asked, cx);
        if up == Poll::Ready(Err(Broken::Destination)) {
            self.up.drop_rest();
            up = self.up.pump(&self.client, &self.shard, &bytes.up, &mut self.asked, cx);
        }
        up.map_err(|_| ClientGone)
    }

    /// Relays from the shard. A shard that has failed has ended.
    fn pump_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientGone>> {
        let bytes = self.handle.bytes();
        let down = self.down.pump_to_end(&self.shard, &self.client, &bytes.down, &mut self.answered, cx);
        down.map_err(|_| ClientGone)
    }
}

/// The client's socket has failed.
struct ClientGone;

impl<S: Socket> Drop for Tunnel<S> {
    fn drop(&mut self) {
        (self.up.spill, self.down.spill) = (None, None);
        self.count_stalls();
        if !matches!(self.down.state, State::Ended | State::Finished) {
            // The shard has not ended, so this side would be the first.
            self.shard.reset();
        }
    }
}

#[cfg(test)]
mod tests;
