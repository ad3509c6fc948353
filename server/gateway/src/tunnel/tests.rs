//! A tunnel between two fake sockets that accept and deliver as few bytes at a time as a script allows.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::task::{Wake, Waker};

use proptest::prelude::*;
use wscluster_routing::member::Member;
use wscluster_runtime::fds::{Budget, Permit};

use super::*;
use crate::gateway::Gateway;
use crate::registry::Registry;
use crate::tests::settings;

mod ending;
mod leaving;

/// One end as the tunnel sees it.
#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Ends>>);

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a socket")]
struct Ends {
    /// Pieces the peer has sent; a read takes one at most.
    incoming: VecDeque<Vec<u8>>,
    /// The peer has ended.
    ended: bool,
    broken: bool,
    /// The peer takes no bytes any more, although its own may still be read.
    deaf: bool,
    /// Bytes the peer would take now.
    room: usize,
    /// What the peer got.
    got: Vec<u8>,
    finished: bool,
    reset: bool,
    read: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Fake {
    fn send(&self, piece: &[u8]) {
        let mut ends = self.0.borrow_mut();
        ends.incoming.push_back(piece.to_vec());
        ends.reader.take().into_iter().for_each(Waker::wake);
    }

    fn end(&self) {
        let mut ends = self.0.borrow_mut();
        ends.ended = true;
        ends.reader.take().into_iter().for_each(Waker::wake);
    }

    fn make_room(&self, room: usize) {
        let mut ends = self.0.borrow_mut();
        ends.room += room;
        ends.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl Socket for Fake {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        if ends.incoming.is_empty() && !ends.ended && !ends.broken {
            ends.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        if ends.room == 0 && !ends.deaf {
            ends.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut ends = self.0.borrow_mut();
        if ends.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let Some(mut piece) = ends.incoming.pop_front() else {
            return if ends.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        };
        let n = piece.len().min(buf.len());
        buf[..n].copy_from_slice(&piece[..n]);
        if n < piece.len() {
            ends.incoming.push_front(piece.split_off(n));
        }
        ends.read += n;
        Ok(n)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut ends = self.0.borrow_mut();
        assert!(!ends.finished, "wrote after the end");
        if ends.deaf {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let n = bytes.len().min(ends.room);
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        ends.room -= n;
        ends.got.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn finish(&self) {
        let finished = std::mem::replace(&mut self.0.borrow_mut().finished, true);
        assert!(!finished, "ended twice");
    }

    fn reset(&self) {
        self.0.borrow_mut().reset = true;
    }
}

/// Counts wake-ups, as an executor's run queue would.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

struct Bench {
    client: Fake,
    shard: Fake,
    tunnel: Option<Tunnel<Fake>>,
    wakes: Arc<Wakes>,
    registry: Registry,
    open: Arc<AtomicU32>,
    gateway: Arc<Gateway>,
}

impl Bench {
    fn new(early: &[u8], first: &[u8]) -> Self {
        let gateway = Gateway::new(settings(), Budget::new(100, 0));
        let address = ([127, 0, 0, 1], 1).into();
        gateway.table.set(&[Member { name: "s".to_owned(), ws: address, admin: address }]);
        let open = Arc::new(AtomicU32::new(0));
        let registry = Registry::new(Arc::clone(&gateway), Arc::clone(&open));
        let (client, shard) = (Fake::default(), Fake::default());
        let mut tunnel = None;
        let first = First { unsent: first, frames: first };
        registry
            .reserve(&gateway.table.shards()[0], gateway.fds.take(Permit::TUNNEL).unwrap())
            .open(|handle| tunnel = Some(Tunnel::new(client.clone(), shard.clone(), early, first, handle)));
        let wakes = Arc::new(Wakes(AtomicUsize::new(1)));
        Self { client, shard, tunnel, wakes, registry, open, gateway }
    }

    /// Polls as an executor would: only when woken, and never without end.
    fn run(&mut self) {
        let waker = Waker::from(Arc::clone(&self.wakes));
        for _ in 0..10_000 {
            if self.wakes.0.swap(0, Relaxed) == 0 {
                return;
            }
            let Some(tunnel) = &mut self.tunnel else { return };
            if Pin::new(tunnel).poll(&mut Context::from_waker(&waker)).is_ready() {
                self.tunnel = None;
            }
        }
        panic!("the tunnel spins");
    }

    fn held(&self) -> (usize, usize) {
        let (client, shard) = (self.client.0.borrow(), self.shard.0.borrow());
        (client.read - shard.got.len().min(client.read), shard.read - client.got.len().min(shard.read))
    }
}

/// What may happen to a tunnel.
#[derive(Clone, Debug)]
enum Step {
    ClientSends(usize),
    ShardSends(usize),
    ClientTakes(usize),
    ShardTakes(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![1..200_usize, 1..3 * SCRATCH];
    let step = (0..4_u8, len).prop_map(|(what, len)| match what {
        0 => Step::ClientSends(len),
        1 => Step::ShardSends(len),
        2 => Step::ClientTakes(len),
        _ => Step::ShardTakes(len),
    });
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn loses_repeats_and_reorders_nothing_and_holds_little(steps in steps()) {
        // For the timer of a side that lingers.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let mut bench = Bench::new(b"", b"");
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let piece = |len: usize, all: &mut Vec<u8>| -> Vec<u8> {
            let piece: Vec<u8> = (all.len()..all.len() + len).map(|at| (at % 251) as u8).collect();
            all.extend(&piece);
            piece
        };
        for step in steps {
            match step {
                Step::ClientSends(len) => bench.client.send(&piece(len, &mut up)),
                Step::ShardSends(len) => bench.shard.send(&piece(len, &mut down)),
                Step::ClientTakes(len) => bench.client.make_room(len),
                Step::ShardTakes(len) => bench.shard.make_room(len),
            }
            bench.run();
            let held = bench.held();
            prop_assert!(held.0 <= SCRATCH && held.1 <= SCRATCH, "{held:?}");
        }
        bench.client.make_room(1 << 30);
        bench.shard.make_room(1 << 30);
        bench.shard.end();
        bench.run();
        bench.client.end();
        bench.run();
        prop_assert!(bench.tunnel.is_none());
        prop_assert_eq!(&bench.shard.0.borrow().got, &up);
        prop_assert_eq!(&bench.client.0.borrow().got, &down);
        prop_assert_eq!(bench.gateway.relayed(), (up.len() as u64, down.len() as u64));
        prop_assert_eq!(bench.gateway.tunnels.load(Relaxed), 0);
    }
}

#[test]
fn begins_with_what_was_sent_before_it_was_there() {
    let mut bench = Bench::new(b"early ", b"first ");
    bench.client.make_room(100);
    bench.shard.make_room(100);
    bench.client.send(b"up");
    bench.shard.send(b"down");
    bench.run();
    assert_eq!(bench.shard.0.borrow().got, b"early up");
    assert_eq!(bench.client.0.borrow().got, b"first down");
}

#[test]
fn a_panic_over_the_scratch_space_leaves_it_to_others() {
    let panic = std::panic::catch_unwind(|| with_scratch(|_| panic!("as the test asked")));
    assert!(panic.is_err());
    assert_eq!(with_scratch(|space| space.len()), SCRATCH);
}

#[test]
fn holds_nothing_while_idle() {
    let mut bench = Bench::new(b"early", b"first");
    bench.client.make_room(100);
    bench.shard.make_room(100);
    bench.run();
    let tunnel = bench.tunnel.as_ref().unwrap();
    assert!(tunnel.up.spill.is_none() && tunnel.down.spill.is_none() && tunnel.end.is_none());
    // A tunnel is two sockets and a few words; this fails if a buffer is added to it. A socket's own size depends on
    // the features of the runtime.
    let words = size_of::<Tunnel<tokio::net::TcpStream>>() - 2 * size_of::<tokio::net::TcpStream>();
    assert!(words <= 88, "{words}");
}
