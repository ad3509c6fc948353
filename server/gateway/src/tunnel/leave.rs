//! How a client is told to go elsewhere: a Close 1012 with the hint when to come back, between two frames of its shard
//! (RFC 6455 §5.5: also in the middle of a fragmented message).
//!
//! From then on nothing of the shard is passed on: the client comes back with its positions and gets the rest where it
//! lands. The shard sees the end of its connection at once, so that the slot is free before the client is back. All of it
//! takes [`super::LINGER`] at most. A frame that does not end in that time, as behind a client that reads nothing, is cut
//! with the connection, and no Close is sent.

use std::future::Future as _;
use std::task::{Context, Poll, ready};

use wscluster_protocol::close::CloseCode;
use wscluster_runtime::drain::reason;
use wscluster_ws::boundary::Frames;
use wscluster_ws::frame::{Opcode, close_payload, server_frame};

use super::{All, End, Flow, Pass, State, TURN, Tunnel, with_scratch, would_block};
use crate::metrics::Eviction;
use crate::socket::Socket;

/// Where a client that leaves stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    hint_ms: u32,
    /// The Close is on its way.
    is_told: bool,
    /// The client has ended its side.
    is_gone: bool,
}

/// Stops behind the first frame that ends.
struct ToTheEnd<'f>(&'f mut Frames);

impl Pass for ToTheEnd<'_> {
    fn pass(&mut self, piece: &[u8]) -> Option<usize> {
        // Behind a Close of the shard itself nothing may be put.
        self.0.pass_one(piece).filter(|_| !self.0.is_closing())
    }
}

impl<S: Socket> Tunnel<S> {
    /// The client is to go, with this hint.
    pub(super) fn leave(&mut self, hint_ms: u32) {
        let leaving = Leaving { hint_ms, is_told: false, is_gone: false };
        self.end = Some(Box::new(End::begin(Some(leaving))));
        if self.down.state == State::Open && self.answered.at_boundary() {
            self.down.state = State::Stopped;
        }
    }

    /// One turn of a tunnel whose client is to go.
    pub(super) fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = self.part(cx);
        let Some(end) = &mut self.end else { return ended };
        let is_told = end.leaving.is_some_and(|leaving| leaving.is_told) && self.down.state == State::Finished;
        let eviction = match ended {
            _ if is_told => Eviction::Closed,
            Poll::Ready(()) => Eviction::Left,
            Poll::Pending => Eviction::Cut,
        };
        let ended = if ended.is_ready() { ended } else { end.timer.as_mut().poll(cx) };
        if ended.is_ready() {
            self.seat.metrics().evicted(eviction);
        }
        ended
    }

    fn part(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.down.state != State::Stopped && !self.is_told() {
            let bytes = self.seat.bytes();
            let up = self.up.pump(&self.client, &self.shard, &bytes.up, &mut self.asked, cx);
            let pass = &mut ToTheEnd(&mut self.answered);
            let down = self.down.pump(&self.shard, &self.client, &bytes.down, pass, cx);
            match (up, down) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
                _ if self.down.state == State::Stopped => {}
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
                (Poll::Ready(Ok(())), Poll::Pending) => {
                    self.up.finish(&self.shard);
                    return Poll::Pending;
                }
                (Poll::Pending, Poll::Ready(Ok(()))) => {
                    self.down.finish(&self.client);
                    return Poll::Pending;
                }
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
            }
        }
        if self.down.state == State::Stopped {
            self.tell();
        }
        let down = self.down.pump(&self.shard, &self.client, &self.seat.bytes().down, &mut All, cx);
        match down {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => self.down.finish(&self.client),
            Poll::Pending => {}
        }
        ready!(self.poll_gone(cx));
        down.map(drop)
    }

    fn is_told(&self) -> bool {
        self.end.as_ref().and_then(|end| end.leaving).is_some_and(|leaving| leaving.is_told)
    }

    /// Puts the Close behind what has passed, and leaves the shard.
    fn tell(&mut self) {
        let Some(leaving) = self.end.as_mut().and_then(|end| end.leaving.as_mut()) else { return };
        leaving.is_told = true;
        let reason = reason(leaving.hint_ms.into());
        self.down.append(&server_frame(Opcode::Close, &close_payload(CloseCode::Restart.number(), &reason)));
        self.down.state = State::Ended;
        if self.up.state != State::Finished {
            self.shard.finish();
        }
        self.up = Flow { spill: None, state: State::Finished };
        self.seat.free_slot();
    }

    /// Drops what the client still sends, its own Close last; ready when it has ended.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(leaving) = self.end.as_mut().and_then(|end| end.leaving.as_mut()) else { return Poll::Ready(()) };
        if leaving.is_gone {
            return Poll::Ready(());
        }
        for _ in 0..TURN {
            let readable = ready!(self.client.poll_readable(cx));
            let read = readable.and_then(|()| with_scratch(|space| self.client.read(space)));
            match read {
                Ok(1..) => {}
                Err(error) if would_block(&error) => {}
                Ok(0) | Err(_) => {
                    leaving.is_gone = true;
                    return Poll::Ready(());
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
