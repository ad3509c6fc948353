//! Handles everything that arrives on a connection: answers, records, pings, Close. It does no I/O: answers are
//! appended to `out`, and `end` holds the end of the connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wscluster_client::{Retry, SubscriptionAck, subscribe};
use wscluster_protocol::Position;
use wscluster_ws::decode::{Event, Flow};
use wscluster_ws::frame::{Opcode, client_frame};

use super::audit::{Track, Verdict};
use super::failure::{Failure, Phase};
use super::ground_truth::{ClientLog, Nanos};
use super::message::{Delivery, Message, Reader};
use super::stats::{Stats, count};
use super::worker_plan::unix_now;

/// One client's side of one connection.
#[derive(Debug)]
pub(super) struct Inbox {
    /// What the client received, over all its connections.
    pub(super) log: ClientLog,
    /// The client reads slowly and is counted separately.
    pub(super) slow: bool,
    /// [`Phase::Subscribe`], [`Phase::Settle`] or [`Phase::Hold`].
    pub(super) phase: Phase,
    /// Frames to send.
    pub(super) out: Vec<u8>,
    /// Why the connection ended.
    pub(super) end: Option<Failure>,
    /// When the heartbeats or echoes were sent that have no answer yet.
    pub(super) unanswered: VecDeque<Instant>,
    echo: bool,
    opened: Instant,
    first: bool,
    now: Instant,
    unix: Nanos,
}

impl Inbox {
    /// The inbox of a connection that was opened at `opened`.
    pub(super) fn new(log: ClientLog, opened: Instant, echo: bool, slow: bool) -> Self {
        Self {
            phase: if log.channels.is_empty() { Phase::Settle } else { Phase::Subscribe },
            log,
            slow,
            out: Vec::new(),
            end: None,
            unanswered: VecDeque::new(),
            echo,
            opened,
            first: true,
            now: opened,
            unix: 0,
        }
    }

    /// Reads the clocks, once for all messages of a read.
    pub(super) fn tick(&mut self) {
        (self.now, self.unix) = (Instant::now(), unix_now());
    }

    /// Handles an event.
    pub(super) fn take(&mut self, event: &Event<'_>, reader: &mut Reader, stats: &mut Stats) -> Flow {
        match event {
            Event::Text(text) => {
                self.message(stats);
                if self.echo {
                    self.reply(stats);
                } else {
                    self.text(reader.read(text), reader, stats);
                }
            }
            Event::Binary(_) => {
                self.message(stats);
                if self.echo {
                    self.reply(stats);
                }
            }
            Event::Ping(payload) => {
                stats.messages.pings += 1;
                self.out.extend_from_slice(&client_frame(Opcode::Pong, payload, rand::random()));
            }
            Event::Pong(_) => {}
            Event::Close(code, reason) => {
                self.end = Some(Failure::Close(self.phase, *code, Retry::of_close(*code, reason)));
            }
        }
        if self.end.is_some() { Flow::Stop } else { Flow::Continue }
    }

    fn message(&mut self, stats: &mut Stats) {
        stats.messages.received += 1;
        if std::mem::take(&mut self.first) {
            stats.latencies.first_message.record(self.now.duration_since(self.opened));
        }
    }

    fn reply(&mut self, stats: &mut Stats) {
        if let Some(sent) = self.unanswered.pop_front() {
            stats.messages.replies += 1;
            stats.latencies.reply.record(self.now.duration_since(sent));
        }
    }

    fn text(&mut self, message: Message, reader: &Reader, stats: &mut Stats) {
        match message {
            Message::Delivery(delivery) => self.delivery(&delivery, stats),
            Message::Pong => self.reply(stats),
            Message::Subscribed(SubscriptionAck { recovered, positions, .. }) => {
                if self.phase == Phase::Subscribe {
                    self.phase = Phase::Settle;
                    // A slow client is not audited: without a session, no record is expected.
                    if !self.slow {
                        self.log.sessions.push((self.unix, Nanos::MAX));
                    }
                }
                for (channel, recovered) in &recovered {
                    if *recovered {
                        stats.chain.recovered += 1;
                    } else {
                        stats.chain.unrecovered += 1;
                        self.forgive(channel, reader);
                    }
                }
                for (channel, positions) in &positions {
                    self.continue_after(channel, positions, reader, stats);
                }
            }
            Message::Gap(channel, positions) => {
                stats.chain.server_gaps += 1;
                self.forgive(&channel, reader);
                self.continue_after(&channel, &positions, reader, stats);
            }
            Message::Error(code) => {
                stats.messages.errors += 1;
                if self.phase == Phase::Subscribe {
                    self.end = Some(Failure::SubscribeRejected(code.clone()));
                }
                count(&mut stats.errors, super::failure::word(&code));
            }
            Message::Other => {}
        }
    }

    fn forgive(&mut self, channel: &str, reader: &Reader) {
        let channel = reader.channel(channel);
        self.log
            .tracks
            .iter_mut()
            .filter(|track| Some(track.channel) == channel)
            .for_each(|track| track.forgiven = true);
    }

