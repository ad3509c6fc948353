//! The due frames of all connections of a worker, as linked lists that share their common part.
//!
//! A connection holds one [`Due`]: its newest waiting frame, which links to the one before. Connections with the same
//! due frames hold the same node, so fan-out of a record costs one small step for each subscriber and no copy, and
//! one coalesced buffer serves them all. Pure: no sockets, no policies.
//!
//! A `Due` owns one reference. [`Outbox::push`], [`Outbox::push_asked`] and [`Outbox::mark`] consume it and return
//! another; [`Outbox::release`] releases it.

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::channels::ChannelId;

/// Capacity in nodes that is kept once it was needed: about 8 MB.
const KEPT: usize = 65_536;

/// The newest waiting frame of a connection, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due(u32);

impl Due {
    /// Nothing waits.
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// A waiting frame.
#[derive(Debug)]
struct Node {
    frame: Bytes,
    /// Channel of a message that a policy may drop; `None` for a frame that must not be dropped.
    channel: Option<ChannelId>,
    /// Whether it is part of a replay.
    asked: bool,
    before: Due,
    /// References by connections, by newer nodes, and by the current record.
    refs: u32,
    /// Frames and bytes of the whole list.
    len: u32,
    bytes: usize,
    /// The node that follows this one for the record with this number.
    next: (u64, Due),
    /// All frames of the list in one buffer, made on first use.
    coalesced: Option<Bytes>,
}

/// The waiting frames of all connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    nodes: Slab<Node>,
    record: u64,
    frame: Bytes,
    channel: Option<ChannelId>,
    /// The node of the current record for connections without other due frames.
    first: (u64, Option<Due>),
    /// Nodes of the current record, kept until it is fanned out, so that their ids are not reused before.
    fresh: Vec<Due>,
}

impl Outbox {
    /// Appends a frame to `due`. If `channel` is given, the policy for slow clients may drop the frame.
    pub(super) fn push(&mut self, due: Due, frame: Bytes, channel: Option<ChannelId>) -> Due {
        self.add(due, frame, channel, false)
    }

    /// [`Self::push`] for a frame of a replay.
    pub(super) fn push_asked(&mut self, due: Due, frame: Bytes, channel: Option<ChannelId>) -> Due {
        self.add(due, frame, channel, true)
    }

    fn add(&mut self, due: Due, frame: Bytes, channel: Option<ChannelId>, asked: bool) -> Due {
        let (len, bytes) = self.get(due).map_or((0, 0), |node| (node.len, node.bytes));
        let (len, bytes) = (len + 1, bytes + frame.len());
        let (next, coalesced) = ((0, Due::NONE), None);
        let node = Node { frame, channel, asked, before: due, refs: 1, len, bytes, next, coalesced };
        Due(self.nodes.insert(node) as u32)
    }

    /// Begins the fan-out of a record. If `channel` is given, the policy for slow clients may drop the record. Every
    /// call must be followed by a call of [`Self::end`].
    pub(super) fn begin(&mut self, frame: Bytes, channel: Option<ChannelId>) {
        // Otherwise the slab would keep the memory of its peak, for example of replays to clients that did not read.
        if self.nodes.is_empty() && self.nodes.capacity() > KEPT {
            self.nodes = Slab::new();
        }
        self.record += 1;
        (self.frame, self.channel) = (frame, channel);
    }

    /// Appends the record of [`Self::begin`] to `due`.
    pub(super) fn mark(&mut self, due: Due) -> Due {
        let known = if due.is_none() {
            self.first.1.filter(|_| self.first.0 == self.record)
        } else {
            let (record, next) = self.nodes[due.0 as usize].next;
            (record == self.record).then_some(next)
        };
        if let Some(next) = known {
            self.nodes[next.0 as usize].refs += 1;
            // Never the last reference: the node `next` holds one.
            if let Some(node) = self.nodes.get_mut(due.0 as usize) {
                node.refs -= 1;
            }
            return next;
        }
        let next = self.push(due, self.frame.clone(), self.channel);
        self.nodes[next.0 as usize].refs += 1;
        self.fresh.push(next);
        match self.nodes.get_mut(due.0 as usize) {
            Some(node) => node.next = (self.record, next),
            None => self.first = (self.record, Some(next)),
        }
        next
    }

    /// Ends the fan-out that [`Self::begin`] began.
    pub(super) fn end(&mut self) {
        self.record += 1;
        self.frame = Bytes::new();
        while let Some(due) = self.fresh.pop() {
            self.release(due);
        }
    }

