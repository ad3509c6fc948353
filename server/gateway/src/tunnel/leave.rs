//! Moves a client away: sends it a Close 1012 with a retry hint between two frames of its shard (RFC 6455 §5.5 allows
//! that in the middle of a fragmented message too).
//!
//! After the Close nothing more of the shard is relayed: the client resumes from its last positions elsewhere. The
//! shard sees the end of the connection at once, so the slot is free before the client reconnects. All this takes at
//! most [`super::LINGER`]. If a frame does not end in that time, because the client reads nothing, the connection is
//! cut without a Close.

use std::future::Future as _;
use std::task::{Context, Poll, ready};

use wscluster_protocol::close::CloseCode;
use wscluster_runtime::drain::reason;
use wscluster_ws::boundary::Frames;
use wscluster_ws::frame::{Opcode, close_payload, server_frame};

use super::flow::{All, Pass, State, TURN, would_block};
use super::{ClientGone, End, Tunnel, with_scratch};
use crate::metrics::Eviction;
use crate::socket::Socket;

/// Progress of moving a client away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    hint_ms: u32,
    /// The Close is in the spill, or written.
    is_close_sent: bool,
    /// The client has ended its side.
    has_ended: bool,
}

/// Stops the relay at the end of the current frame.
struct ToFrameEnd<'f>(&'f mut Frames);

impl Pass for ToFrameEnd<'_> {
    fn pass(&mut self, piece: &[u8]) -> Option<usize> {
        // Nothing may follow a Close of the shard itself.
        self.0.pass_one(piece).filter(|_| !self.0.is_closing())
    }
}

impl<S: Socket> Tunnel<S> {
    /// Begins to move the client away, with this hint.
    pub(super) fn leave(&mut self, hint_ms: u32) {
        let leaving = Leaving { hint_ms, is_close_sent: false, has_ended: false };
        self.end = Some(Box::new(End::begin(Some(leaving))));
        if self.down.state == State::Open && self.answered.at_boundary() {
            self.down.state = State::Stopped;
        }
    }

    /// Polls a tunnel whose client is being moved away.
    pub(super) fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = self.poll_close(cx);
        let Some(end) = &mut self.end else { return ended };
        let is_close_sent =
            end.leaving.is_some_and(|leaving| leaving.is_close_sent) && self.down.state == State::Finished;
        let eviction = match ended {
            _ if is_close_sent => Eviction::Closed,
            Poll::Ready(()) => Eviction::Left,
            Poll::Pending => Eviction::Cut,
        };
        let ended = if ended.is_ready() { ended } else { end.timer.as_mut().poll(cx) };
        if ended.is_ready() {
            self.handle.metrics().evicted(eviction);
        }
        ended
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.down.state != State::Stopped && !self.is_close_sent() {
            let up = self.pump_up(cx);
            let pass = &mut ToFrameEnd(&mut self.answered);
            let down = self.down.pump_to_end(&self.shard, &self.client, &self.handle.bytes().down, pass, cx);
            match (up, down) {
                (Poll::Ready(Err(ClientGone)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
                _ if self.down.state == State::Stopped => {}
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
                (Poll::Ready(Ok(())), Poll::Pending) => return self.pass_end(cx),
                (Poll::Pending, Poll::Ready(Ok(()))) => {
                    self.down.finish(&self.client);
                    return Poll::Pending;
                }
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
            }
        }
        if self.down.state == State::Stopped {
            self.send_close();
        }
        let down = self.down.pump(&self.shard, &self.client, &self.handle.bytes().down, &mut All, cx);
        match down {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => self.down.finish(&self.client),
            Poll::Pending => {}
        }
        ready!(self.poll_client_end(cx));
        down.map(drop)
    }

    fn is_close_sent(&self) -> bool {
        self.end.as_ref().and_then(|end| end.leaving).is_some_and(|leaving| leaving.is_close_sent)
    }

    /// Appends the Close to the relayed frames, and ends the connection to the shard.
    fn send_close(&mut self) {
        let Some(leaving) = self.end.as_mut().and_then(|end| end.leaving.as_mut()) else { return };
        leaving.is_close_sent = true;
        let reason = reason(leaving.hint_ms.into());
        self.down.append(&server_frame(Opcode::Close, &close_payload(CloseCode::Restart.number(), &reason)));
        self.down.state = State::Ended;
        self.shard.reset();
        self.up.spill = None;
        self.up.state = State::Finished;
        self.handle.free_slot();
    }

    /// Discards what the client still sends, up to its own Close; ready when it has ended.
    fn poll_client_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(leaving) = self.end.as_mut().and_then(|end| end.leaving.as_mut()) else { return Poll::Ready(()) };
        if leaving.has_ended {
            return Poll::Ready(());
        }
        for _ in 0..TURN {
            let readable = ready!(self.client.poll_readable(cx));
            let read = readable.and_then(|()| with_scratch(|space| self.client.read(space)));
            match read {
                Ok(1..) => {}
                Err(error) if would_block(&error) => {}
                Ok(0) | Err(_) => {
                    leaving.has_ended = true;
                    return Poll::Ready(());
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