    /// The server continues `channel` after `positions`; every record from there on is expected.
    fn continue_after(&mut self, channel: &str, positions: &[Position], reader: &Reader, stats: &mut Stats) {
        let channel = reader.channel(channel).filter(|channel| self.log.channels.contains(channel));
        let Some(channel) = channel.filter(|_| !self.slow) else { return };
        for Position { partition, offset } in positions {
            let mine = |track: &&mut Track| track.channel == channel && track.partition() == *partition;
            match self.log.tracks.iter_mut().find(mine) {
                Some(track) => {
                    if track.skip_to(*offset) {
                        stats.verdict(Verdict::DeclaredGap);
                    }
                }
                None => self.log.tracks.push(Track::behind(channel, *partition, *offset)),
            }
        }
    }

    fn delivery(&mut self, delivery: &Delivery, stats: &mut Stats) {
        stats.messages.deliveries += 1;
        stats.messages.replayed += u64::from(delivery.replayed);
        if self.slow {
            return;
        }
        // Replayed records waited for the client, so their age is no latency.
        if let (Some((published, exact)), false) = (delivery.published, delivery.replayed) {
            stats.latencies.delivery.record(Duration::from_nanos(self.unix.saturating_sub(published)));
            stats.coarse |= !exact;
        }
        let Some(channel) = delivery.channel.filter(|channel| self.log.channels.contains(channel)) else {
            stats.chain.misrouted += 1;
            return;
        };
        let position = delivery.position;
        let track = self.log.tracks.iter_mut().find(|t| t.channel == channel && t.partition() == position.partition);
        let Some(track) = track else {
            self.log.tracks.push(Track::begin(channel, position.partition, position.offset));
            stats.verdict(Verdict::InOrder);
            return;
        };
        let prev = delivery.prev.filter(|prev| prev.partition == position.partition).map(|prev| prev.offset);
        stats.verdict(track.observe(position.offset, prev));
    }

    /// The connection ended: records published from now on are not expected.
    pub(super) fn left(&mut self) {
        if let Some((_, leave)) = self.log.sessions.last_mut()
            && *leave == Nanos::MAX
        {
            *leave = unix_now();
        }
    }
}

/// The `subscribe` request of a client, with its positions.
pub(super) fn subscription(log: &ClientLog, channels: &[String]) -> String {
    let names: Vec<&str> = log.channels.iter().map(|channel| channels[*channel as usize].as_str()).collect();
    let mut since = serde_json::Map::new();
    for (channel, name) in log.channels.iter().zip(&names) {
        let of_channel = || log.tracks.iter().filter(|track| track.channel == *channel);
        // Positions of an earlier incarnation of the topic are useless in the present one.
        let Some(epoch) = of_channel().next_back().map(|track| track.partition().epoch) else { continue };
        let position = |track: &Track| Position { partition: track.partition(), offset: track.last };
        let positions: Vec<_> = of_channel().filter(|track| track.partition().epoch == epoch).map(position).collect();
        since.insert((*name).to_owned(), Position::to_json(&positions));
    }
    subscribe(&names, Some(since))
}

#[cfg(test)]
mod tests {
    use wscluster_protocol::{Epoch, Partition};

    use super::*;

    #[test]
    fn resumes_with_positions_of_the_present_incarnation_of_a_topic() {
        let at = |epoch, number| Partition { epoch: Epoch(epoch), number };
        let tracks = vec![
            Track::begin(0, at(1, 0), 70),
            Track::begin(0, at(2, 0), 5),
            Track::begin(0, at(2, 1), 6),
            Track::begin(2, at(2, 0), 9),
        ];
        let log = ClientLog { channels: vec![0, 1, 2], sessions: Vec::new(), tracks };
        let names = ["a", "b", "c"].map(str::to_owned);
        let message: serde_json::Value = serde_json::from_str(&subscription(&log, &names)).unwrap();
        assert_eq!(message["data"]["channels"], serde_json::json!(["a", "b", "c"]));
        assert_eq!(message["data"]["since"], serde_json::json!({ "a": ["2-0-5", "2-1-6"], "c": "2-0-9" }));
    }

    #[test]
    fn adopts_the_positions_of_an_answer() {
        let names = ["a", "b"].map(str::to_owned);
        let (mut reader, mut stats) = (Reader::new(&names), Stats::default());
        let log = ClientLog { channels: vec![0], ..ClientLog::default() };
        let mut inbox = Inbox::new(log, Instant::now(), false, false);
        let mut hear = |inbox: &mut Inbox, text: &str| {
            inbox.take(&Event::Text(text), &mut reader, &mut stats);
            let said = subscription(&inbox.log, &names);
            serde_json::from_str::<serde_json::Value>(&said).unwrap()["data"]["since"].clone()
        };
        let ack = r#"{"type":"subscription_ack","positions":{"a":["2-0-5","2-1-6"],"b":"2-0-1"}}"#;
        assert_eq!(hear(&mut inbox, ack), serde_json::json!({ "a": ["2-0-5", "2-1-6"] }));
        let next = r#"{"type":"t","channel":"a","pos":"2-0-9","prev":"2-0-5"}"#;
        assert_eq!(hear(&mut inbox, next), serde_json::json!({ "a": ["2-0-9", "2-1-6"] }));
        let gap = r#"{"type":"gap","channel":"a","positions":["2-0-19","2-1-6"]}"#;
        assert_eq!(hear(&mut inbox, gap), serde_json::json!({ "a": ["2-0-19", "2-1-6"] }));
        assert_eq!((stats.chain.in_order, stats.chain.declared_gaps, stats.chain.gaps), (1, 1, 0));
    }
}
