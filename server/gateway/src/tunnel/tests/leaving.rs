//! Moving a client away: where the Close is inserted, what client and shard see, and what happens if it takes too
//! long.

use wscluster_api::spec::RetryAfter;
use wscluster_api::units::Span;
use wscluster_ws::frame::{Opcode, server_frame};

use super::*;
use crate::metrics::Eviction;

/// A Close 1012 with the only hint there is.
fn close() -> Vec<u8> {
    [&[0x88, 2 + 20, 0x03, 0xf4], &br#"{"retry_after_ms":7}"#[..]].concat()
}

fn hint() -> RetryAfter {
    RetryAfter { min: Span::millis(7), max: Span::millis(7) }
}

impl Bench {
    fn evict(&mut self) {
        self.registry.evict(u32::MAX, &hint());
        self.run();
    }

    fn got(&self) -> Vec<u8> {
        self.client.0.borrow().got.clone()
    }

    fn count(&self, eviction: Eviction) -> u64 {
        self.gateway.metrics.evictions(eviction)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Text in fragments, with control frames between them, and payload of every kind of length.
fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let frame = (0..4_u8, prop_oneof![0..4_usize, 120..130_usize, 60_000..70_000_usize]).prop_map(|(kind, len)| {
        let payload = |len: usize| vec![0x88; len];
        let mut frame = match kind {
            0 => server_frame(Opcode::Ping, &payload(len.min(125))).to_vec(),
            1 => server_frame(Opcode::Continuation, &payload(len)).to_vec(),
            _ => server_frame(Opcode::Text, &payload(len)).to_vec(),
        };
        if kind == 3 {
            frame[0] &= 0x7f;
        }
        frame
    });
    prop::collection::vec(frame, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// For every split of a stream of frames, every time of the eviction, and every size of the client's reads.
    #[test]
    fn puts_the_close_between_two_frames_and_nothing_behind_it(
        frames in frames(),
        pieces in prop::collection::vec(1..40_000_usize, 1..40),
        chosen in 0..40_usize,
        room in prop_oneof![1..100_usize, 1..100_000_usize, Just(1 << 30)],
        first in 0..3_usize,
    ) {
        let runtime = runtime();
        let _entered = runtime.enter();
        let first = frames.iter().take(first).flatten().copied().collect::<Vec<u8>>();
        let stream: Vec<u8> = frames.iter().flatten().copied().collect();
        let mut bench = Bench::new(b"", &first);
        let mut rest = &stream[first.len()..];
        for (at, piece) in pieces.iter().chain([&usize::MAX]).enumerate() {
            if at == chosen.min(pieces.len()) {
                bench.evict();
            }
            let (now, later) = rest.split_at(rest.len().min(*piece));
            rest = later;
            if !now.is_empty() {
                bench.shard.send(now);
            }
            bench.client.make_room(room);
            bench.run();
        }
        bench.client.make_room(1 << 30);
        bench.run();
        prop_assert!(bench.client.0.borrow().finished);
        let got = bench.got();
        let close = close();
        prop_assert!(got.ends_with(&close), "{:?}", &got[got.len().saturating_sub(30)..]);
        let before = &got[..got.len() - close.len()];
        prop_assert!(stream.starts_with(before));
        let ends = frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) });
        prop_assert!(before.is_empty() || ends.into_iter().any(|end| end == before.len()), "{} of {}", before.len(), stream.len());
        bench.client.end();
        bench.run();
        prop_assert!(bench.tunnel.is_none());
        prop_assert_eq!(bench.count(Eviction::Closed), 1);
        prop_assert_eq!(bench.open.load(Relaxed), 0);
        prop_assert_eq!(bench.gateway.tunnels.load(Relaxed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_told_at_once_and_its_slot_is_free_before_it_answers() {
    let mut bench = Bench::new(b"", b"");
    bench.client.make_room(1_000);
    bench.shard.make_room(1_000);
    bench.run();
    bench.gateway.table.shards()[0].granted_silently();
    assert_eq!(bench.open.load(Relaxed), 1);
    bench.evict();
    assert_eq!(bench.got(), close());
    assert!(bench.client.0.borrow().finished && bench.shard.0.borrow().reset);
    assert_eq!((bench.open.load(Relaxed), bench.gateway.table.shards()[0].load().connections), (0, 0));
    // Bytes that it still sends are discarded, and its end ends the tunnel.
    bench.client.send(b"\x88\x82\x01\x02\x03\x04\x02\xf6");
    bench.run();
    assert!(bench.tunnel.is_some());
    bench.client.end();
    bench.run();
    assert!(bench.tunnel.is_none());
    assert!(bench.shard.0.borrow().got.is_empty());
    assert_eq!(bench.gateway.table.shards()[0].load().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn waits_for_the_end_of_a_frame_while_bytes_go_both_ways() {
    let mut bench = Bench::new(b"", b"");
    bench.client.make_room(1_000);
    bench.shard.make_room(1_000);
    bench.shard.send(b"\x81\x05he");
    bench.run();
    bench.evict();
    bench.client.send(b"up");
    bench.run();
    assert_eq!(bench.shard.0.borrow().got, b"up");
    bench.shard.send(b"llo\x81\x01x");
    bench.run();
    assert_eq!(bench.got(), [&b"\x81\x05hello"[..], &close()].concat());
}

#[tokio::test(start_paused = true)]
async fn cuts_a_frame_that_does_not_end_and_sends_no_close() {
    let mut bench = Bench::new(b"", b"");
    bench.client.make_room(1_000);
    bench.shard.send(b"\x81\x05he");
    bench.run();
    bench.evict();
    let began = tokio::time::Instant::now();
    bench.tunnel.take().unwrap().await;
    assert_eq!(began.elapsed(), LINGER);
    assert_eq!(bench.got(), b"\x81\x05he");
    assert_eq!(bench.count(Eviction::Cut), 1);
}

#[tokio::test(start_paused = true)]
async fn leaves_a_client_that_reads_nothing() {
    let mut bench = Bench::new(b"", b"");
    bench.shard.send(b"\x81\x05hello");
    bench.run();
    bench.evict();
    bench.tunnel.take().unwrap().await;
    assert_eq!(bench.got(), b"");
    assert_eq!(bench.count(Eviction::Cut), 1);
}

#[tokio::test(start_paused = true)]
async fn leaves_a_client_that_does_not_answer() {
    let mut bench = Bench::new(b"", b"");
    bench.client.make_room(1_000);
    bench.evict();
    let began = tokio::time::Instant::now();
    bench.tunnel.take().unwrap().await;
    assert_eq!((began.elapsed(), bench.count(Eviction::Closed)), (LINGER, 1));
}

#[tokio::test(start_paused = true)]
async fn puts_nothing_behind_a_close_of_the_shard() {
    let shards_close = b"\x88\x02\x03\xe8";
    for when in [0, 2, 4] {
        let mut bench = Bench::new(b"", b"");
        bench.client.make_room(1_000);
        bench.shard.make_room(1_000);
        bench.shard.send(&shards_close[..when.max(1)]);
        bench.run();
        bench.evict();
        bench.shard.send(&shards_close[when.max(1)..]);
        bench.shard.end();
        bench.run();
        assert_eq!(bench.got(), shards_close);
        assert!(bench.client.0.borrow().finished);
        bench.client.end();
        bench.run();
        assert!(bench.tunnel.is_none());
        assert_eq!(bench.count(Eviction::Left), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn counts_a_client_that_was_faster() {
    let mut bench = Bench::new(b"", b"");
    bench.shard.send(b"\x81\x05he");
    bench.run();
    bench.evict();
    bench.client.0.borrow_mut().broken = true;
    bench.client.end();
    bench.run();
    assert!(bench.tunnel.is_none());
    assert_eq!(bench.count(Eviction::Left), 1);
}

#[tokio::test(start_paused = true)]
async fn ends_at_once_when_told_so_while_it_leaves() {
    let mut bench = Bench::new(b"", b"");
    bench.evict();
    bench.registry.end_all();
    bench.run();
    assert!(bench.tunnel.is_none());
    assert_eq!((bench.open.load(Relaxed), bench.gateway.tunnels.load(Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn is_told_before_its_first_turn() {
    let mut bench = Bench::new(b"", b"");
    bench.client.make_room(1_000);
    bench.registry.evict(1, &hint());
    bench.registry.evict(1, &hint());
    bench.run();
    assert_eq!(bench.got(), close());
}
