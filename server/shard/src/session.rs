//! What a client sends, and how it is answered.
//!
//! One request is served in one step of the worker: what it missed, the answer and the join see the same window, so there
//! is no hole and no repeat between replay and live messages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use wscluster_api::spec::SlowClient;
use wscluster_protocol::close::CloseCode;
use wscluster_protocol::reply::{self, SubscriptionAck};
use wscluster_protocol::request::{self, Ask, Rejection, Request, Since};
use wscluster_protocol::{Position, Record};
use wscluster_ws::decode::{Decoder, Event, Flow, Role};
use wscluster_ws::frame::{Opcode, server_frame};

use super::backfill::{Asked, Missed};
use super::channels::{ChannelId, Membership};
use super::connection::Phase;
use super::metrics::Label;
use super::pending_subscribes::{Held, Until};
use super::settings::{AHEAD_TIMEOUT, ECHO_MAX_MESSAGE};
use super::window::Recovery;
use super::worker::{Worker, now_ms};

/// What a client missed, or why that is not known.
type Recovered = Result<Vec<Arc<Record>>, &'static str>;

impl Worker {
    /// Takes `len` bytes that were read into the scratch buffer.
    pub(super) fn input(&mut self, key: u32, len: usize) {
        let connection = &mut self.connections[key as usize];
        if matches!(connection.phase, Phase::Ending | Phase::Shut | Phase::Done) {
            return;
        }
        let max = if connection.echo { ECHO_MAX_MESSAGE } else { self.shared.settings.max_message() };
        let mut decoder = connection.decoder.take().map_or_else(|| Decoder::new(Role::Server, max), |decoder| *decoder);
        let scratch = Rc::clone(&self.scratch);
        let flow = decoder.decode(&mut scratch.borrow_mut()[..len], &mut |event| self.on_event(key, &event));
        match flow {
            Ok(Flow::Continue) if !decoder.is_idle() => {
                self.connections[key as usize].decoder = Some(Box::new(decoder));
            }
            Ok(_) => {}
            Err(violation) => self.fail(key, violation),
        }
        self.flush(key);
    }

    fn on_event(&mut self, key: u32, event: &Event<'_>) -> Flow {
        let connection = &mut self.connections[key as usize];
        connection.seen = self.wheel.now();
        let open = connection.phase == Phase::Open;
        match *event {
            Event::Close(code, _) => self.on_close(key, code),
            // Behind our Close frame only the peer's counts (RFC 6455 §5.5.1).
            _ if !open => return Flow::Continue,
            Event::Ping(payload) => self.send(key, server_frame(Opcode::Pong, payload)),
            Event::Pong(_) => {}
            Event::Text(text) if connection.echo => self.send(key, server_frame(Opcode::Text, text.as_bytes())),
            Event::Binary(bytes) if connection.echo => self.send(key, server_frame(Opcode::Binary, bytes)),
            Event::Text(text) => self.on_text(key, text),
            Event::Binary(_) => self.begin_close(key, CloseCode::Unsupported, "messages are JSON in text frames"),
        }
        match self.connections[key as usize].phase {
            Phase::Open | Phase::Closing => Flow::Continue,
            Phase::Ending | Phase::Shut | Phase::Done => Flow::Stop,
        }
    }

    fn on_text(&mut self, key: u32, text: &str) {
        #[cfg(test)]
        assert_ne!(text, super::tests::PANIC, "as the test asked");
        let Request { id, ask } = match request::parse(text) {
            Ok(request) => request,
            Err(rejection) => return self.reject(key, &rejection),
        };
        let kind = match ask {
            Ask::Subscribe(_) => "subscribe",
            Ask::Unsubscribe(_) => "unsubscribe",
            Ask::Heartbeat => "heartbeat",
            Ask::Reconnect(_) => "reconnect",
        };
        self.shared.metrics.requests.get_or_create(&Label("type", kind)).inc();
        match ask {
            Ask::Subscribe(channels) => {
                let deadline = self.wheel.now().after(AHEAD_TIMEOUT);
                let may_hold = self.held.has_room(key, channels.len());
                let until = Until::Now;
                self.subscribe(Held { key, id, channels, deadline, asked: Asked::Nothing, until }, may_hold);
            }
            Ask::Unsubscribe(channels) => {
                self.leave(key, &channels);
                self.held.leave(key, &channels);
                let count = self.connections[key as usize].subscriptions.len();
                self.send(key, reply::unsubscription_ack(&channels, count, id));
            }
            Ask::Heartbeat => self.send(key, reply::pong(now_ms(), id)),
            Ask::Reconnect(offsets) => self.reconnect(key, &offsets, id),
        }
    }

