//! One side has ended: what still goes the other way, and when the tunnel ends with it.

use wscluster_ws::frame::{Opcode, client_frame, server_frame};

use super::*;

const MASK: [u8; 4] = [1, 2, 3, 4];

impl Bench {
    /// With room for all.
    fn roomy(early: &[u8]) -> Self {
        let bench = Self::new(early, b"");
        bench.client.make_room(1_000);
        bench.shard.make_room(1_000);
        bench
    }

    /// One side has ended and the other has not.
    fn lingers(&self) -> bool {
        assert!(!self.shard.0.borrow().finished, "the gateway ends the connection to the shard first");
        self.tunnel.is_some() && !self.shard.0.borrow().reset
    }

    /// The tunnel has ended without a half-close on either side.
    fn ended_at_once(&self) -> bool {
        self.tunnel.is_none() && !self.shard.0.borrow().finished && !self.client.0.borrow().finished
    }

    /// What the shard got after `asked`, unmasked: the Close in the name of a client that has ended.
    fn shard_got_close_after(&self, asked: &[u8]) -> bool {
        let got = &self.shard.0.borrow().got;
        let mut close = got.strip_prefix(asked).unwrap().to_vec();
        assert_eq!(close.len(), 8, "{got:?}");
        let key = [close[2], close[3], close[4], close[5]];
        wscluster_ws::frame::mask(&mut close[6..], key, 0);
        close[..2] == [0x88, 0x82] && close[6..] == [0x03, 0xe9]
    }
}

fn close_of_client() -> Vec<u8> {
    client_frame(Opcode::Close, b"\x03\xe8", MASK).to_vec()
}

fn close_of_shard() -> Vec<u8> {
    server_frame(Opcode::Close, b"\x03\xe8").to_vec()
}

#[test]
fn ends_at_once_with_a_client_that_has_asked_nothing_and_gives_it_what_is_there() {
    let mut bench = Bench::roomy(b"");
    let frame = server_frame(Opcode::Text, b"hello");
    bench.shard.send(&frame);
    bench.client.end();
    bench.run();
    assert!(bench.ended_at_once() && bench.shard.0.borrow().reset);
    assert_eq!(bench.client.0.borrow().got, frame);
    assert_eq!(bench.gateway.tunnels.load(Relaxed), 0);
}

#[test]
fn ends_with_the_frame_that_a_client_is_getting_when_it_ends() {
    let mut bench = Bench::roomy(b"");
    bench.shard.send(b"\x81\x05he");
    bench.client.end();
    bench.run();
    assert!(bench.lingers());
    bench.shard.send(b"llo");
    bench.run();
    assert!(bench.tunnel.is_none());
    assert_eq!(bench.client.0.borrow().got, b"\x81\x05hello");
}

#[test]
fn ends_when_a_client_that_has_ended_has_taken_what_is_held_for_it() {
    let mut bench = Bench::new(b"", b"");
    let frame = server_frame(Opcode::Text, b"hello");
    bench.shard.send(&frame);
    bench.client.end();
    bench.run();
    assert!(bench.lingers());
    bench.client.make_room(100);
    bench.run();
    assert!(bench.tunnel.is_none());
    assert_eq!(bench.client.0.borrow().got, frame);
}

#[test]
fn a_client_that_asked_before_its_tunnel_was_there_is_answered_after_its_end() {
    let question = client_frame(Opcode::Text, b"question", MASK);
    let mut bench = Bench::roomy(&question);
    bench.client.end();
    bench.run();
    assert!(bench.lingers() && bench.shard_got_close_after(&question));
    bench.shard.send(&server_frame(Opcode::Text, b"answer"));
    bench.run();
    assert!(bench.lingers());
    bench.shard.send(&close_of_shard());
    bench.shard.end();
    bench.run();
    assert!(bench.tunnel.is_none() && !bench.shard.0.borrow().reset, "the shard has ended first");
    assert!(bench.client.0.borrow().got.ends_with(&close_of_shard()));
}

#[test]
fn resets_the_shard_of_a_client_that_ends_in_the_middle_of_a_frame() {
    let mut bench = Bench::roomy(b"");
    bench.client.send(&client_frame(Opcode::Text, b"question", MASK)[..5]);
    bench.client.end();
    bench.run();
    assert!(bench.ended_at_once() && bench.shard.0.borrow().reset);
}

#[test]
fn resets_the_shard_when_the_client_breaks() {
    let mut bench = Bench::roomy(b"");
    bench.client.send(&client_frame(Opcode::Text, b"question", MASK));
    bench.run();
    bench.client.0.borrow_mut().broken = true;
    bench.client.end();
    bench.run();
    assert!(bench.ended_at_once() && bench.shard.0.borrow().reset);
}

#[test]
fn a_client_that_ends_behind_its_close_gets_the_answer_to_it() {
    let mut bench = Bench::roomy(b"");
    bench.client.send(&close_of_client());
    bench.client.end();
    bench.run();
    assert!(bench.lingers());
    assert_eq!(bench.shard.0.borrow().got, close_of_client(), "no second Close");
    bench.shard.send(&close_of_shard());
    bench.run();
    assert!(bench.tunnel.is_none());
    assert_eq!(bench.client.0.borrow().got, close_of_shard());
}

