//! Two sockets, one future: bytes go both ways until both sides have ended.
//!
//! An idle tunnel holds no buffer: bytes pass through one scratch space of the thread. What the other side does not
//! take at once is boxed as its spill, and nothing more is read for that direction until the spill is gone: memory
//! for a stalled reader is bounded by [`SCRATCH`], and back-pressure reaches the sender. Half-closes are passed on.
//!
//! Frame boundaries are not tracked. Whoever injects frames later can count them where [`Flow::pump`] sees each piece.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::registry::{Bytes, Seat};
use super::socket::Socket;

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
    linger: Option<Pin<Box<Sleep>>>,
    seat: Seat,
}

impl<S: Socket> Tunnel<S> {
    /// Joins the two; `early` is what the client, and `first` what the shard, has sent already.
    pub fn new(client: S, shard: S, early: &[u8], first: &[u8], seat: Seat) -> Self {
        Self { client, shard, up: Flow::starting_with(early), down: Flow::starting_with(first), linger: None, seat }
    }
}

impl<S: Socket> Future for Tunnel<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let bytes = this.seat.bytes();
        let up = this.up.pump(&this.client, &this.shard, this.down.state, &bytes.up, cx);
        let down = this.down.pump(&this.shard, &this.client, this.up.state, &bytes.down, cx);
        match (up, down) {
            // Where one side broke there is nobody to pass the rest on to.
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Poll::Ready(())
            }
            (Poll::Pending, Poll::Ready(Ok(()))) => {
                let linger = this.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
                linger.as_mut().poll(cx)
            }
            (_, Poll::Pending) => Poll::Pending,
        }
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

    fn spill(&mut self, bytes: &[u8]) {
        self.spill = (!bytes.is_empty()).then(|| Box::new(Spill { bytes: bytes.into(), written: 0 }));
    }

    /// Moves what can be moved; ready when `from` has ended and `to` was told.
    fn pump<S: Socket>(
        &mut self,
        from: &S,
        to: &S,
        other_way: State,
        moved: &Bytes,
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
                State::Finished => return Poll::Ready(Ok(())),
                State::Ended => {
                    // When the other way has ended too, closing both sockets says the same.
                    if other_way != State::Finished {
                        to.finish();
                    }
                    self.state = State::Finished;
                }
                State::Open => {
                    ready!(from.poll_readable(cx))?;
                    with_scratch(|space| self.relay(from, to, moved, space))?;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn relay<S: Socket>(&mut self, from: &S, to: &S, moved: &Bytes, space: &mut [u8]) -> io::Result<()> {
        let n = match from.read(space) {
            Ok(0) => {
                self.state = State::Ended;
                return Ok(());
            }
            Ok(n) => n,
            Err(error) if would_block(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
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