    fn reject(&mut self, key: u32, rejection: &Rejection) {
        self.shared.metrics.errors.get_or_create(&Label("code", rejection.code)).inc();
        self.send(key, reply::error(rejection));
    }

    /// Serves the requests that were held, where their time has come.
    pub(super) fn retry_held(&mut self) {
        let now = self.wheel.now();
        let mut requests = std::mem::take(&mut self.held);
        let due = requests.take(|held| held.deadline <= now || self.is_due(held));
        self.held = requests;
        for held in due {
            let (key, may_hold) = (held.key, held.deadline > now);
            if self.connections[key as usize].phase == Phase::Open {
                self.subscribe(held, may_hold);
                self.flush(key);
            }
        }
    }

    /// Answers what is held for a client that sends nothing more, as at its deadline: nothing is done for it afterwards.
    pub(super) fn answer_held(&mut self, key: u32) {
        for held in self.held.take(|held| held.key == key) {
            if self.connections[key as usize].phase == Phase::Open {
                self.subscribe(held, false);
            }
        }
        self.flush(key);
    }

    fn is_due(&self, held: &Held) -> bool {
        match &held.until {
            Until::Now => true,
            Until::Reached(positions) => !positions.iter().any(|position| self.window.is_ahead(*position)),
            Until::Room => self.may_replay(held.key),
            Until::Answer => held.asked.is_answered(),
        }
    }

    /// What this worker has not reached of all that a client saw elsewhere; the highest offset of each partition.
    fn ahead(&self, key: u32, channels: &[(String, Since)]) -> Vec<Position> {
        let mut ahead: Vec<Position> = Vec::new();
        for (channel, since) in channels {
            let Since::At(positions) = since else { continue };
            if self.is_member(key, channel) {
                continue;
            }
            for position in positions.iter().filter(|position| self.window.is_ahead(**position)) {
                match ahead.iter_mut().find(|other| other.partition == position.partition) {
                    Some(other) => other.offset = other.offset.max(position.offset),
                    None => ahead.push(*position),
                }
            }
        }
        ahead
    }