#[test]
fn ends_at_once_with_a_client_that_has_got_the_close_of_its_shard() {
    let mut bench = Bench::roomy(b"");
    bench.client.send(&client_frame(Opcode::Text, b"question", MASK));
    bench.shard.send(&close_of_shard());
    bench.run();
    assert!(bench.tunnel.is_some());
    bench.client.end();
    bench.run();
    assert!(bench.ended_at_once());
}

#[test]
fn ends_at_once_with_a_shard_that_has_got_the_close_of_its_client() {
    let mut bench = Bench::roomy(b"");
    bench.client.send(&close_of_client());
    bench.run();
    assert!(bench.tunnel.is_some());
    bench.shard.send(&close_of_shard());
    bench.shard.end();
    bench.run();
    assert!(bench.ended_at_once());
    assert_eq!(bench.client.0.borrow().got, close_of_shard());
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_has_ended_still_gets_the_rest_of_a_close_and_no_longer_waits() {
    let mut bench = Bench::new(b"", b"");
    bench.client.send(&close_of_client());
    bench.shard.end();
    bench.run();
    assert!(bench.lingers());
    bench.shard.make_room(3);
    bench.run();
    assert!(bench.tunnel.is_some());
    bench.shard.make_room(100);
    bench.run();
    assert!(bench.tunnel.is_none());
    assert_eq!(bench.shard.0.borrow().got, close_of_client());
}

#[test]
fn passes_the_end_of_a_client_on_after_all_bytes_and_keeps_the_other_way_open() {
    let mut bench = Bench::new(b"", b"");
    let last_words = client_frame(Opcode::Text, b"last words", MASK);
    bench.client.send(&last_words);
    bench.client.end();
    bench.run();
    bench.shard.make_room(3);
    bench.run();
    assert!(bench.lingers());
    bench.shard.make_room(100);
    bench.run();
    assert!(bench.lingers() && bench.shard_got_close_after(&last_words));
    bench.client.make_room(100);
    bench.shard.send(b"answer");
    bench.run();
    assert_eq!(bench.client.0.borrow().got, b"answer");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_breaks_has_ended() {
    let mut bench = Bench::new(b"", b"");
    bench.shard.send(b"\x81\x05hello");
    bench.run();
    bench.shard.0.borrow_mut().broken = true;
    bench.shard.end();
    bench.run();
    bench.client.make_room(100);
    bench.run();
    assert_eq!(bench.client.0.borrow().got, b"\x81\x05hello");
    assert!(bench.client.0.borrow().finished && bench.tunnel.is_some());
    bench.client.end();
    bench.run();
    assert!(bench.tunnel.is_none());
}

#[tokio::test(start_paused = true)]
async fn delivers_everything_from_a_shard_that_takes_no_more_bytes() {
    for early in [&b""[..], b"unwritten"] {
        let mut bench = Bench::new(early, b"");
        let frames = [server_frame(Opcode::Text, &vec![b'x'; 3 * SCRATCH]).to_vec(), close_of_shard()].concat();
        bench.shard.send(&frames);
        bench.run();
        bench.shard.0.borrow_mut().deaf = true;
        for _ in 0..3 {
            bench.client.send(&client_frame(Opcode::Text, b"heartbeat", MASK));
            bench.run();
        }
        bench.shard.make_room(0);
        bench.shard.end();
        bench.run();
        assert!(bench.tunnel.is_some() && bench.client.0.borrow().incoming.is_empty(), "unread bytes reset the end");
        bench.client.make_room(1 << 20);
        bench.run();
        assert_eq!(bench.client.0.borrow().got, frames);
        assert!(bench.client.0.borrow().finished);
        bench.client.end();
        bench.run();
        assert!(bench.tunnel.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn waits_longer_for_the_end_of_a_client_that_goes_on_sending() {
    let mut bench = Bench::roomy(b"");
    bench.shard.make_room(1_000_000);
    bench.shard.end();
    bench.run();
    let began = tokio::time::Instant::now();
    while bench.tunnel.is_some() {
        tokio::time::sleep(LINGER * 9 / 10).await;
        bench.client.send(&client_frame(Opcode::Text, b"heartbeat", MASK));
        bench.run();
        assert!(began.elapsed() <= LONGEST_LINGER + LINGER);
    }
    assert!(began.elapsed() >= LONGEST_LINGER);
}

#[tokio::test(start_paused = true)]
async fn leaves_a_client_that_stays_after_its_shard_has_ended() {
    let bench = Bench::new(b"", b"");
    let (client, shard) = (bench.client.clone(), bench.shard.clone());
    shard.end();
    let began = tokio::time::Instant::now();
    bench.tunnel.unwrap().await;
    assert_eq!(began.elapsed(), LINGER);
    assert!(client.0.borrow().finished);
}