    /// Releases a reference.
    pub(super) fn release(&mut self, mut due: Due) {
        while let Some(node) = self.nodes.get_mut(due.0 as usize) {
            node.refs -= 1;
            if node.refs > 0 {
                return;
            }
            due = self.nodes.remove(due.0 as usize).before;
        }
    }

    /// Bytes of all frames of a list.
    pub(super) fn bytes(&self, due: Due) -> usize {
        self.get(due).map_or(0, |node| node.bytes)
    }

    /// Bytes of the frames of replays in a list; walks the list.
    pub(super) fn asked_bytes(&self, due: Due) -> usize {
        let nodes = self.ids(due).into_iter().map(|id| &self.nodes[id.0 as usize]);
        nodes.filter(|node| node.asked).map(|node| node.frame.len()).sum()
    }

    /// Number of frames of a list.
    pub(super) fn len(&self, due: Due) -> u32 {
        self.get(due).map_or(0, |node| node.len)
    }

    /// All frames of a list in one buffer, if there is one frame or if other connections share the list. For one
    /// connection alone, the caller copies the frames into its own buffer.
    pub(super) fn shared(&mut self, due: Due) -> Option<Bytes> {
        let node = self.nodes.get(due.0 as usize)?;
        if node.len == 1 {
            return Some(node.frame.clone());
        }
        if node.coalesced.is_none() && node.refs > 1 {
            let mut all = BytesMut::with_capacity(node.bytes);
            for frame in self.frames(due) {
                all.extend_from_slice(&frame);
            }
            self.nodes[due.0 as usize].coalesced = Some(all.freeze());
        }
        self.nodes[due.0 as usize].coalesced.clone()
    }

    /// The frames, oldest first.
    pub(super) fn frames(&self, due: Due) -> Vec<Bytes> {
        self.ids(due).into_iter().map(|id| self.nodes[id.0 as usize].frame.clone()).collect()
    }

    /// Removes the first `written` bytes. Returns the rest of the frame that was cut, and the frames after it.
    pub(super) fn cut(&mut self, due: Due, mut written: usize) -> (Bytes, Due) {
        let (mut rest, mut remainder) = (Due::NONE, Bytes::new());
        for id in self.ids(due) {
            let Node { frame, channel, asked, .. } = &self.nodes[id.0 as usize];
            if written >= frame.len() {
                written -= frame.len();
            } else if written > 0 {
                remainder = frame.slice(written..);
                written = 0;
            } else {
                rest = self.add(rest, frame.clone(), *channel, *asked);
            }
        }
        self.release(due);
        (remainder, rest)
    }

    /// Drops the oldest frames that may be dropped, until at most `keep` bytes or no such frames are left. Returns
    /// the rest and the number of dropped frames.
    pub(super) fn drop_oldest(&mut self, due: Due, keep: usize) -> (Due, u32) {
        let mut left = self.bytes(due);
        self.retain(due, |node| {
            let keep = node.channel.is_none() || left <= keep;
            left -= if keep { 0 } else { node.frame.len() };
            keep
        })
    }

    /// Keeps the newest frame of each channel, and frames that must not be dropped. Returns the rest and the number
    /// of dropped frames.
    pub(super) fn conflate(&mut self, due: Due) -> (Due, u32) {
        let mut newest = std::collections::HashMap::new();
        for (at, id) in self.ids(due).into_iter().enumerate() {
            newest.insert(self.nodes[id.0 as usize].channel, at);
        }
        let mut at = 0;
        self.retain(due, |node| {
            at += 1;
            node.channel.is_none() || newest[&node.channel] == at - 1
        })
    }

    fn retain(&mut self, due: Due, mut keep: impl FnMut(&Node) -> bool) -> (Due, u32) {
        let (mut rest, mut dropped) = (Due::NONE, 0);
        for id in self.ids(due) {
            let node = &self.nodes[id.0 as usize];
            if keep(node) {
                rest = self.add(rest, node.frame.clone(), node.channel, node.asked);
            } else {
                dropped += 1;
            }
        }
        self.release(due);
        (rest, dropped)
    }

    fn ids(&self, due: Due) -> Vec<Due> {
        let mut ids = Vec::with_capacity(self.len(due) as usize);
        let mut at = due;
        while let Some(node) = self.get(at) {
            ids.push(at);
            at = node.before;
        }
        ids.reverse();
        ids
    }

    fn get(&self, due: Due) -> Option<&Node> {
        self.nodes.get(due.0 as usize)
    }

    /// Capacity in nodes.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    /// Number of nodes.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests;