    fn subscribe(&mut self, asked: Held, may_hold: bool) {
        let key = asked.key;
        let max = self.shared.settings.delivery.max_subscriptions as usize;
        let new = asked.channels.iter().filter(|(channel, _)| !self.is_member(key, channel)).count();
        if self.connections[key as usize].subscriptions.len() + new > max {
            let message = format!("at most {max} channels a connection; nothing was subscribed");
            self.reject(key, &Rejection { id: asked.id, code: "too_many_subscriptions", message });
            self.begin_close(key, CloseCode::TooManySubscriptions, &format!("at most {max} channels"));
            return;
        }
        let ahead = if may_hold { self.ahead(key, &asked.channels) } else { Vec::new() };
        if !ahead.is_empty() {
            return self.held.push(Held { until: Until::Reached(ahead), ..asked });
        }
        let mut recoveries = Vec::with_capacity(asked.channels.len());
        let mut past = HashMap::new();
        for (channel, since) in &asked.channels {
            let missed = self.missed(key, channel, since, &asked.asked);
            match (missed, since) {
                (Missed::Later, _) if may_hold => return self.held.push(Held { until: Until::Answer, ..asked }),
                (Missed::Busy, _) if may_hold => return self.held.push(Held { until: Until::Room, ..asked }),
                (Missed::Past, Since::At(positions)) if may_hold && self.shared.past.get().is_some() => {
                    past.insert(channel.clone(), positions.clone());
                }
                (Missed::Later, _) => recoveries.push(Some(Err(asked.asked.reason_at_deadline()))),
                (Missed::Busy, _) => recoveries.push(Some(Err("busy"))),
                // It was not looked for where it may be.
                (Missed::Past, _) if self.shared.past.get().is_some() => recoveries.push(Some(Err("busy"))),
                (Missed::Past, _) => recoveries.push(Some(Err("too_old"))),
                (Missed::Lost(reason), _) => recoveries.push(Some(Err(reason))),
                (Missed::Records(records), _) => recoveries.push(Some(Ok(records))),
                (Missed::Unasked, _) => recoveries.push(None),
            }
        }
        if !past.is_empty() {
            let deadline = self.wheel.now().after(AHEAD_TIMEOUT);
            let asked = Held { asked: self.ask_past(past), deadline, until: Until::Answer, ..asked };
            return self.held.push(asked);
        }

        let places = self.places(key, &asked.channels, &recoveries);
        self.join(key, &asked.channels);
        let mut ack = SubscriptionAck::new(asked.id, places);
        let mut replay = Vec::new();
        for ((channel, _), recovery) in asked.channels.into_iter().zip(recoveries) {
            let result = recovery.as_ref().map(|recovery| recovery.as_ref().map(|_| ()).map_err(|reason| *reason));
            if let Some(result) = result {
                let label = Label("result", result.err().unwrap_or("recovered"));
                self.shared.metrics.recoveries.get_or_create(&label).inc();
            }
            ack.add(channel, result);
            replay.extend(recovery.into_iter().flatten().flatten());
        }
        let count = self.connections[key as usize].subscriptions.len();
        self.send(key, ack.frame(count));
        self.replay(key, &replay, Record::replayed);
    }

    fn missed(&self, key: u32, channel: &str, since: &Since, asked: &Asked) -> Missed {
        match since {
            Since::Now | Since::Nothing => Missed::Unasked,
            _ if self.is_member(key, channel) => Missed::Lost("already_subscribed"),
            Since::Unreadable => Missed::Lost("bad_position"),
            Since::At(positions) if self.is_foreign(channel, positions) => Missed::Lost("epoch"),
            _ if !self.may_replay(key) => Missed::Busy,
            Since::Latest => match self.window.latest(channel) {
                Some(record) => Missed::Records(vec![record]),
                None => Missed::Lost("no_message"),
            },
            Since::At(positions) => asked.missed(&self.window, channel, positions),
        }
    }

    /// Behind which positions the messages begin of channels that `key` is about to join, where it keeps positions and is
    /// not sent what it missed.
    fn places(
        &self,
        key: u32,
        channels: &[(String, Since)],
        recoveries: &[Option<Recovered>],
    ) -> BTreeMap<String, Value> {
        let mut places = BTreeMap::new();
        for ((channel, since), recovery) in channels.iter().zip(recoveries) {
            // Of a channel that was joined before, messages have come or are due: they have positions of their own.
            if *since == Since::Now || matches!(recovery, Some(Ok(_))) || self.is_member(key, channel) {
                continue;
            }
            let positions = self.window.latest_positions(channel);
            if !positions.is_empty() {
                places.insert(channel.clone(), Position::to_json(&positions));
            }
        }
        places
    }

    /// Whether one of `positions` is from a topic that never feeds `channel`: nothing there tells what was missed.
    fn is_foreign(&self, channel: &str, positions: &[Position]) -> bool {
        let past = self.shared.past.get();
        past.is_some_and(|past| positions.iter().any(|position| past.is_foreign(position.partition, channel)))
    }

