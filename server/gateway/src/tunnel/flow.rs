//! One direction of a tunnel.

use std::io;
use std::task::{Context, Poll, ready};

use wscluster_routing::flow::{Bytes, Tunnels};
use wscluster_ws::boundary::Frames;

use super::with_scratch;
use crate::socket::Socket;

/// Consecutive reads before other tunnels are polled.
pub(super) const TURN: usize = 16;

/// Sees the relayed bytes, and may stop the relay.
pub(super) trait Pass {
    /// `Some(n)`: only the first `n` bytes of `piece` pass, and nothing more is read.
    fn pass(&mut self, piece: &[u8]) -> Option<usize>;
}

/// Relays everything.
pub(super) struct All;

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

/// The side whose socket has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It cannot be read.
    Source,
    /// It takes no bytes.
    Destination,
}

/// One direction.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) spill: Option<Box<Spill>>,
    pub(super) state: State,
    /// Bytes were read since this was last cleared.
    pub(super) has_read: bool,
    /// Counted as stalled.
    is_counted: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Open,
    /// Stopped by [`Pass`]; the spill may still have to be written.
    Stopped,
    /// The destination takes nothing more: what the source still sends is dropped.
    Dropping,
    /// The source has ended; the spill may still have to be written.
    Ended,
    /// The end has been passed on to the destination.
    Finished,
}

pub(super) struct Spill {
    bytes: Box<[u8]>,
    written: usize,
}

impl Flow {
    pub(super) fn starting_with(bytes: &[u8]) -> Self {
        let mut flow = Self::default();
        flow.spill(bytes);
        flow
    }

    /// Appends `bytes` to the spill.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let rest = self.spill.take().map_or_else(Vec::new, |spill| spill.bytes[spill.written..].to_vec());
        self.spill(&[&rest, bytes].concat());
    }

    fn spill(&mut self, bytes: &[u8]) {
        self.spill = (!bytes.is_empty()).then(|| Box::new(Spill { bytes: bytes.into(), written: 0 }));
    }

    /// Counts the tunnel as stalled while there is a spill.
    #[inline]
    pub(super) fn count(&mut self, stalled: &Tunnels) {
        if self.is_counted != self.spill.is_some() {
            self.is_counted = !self.is_counted;
            stalled.change(self.is_counted);
        }
    }

    /// Drops everything from now on, up to the end of the source.
    pub(super) fn drop_rest(&mut self) {
        self.spill = None;
        if matches!(self.state, State::Open | State::Stopped) {
            self.state = State::Dropping;
        }
    }

    /// Passes the end of `from` on to `to`, once.
    pub(super) fn finish(&mut self, to: &impl Socket) {
        if self.state == State::Ended {
            to.finish();
            self.state = State::Finished;
        }
    }

    /// Moves bytes until no more can be moved. Ready when `from` has ended, or [`Pass`] has stopped the relay, and
    /// all bytes are written.
    pub(super) fn pump<S: Socket>(
        &mut self,
        from: &S,
        to: &S,
        moved: &Bytes,
        pass: &mut impl Pass,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
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
                    Err(error) if would_block(&error) => {
                        ready!(to.poll_writable(cx)).map_err(|_| Broken::Destination)?;
                    }
                    Err(_) => return Poll::Ready(Err(Broken::Destination)),
                }
                continue;
            }
            if matches!(self.state, State::Ended | State::Finished | State::Stopped) {
                return Poll::Ready(Ok(()));
            }
            ready!(from.poll_readable(cx)).map_err(|_| Broken::Source)?;
            with_scratch(|space| self.relay(from, to, moved, pass, space))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// [`Self::pump`] from a source whose failure is its end.
    pub(super) fn pump_to_end<S: Socket>(
        &mut self,
        from: &S,
        to: &S,
        moved: &Bytes,
        pass: &mut impl Pass,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let pumped = self.pump(from, to, moved, pass, cx);
        if pumped == Poll::Ready(Err(Broken::Source)) {
            self.state = State::Ended;
            return Poll::Ready(Ok(()));
        }
        pumped
    }

    fn relay<S: Socket>(
        &mut self,
        from: &S,
        to: &S,
        moved: &Bytes,
        pass: &mut impl Pass,
        space: &mut [u8],
    ) -> Result<(), Broken> {
        let mut n = match from.read(space) {
            Ok(0) => {
                self.state = State::Ended;
                return Ok(());
            }
            Ok(n) => n,
            Err(error) if would_block(&error) => return Ok(()),
            Err(_) => return Err(Broken::Source),
        };
        self.has_read = true;
        if self.state == State::Dropping {
            return Ok(());
        }
        if let Some(stop) = pass.pass(&space[..n]) {
            n = stop;
            self.state = State::Stopped;
        }
        let written = match to.write(&space[..n]) {
            Ok(written) => written,
            Err(error) if would_block(&error) => 0,
            Err(_) => return Err(Broken::Destination),
        };
        moved.add(written);
        self.spill(&space[written..n]);
        Ok(())
    }
}

pub(super) fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
