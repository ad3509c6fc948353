//! Requests of clients and their answers.
//!
//! A request is served in one step of the worker: recovery, answer and join see the same window, so there is no hole
//! and no repeat between replayed and live messages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use wscluster_api::spec::SlowClient;
use wscluster_protocol::close::CloseCode;
use wscluster_protocol::reply::{Reply, SubscriptionAck};
use wscluster_protocol::request::{self, Command, ErrorCode, Rejection, Request, Since};
use wscluster_protocol::{LostReason, Position, Positions, Record};
use wscluster_ws::decode::{Decoder, Event, Flow, Role};
use wscluster_ws::frame::{Opcode, server_frame};

use super::backfill::{BackfillState, Missed};
use super::channels::{ChannelId, Membership};
use super::connection::ConnectionPhase;
use super::metrics::Label;
use super::pending_subscribes::{PendingSubscribe, WaitsFor};
use super::settings::{ECHO_MAX_MESSAGE, HOLD_TIMEOUT};
use super::window::Recovery;
use super::worker::{Worker, now_ms};

/// The records that a client missed, or why they are not known.
type Recovered = Result<Vec<Arc<Record>>, LostReason>;

impl Worker {
    /// Decodes the `len` bytes in the scratch buffer that were read from connection `key`.
    pub(super) fn input(&mut self, key: u32, len: usize) {
        let connection = &mut self.connections[key as usize];
        if matches!(connection.phase, ConnectionPhase::Ending | ConnectionPhase::Shut | ConnectionPhase::Done) {
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
        let open = connection.phase == ConnectionPhase::Open;
        match *event {
            Event::Close(code, _) => self.on_close(key, code),
            // After our Close frame, only the peer's Close frame counts (RFC 6455 §5.5.1).
            _ if !open => return Flow::Continue,
            Event::Ping(payload) => self.send(key, server_frame(Opcode::Pong, payload)),
            Event::Pong(_) => {}
            Event::Text(text) if connection.echo => self.send(key, server_frame(Opcode::Text, text.as_bytes())),
            Event::Binary(bytes) if connection.echo => self.send(key, server_frame(Opcode::Binary, bytes)),
            Event::Text(text) => self.on_text(key, text),
            Event::Binary(_) => self.begin_close(key, CloseCode::Unsupported, "messages are JSON in text frames"),
        }
        match self.connections[key as usize].phase {
            ConnectionPhase::Open | ConnectionPhase::Closing => Flow::Continue,
            ConnectionPhase::Ending | ConnectionPhase::Shut | ConnectionPhase::Done => Flow::Stop,
        }
    }

    fn on_text(&mut self, key: u32, text: &str) {
        #[cfg(test)]
        assert_ne!(text, super::tests::PANIC, "as the test asked");
        let Request { id, command } = match request::parse(text) {
            Ok(request) => request,
            Err(rejection) => return self.reject(key, rejection),
        };
        self.shared.metrics.requests.get_or_create(&Label("type", command.as_str())).inc();
        let reply = match command {
            Command::Subscribe(channels) => {
                let deadline = self.wheel.now().after(HOLD_TIMEOUT);
                let may_wait = self.pending.has_room(key, channels.len());
                let (backfill, waits_for) = (BackfillState::NotRequested, WaitsFor::Nothing);
                return self.subscribe(PendingSubscribe { key, id, channels, deadline, backfill, waits_for }, may_wait);
            }
            Command::Unsubscribe(unsubscribed) => {
                self.leave(key, &unsubscribed);
                self.pending.leave(key, &unsubscribed);
                Reply::UnsubscriptionAck { unsubscribed, count: self.connections[key as usize].subscriptions.len() }
            }
            Command::Heartbeat => Reply::Pong { ts: now_ms() },
            Command::Reconnect(offsets) => self.reconnect(key, &offsets),
        };
        self.send(key, reply.frame(id));
    }

    fn reject(&mut self, key: u32, rejection: Rejection) {
        self.shared.metrics.errors.get_or_create(&Label("code", rejection.code.as_str())).inc();
        self.send(key, Reply::rejected(&rejection).frame(rejection.id));
    }

    /// Serves the pending requests that are due.
    pub(super) fn retry_pending(&mut self) {
        let now = self.wheel.now();
        let mut requests = std::mem::take(&mut self.pending);
        let due = requests.take(|request| request.deadline <= now || self.is_due(request));
        self.pending = requests;
        for request in due {
            let (key, may_wait) = (request.key, request.deadline > now);
            if self.connections[key as usize].phase == ConnectionPhase::Open {
                self.subscribe(request, may_wait);
                self.flush(key);
            }
        }
    }

    /// Answers the pending requests of a client that has ended its sending side, as if their deadline had passed.
    pub(super) fn answer_pending(&mut self, key: u32) {
        for request in self.pending.take(|request| request.key == key) {
            if self.connections[key as usize].phase == ConnectionPhase::Open {
                self.subscribe(request, false);
            }
        }
        self.flush(key);
    }

    fn is_due(&self, request: &PendingSubscribe) -> bool {
        match &request.waits_for {
            WaitsFor::Nothing => true,
            WaitsFor::Positions(positions) => !positions.iter().any(|position| self.window.is_ahead(*position)),
            WaitsFor::Room => self.may_replay(request.key),
            WaitsFor::Backfill => request.backfill.is_answered(),
        }
    }

    /// The positions that the client has seen and this worker has not reached: the highest offset of each partition.
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

    /// Answers `request`; with `may_wait`, leaves it pending if the answer needs records that have not arrived yet.
    fn subscribe(&mut self, request: PendingSubscribe, may_wait: bool) {
        let key = request.key;
        let max = self.shared.settings.delivery.max_subscriptions as usize;
        let new = request.channels.iter().filter(|(channel, _)| !self.is_member(key, channel)).count();
        if self.connections[key as usize].subscriptions.len() + new > max {
            let message = format!("at most {max} channels a connection; nothing was subscribed");
            self.reject(key, Rejection { id: request.id, code: ErrorCode::TooManySubscriptions, message });
            self.begin_close(key, CloseCode::TooManySubscriptions, &format!("at most {max} channels"));
            return;
        }
        let ahead = if may_wait { self.ahead(key, &request.channels) } else { Vec::new() };
        if !ahead.is_empty() {
            let deadline = request.deadline.max(self.wheel.now().after(self.shared.settings.ahead_timeout));
            return self.pending.push(PendingSubscribe { deadline, waits_for: WaitsFor::Positions(ahead), ..request });
        }
        let mut recoveries = Vec::with_capacity(request.channels.len());
        let mut to_backfill = HashMap::new();
        let has_backfill = self.shared.backfill.get().is_some();
        for (channel, since) in &request.channels {
            let missed = self.missed(key, channel, since, &request.backfill);
            match (missed, since) {
                (Missed::Later, _) if may_wait => {
                    return self.pending.push(PendingSubscribe { waits_for: WaitsFor::Backfill, ..request });
                }
                (Missed::Busy, _) if may_wait => {
                    return self.pending.push(PendingSubscribe { waits_for: WaitsFor::Room, ..request });
                }
                (Missed::NotInWindow, Since::At(positions)) if may_wait && has_backfill => {
                    to_backfill.insert(channel.clone(), positions.clone());
                }
                (Missed::Later, _) => recoveries.push(Some(Err(request.backfill.reason_at_deadline()))),
                // A request that may not wait cannot be backfilled.
                (Missed::NotInWindow, _) if has_backfill => recoveries.push(Some(Err(LostReason::Busy))),
                (Missed::Busy, _) => recoveries.push(Some(Err(LostReason::Busy))),
                (Missed::NotInWindow, _) => recoveries.push(Some(Err(LostReason::TooOld))),
                (Missed::Lost(reason), _) => recoveries.push(Some(Err(reason))),
                (Missed::Records(records), _) => recoveries.push(Some(Ok(records))),
                (Missed::NotRequested, _) => recoveries.push(None),
            }
        }
        if !to_backfill.is_empty() {
            let deadline = self.wheel.now().after(HOLD_TIMEOUT);
            let (backfill, waits_for) = (self.request_backfill(to_backfill), WaitsFor::Backfill);
            return self.pending.push(PendingSubscribe { deadline, backfill, waits_for, ..request });
        }

        let positions = self.first_positions(key, &request.channels, &recoveries);
        self.join(key, &request.channels);
        let mut ack = SubscriptionAck { positions, ..SubscriptionAck::default() };
        let mut replay = Vec::new();
        for ((channel, _), recovery) in request.channels.into_iter().zip(recoveries) {
            let result = recovery.as_ref().map(|recovery| recovery.as_ref().map(|_| ()).map_err(|reason| *reason));
            if let Some(result) = result {
                let label = Label("result", result.err().map_or("recovered", LostReason::as_str));
                self.shared.metrics.recoveries.get_or_create(&label).inc();
            }
            ack.add(channel, result);
            replay.extend(recovery.into_iter().flatten().flatten());
        }
        ack.count = self.connections[key as usize].subscriptions.len();
        self.send(key, Reply::SubscriptionAck(ack).frame(request.id));
        self.replay(key, &replay, Record::replayed);
    }

    fn missed(&self, key: u32, channel: &str, since: &Since, backfill: &BackfillState) -> Missed {
        match since {
            Since::Now | Since::Nothing => Missed::NotRequested,
            _ if self.is_member(key, channel) => Missed::Lost(LostReason::AlreadySubscribed),
            Since::Unreadable => Missed::Lost(LostReason::BadPosition),
            Since::At(positions) if self.is_foreign(channel, positions) => Missed::Lost(LostReason::Epoch),
            _ if !self.may_replay(key) => Missed::Busy,
            Since::Latest => match self.window.latest(channel) {
                Some(record) => Missed::Records(vec![record]),
                None => Missed::Lost(LostReason::NoMessage),
            },
            Since::At(positions) => backfill.missed(&self.window, channel, positions),
        }
    }

    /// The positions after which channels begin that connection `key` is about to join, for clients that keep
    /// positions and get no replay of the channel.
    fn first_positions(
        &self,
        key: u32,
        channels: &[(String, Since)],
        recoveries: &[Option<Recovered>],
    ) -> BTreeMap<String, Positions> {
        let mut places = BTreeMap::new();
        for ((channel, since), recovery) in channels.iter().zip(recoveries) {
            // The messages of a channel that was joined before carry positions themselves.
            if *since == Since::Now || matches!(recovery, Some(Ok(_))) || self.is_member(key, channel) {
                continue;
            }
            let positions = self.window.latest_positions(channel);
            if !positions.is_empty() {
                places.insert(channel.clone(), Positions(positions));
            }
        }
        places
    }

    /// Whether one of `positions` is from a topic that never feeds `channel`.
    fn is_foreign(&self, channel: &str, positions: &[Position]) -> bool {
        let backfill = self.shared.backfill.get();
        backfill
            .is_some_and(|backfill| positions.iter().any(|position| backfill.is_foreign(position.partition, channel)))
    }

    fn reconnect(&mut self, key: u32, offsets: &HashMap<String, i64>) -> Reply {
        match self.missed_since(key, offsets) {
            Ok(missed) => {
                self.replay(key, &missed, Record::replayed_old);
                Reply::reconnected(missed.len())
            }
            Err(message) => {
                self.shared.metrics.errors.get_or_create(&Label("code", ErrorCode::Reconnect.as_str())).inc();
                Reply::ReconnectError { message }
            }
        }
    }

    /// The records of all subscribed channels after `offsets`, or the sentence that explains why they are not known.
    fn missed_since(&self, key: u32, offsets: &HashMap<String, i64>) -> Result<Vec<Arc<Record>>, String> {
        if !self.may_replay(key) {
            return Err("the messages asked for before are still on their way; ask again behind them".to_owned());
        }
        let mut missed = Vec::new();
        // The other policies may have dropped live messages: a repeated message is better than a missing one.
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
                Recovery::Lost(LostReason::TooOld) => "the offset is older than the messages that are kept",
                Recovery::Lost(LostReason::SeveralPartitions) => {
                    "one offset cannot tell what was missed of several partitions"
                }
                Recovery::Lost(LostReason::Recreated) => {
                    "the topic was recreated, and an offset does not tell before or after that"
                }
                Recovery::Lost(_) => "nothing is known of that offset",
            };
            return Err(format!("{channel}: {reason}; fetch fresh state"));
        }
        Ok(missed)
    }

    /// Whether a client may get another replay. A client that has not read the previous one has to wait.
    fn may_replay(&self, key: u32) -> bool {
        let blocked = self.connections[key as usize].blocked.as_ref();
        blocked.is_none_or(|blocked| blocked.allowance <= self.shared.settings.max_queue())
    }

    /// Sends records that the client asked for. They may exceed the limit of its queue.
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

    /// Joins those of `channels` that connection `key` has not joined before.
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
        // The stable sort merges two sorted lists in linear time.
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

/// The index of the membership of `channel`.
fn find(memberships: &[Membership], channel: ChannelId) -> Result<usize, usize> {
    memberships.binary_search_by_key(&channel, |membership| membership.channel)
}