    fn reconnect(&mut self, key: u32, offsets: &HashMap<String, i64>, id: Option<Value>) {
        if !self.may_replay(key) {
            self.shared.metrics.errors.get_or_create(&Label("code", "reconnect")).inc();
            let message = "the messages asked for before are still on their way; ask again behind them";
            self.send(key, reply::reconnect_error(message, id));
            return;
        }
        let mut missed = Vec::new();
        // Under the other policies what came live may have been dropped since, and better comes twice than never.
        let all_live_came = matches!(self.shared.settings.delivery.slow_client, SlowClient::Disconnect);
        for membership in &self.connections[key as usize].subscriptions {
            let channel = self.channels.name(membership.channel);
            let live = all_live_came.then_some(membership.live);
            let reason = match self.window.recover_offsets(channel, offsets, live) {
                Recovery::Complete(records) => {
                    missed.extend(records);
                    continue;
                }
                Recovery::Ahead(_) => "the offset is beyond what this shard has read",
                Recovery::Lost("too_old") => "the offset is older than the messages that are kept",
                Recovery::Lost("several_partitions") => "one offset cannot tell what was missed of several partitions",
                Recovery::Lost("recreated") => {
                    "the topic was recreated, and an offset does not tell before or after that"
                }
                Recovery::Lost(_) => "nothing is known of that offset",
            };
            let message = format!("{channel}: {reason}; fetch fresh state");
            self.shared.metrics.errors.get_or_create(&Label("code", "reconnect")).inc();
            self.send(key, reply::reconnect_error(&message, id));
            return;
        }
        self.replay(key, &missed, Record::replayed_old);
        self.send(key, reply::reconnect_ack(missed.len(), id));
    }

    /// Whether a client may be sent another replay: one that asks for more and reads nothing has to wait.
    fn may_replay(&self, key: u32) -> bool {
        let blocked = self.connections[key as usize].blocked.as_ref();
        blocked.is_none_or(|blocked| blocked.allowance <= self.shared.settings.max_queue())
    }

    /// Sends records that the client asked for: they may wait beyond the limit of its queue.
    fn replay(&mut self, key: u32, records: &[Arc<Record>], frame: impl Fn(&Record) -> bytes::Bytes) {
        let mut bytes = 0;
        for record in records {
            let frame = frame(record);
            bytes += frame.len();
            let channel = self.channels.find(&record.channel);
            self.send_asked(key, frame, channel);
        }
        self.flush(key);
        let waiting = self.waiting(key);
        if let Some(blocked) = &mut self.connections[key as usize].blocked {
            blocked.allowance = (blocked.allowance + bytes).min(waiting);
        }
    }

    fn is_member(&self, key: u32, channel: &str) -> bool {
        let memberships = &self.connections[key as usize].subscriptions;
        self.channels.find(channel).is_some_and(|id| find(memberships, id).is_ok())
    }

    /// Joins those of `channels`, each named once, that were not joined before.
    fn join(&mut self, key: u32, channels: &[(String, Since)]) {
        let mut joined = Vec::new();
        for (channel, _) in channels {
            if !self.is_member(key, channel) {
                joined.push(self.channels.join(channel, key, self.window.next()));
            }
        }
        self.subscriptions += joined.len();
        let memberships = &mut self.connections[key as usize].subscriptions;
        memberships.append(&mut joined);
        // Stable, since that takes one step each for two lists in order.
        memberships.sort_by_key(|membership| membership.channel);
    }

    fn leave(&mut self, key: u32, channels: &[String]) {
        let ids: HashSet<ChannelId> = channels.iter().filter_map(|channel| self.channels.find(channel)).collect();
        let memberships = &mut self.connections[key as usize].subscriptions;
        let left: Vec<_> = memberships.extract_if(.., |membership| ids.contains(&membership.channel)).collect();
        for membership in left {
            self.leave_channel(membership);
        }
    }

    /// Ends all subscriptions of a connection.
    pub(super) fn leave_all(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        for membership in std::mem::take(&mut connection.subscriptions) {
            self.leave_channel(membership);
        }
    }

    fn leave_channel(&mut self, membership: Membership) {
        self.subscriptions -= 1;
        if let Some(moved) = self.channels.leave(membership) {
            let memberships = &mut self.connections[moved as usize].subscriptions;
            if let Ok(at) = find(memberships, membership.channel) {
                memberships[at].take_place_of(membership);
            }
        }
    }
}

/// Where among `memberships` that of `channel` is.
fn find(memberships: &[Membership], channel: ChannelId) -> Result<usize, usize> {
    memberships.binary_search_by_key(&channel, |membership| membership.channel)
}
