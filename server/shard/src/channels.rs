//! The subscriptions of one worker. A channel exists while it has a member.
//!
//! Members are connection keys in no order. Leaving is O(1), except for a binary search in the connection's own list,
//! so a connection that ends scans neither the members of big channels nor long lists of other connections.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

use super::window::Seq;

/// Id of a channel with members; reused after the last member has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ChannelId(pub(super) u32);

/// A membership of a connection: the channel, and the index of the connection among its members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) channel: ChannelId,
    at: u32,
    /// Records from this number on were delivered live.
    pub(super) live: Seq,
}

impl Membership {
    /// Takes the index of `gone`.
    pub(super) fn take_place_of(&mut self, gone: Self) {
        self.at = gone.at;
    }
}

#[derive(Debug)]
struct Channel {
    name: Arc<str>,
    members: Vec<u32>,
}

/// All channels of a worker.
#[derive(Debug, Default)]
pub(super) struct Channels {
    ids: HashMap<Arc<str>, ChannelId>,
    channels: Slab<Channel>,
}

impl Channels {
    /// The channel with this name, if it has members.
    pub(super) fn find(&self, name: &str) -> Option<ChannelId> {
        self.ids.get(name).copied()
    }

    /// Adds `member`, which must not be a member yet. It gets records from the number `live` on.
    pub(super) fn join(&mut self, name: &str, member: u32, live: Seq) -> Membership {
        let channel = self.find(name).unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            let id = ChannelId(self.channels.insert(Channel { name: Arc::clone(&name), members: Vec::new() }) as u32);
            self.ids.insert(name, id);
            id
        });
        let members = &mut self.channels[channel.0 as usize].members;
        members.push(member);
        Membership { channel, at: members.len() as u32 - 1, live }
    }

    /// Removes a member. Returns the member that took its index, if any.
    pub(super) fn leave(&mut self, membership: Membership) -> Option<u32> {
        let Channel { name, members } = &mut self.channels[membership.channel.0 as usize];
        members.swap_remove(membership.at as usize);
        if members.is_empty() {
            self.ids.remove(name);
            self.channels.remove(membership.channel.0 as usize);
            return None;
        }
        members.get(membership.at as usize).copied()
    }

    /// Takes the members to iterate over them. [`Self::give_back`] must follow before any join or leave.
    pub(super) fn take_members(&mut self, channel: ChannelId) -> Vec<u32> {
        std::mem::take(&mut self.channels[channel.0 as usize].members)
    }

    /// Returns the members after [`Self::take_members`].
    pub(super) fn give_back(&mut self, channel: ChannelId, members: Vec<u32>) {
        self.channels[channel.0 as usize].members = members;
    }

    /// Name of a channel.
    pub(super) fn name(&self, channel: ChannelId) -> &Arc<str> {
        &self.channels[channel.0 as usize].name
    }

    /// All channels.
    pub(super) fn all(&self) -> Vec<(ChannelId, Arc<str>)> {
        self.ids.iter().map(|(name, id)| (*id, Arc::clone(name))).collect()
    }

    /// The number of channels.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_follow_members_that_move() {
        let mut channels = Channels::default();
        let mut memberships: Vec<Membership> =
            (0..5).map(|member| channels.join("a", member, Seq::default())).collect();
        while let Some(gone) = memberships.pop() {
            // Leave from the front, the middle and the end in turn.
            let gone = if memberships.len() % 2 == 1 { std::mem::replace(&mut memberships[0], gone) } else { gone };
            if channels.leave(gone).is_some() {
                memberships.iter_mut().max_by_key(|membership| membership.at).unwrap().take_place_of(gone);
            }
            let mut at: Vec<u32> = memberships.iter().map(|membership| membership.at).collect();
            at.sort_unstable();
            assert_eq!(at, (0..memberships.len() as u32).collect::<Vec<_>>());
        }
        assert_eq!(channels.len(), 0);
        assert_eq!(channels.find("a"), None);
    }

    #[test]
    fn a_channel_exists_while_it_has_members() {
        let mut channels = Channels::default();
        let membership = channels.join("BTC.trade", 3, Seq::default());
        assert_eq!(channels.find("BTC.trade"), Some(membership.channel));
        assert_eq!(channels.take_members(membership.channel), [3]);
        channels.give_back(membership.channel, vec![3]);
        channels.leave(membership);
        assert_eq!(channels.find("BTC.trade"), None);
    }
}
