//! Many clients in one thread. They are opened on schedule; handshakes are counted by outcome, and messages as they
//! arrive.

mod client;
pub mod stamp;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use client::client;
use rustix::net::SendFlags;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};
use wscluster_ws::frame::{Opcode, client_frame};

use crate::bail;
use crate::error::{Error, Result};
use crate::wire::{self, Failure, Opened};

/// Time limit for a handshake, including the TCP connection.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where clients connect, and their first message.
#[derive(Clone, Debug)]
pub struct Door {
    /// The listener.
    pub addr: SocketAddr,
    /// Path of the upgrade.
    pub path: String,
    /// Text messages, e.g. subscriptions, which clients send in turn after the 101; empty to send nothing.
    pub hellos: Vec<String>,
    /// Measure the time from each record's stamp ([`stamp`]) to its receipt.
    pub stamped: bool,
}

impl Door {
    /// `/ws` at `addr`, without a first message.
    pub fn at(addr: SocketAddr) -> Self {
        Self { addr, path: "/ws".to_owned(), hellos: vec![], stamped: false }
    }
}

/// Counters of all clients.
#[derive(Debug, Default)]
pub struct Counts {
    /// Successful handshakes.
    pub opened: Cell<u64>,
    /// Text and binary messages received.
    pub messages: Cell<u64>,
    /// Bytes received after the 101.
    pub bytes: Cell<u64>,
    /// With [`Door::stamped`]: microseconds from stamp to receipt, one entry per record.
    pub latencies: RefCell<Vec<u32>>,
    /// Handshakes that failed, by name.
    pub failures: RefCell<BTreeMap<Failure, u64>>,
    /// Connections that this side did not close, by the cause of their end.
    pub lost: RefCell<BTreeMap<String, u64>>,
}

impl Counts {
    /// Handshakes that failed.
    pub fn failed(&self) -> u64 {
        self.failures.borrow().values().sum()
    }

    /// Connections that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.borrow().values().sum()
    }

    fn fail(&self, failure: Failure) {
        *self.failures.borrow_mut().entry(failure).or_default() += 1;
    }
}

fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

struct Shared {
    counts: Rc<Counts>,
    streams: RefCell<Vec<Arc<TcpStream>>>,
    scratch: RefCell<Vec<u8>>,
}

/// Clients that stay until the fleet is dropped.
pub struct Fleet {
    door: Rc<Door>,
    shared: Rc<Shared>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// An empty fleet for `door`. Needs a `LocalSet`.
    pub fn new(door: Door) -> Self {
        let shared =
            Shared { counts: Rc::default(), streams: RefCell::default(), scratch: RefCell::new(vec![0; 64 << 10]) };
        Self { door: Rc::new(door), shared: Rc::new(shared), tasks: JoinSet::new() }
    }

    /// Counters of the clients.
    pub fn counts(&self) -> Rc<Counts> {
        Rc::clone(&self.shared.counts)
    }

    /// Starts `n` more clients, `per_second` per second, in an open loop: a slow answer delays no other start.
    pub async fn launch(&mut self, n: usize, per_second: f64) {
        let pace = Pace::start(per_second);
        for i in 0..n {
            pace.until_due(i).await;
            let (door, shared) = (Rc::clone(&self.door), Rc::clone(&self.shared));
            self.tasks.spawn_local(async move { client(i, &door, &shared).await });
        }
    }

    /// Waits until `launched` handshakes have succeeded or failed. Returns the number of successful ones.
    pub async fn settle(&self, launched: usize) -> u64 {
        let counts = self.counts();
        while counts.opened.get() + counts.failed() < launched as u64 {
            sleep(Duration::from_millis(5)).await;
        }
        counts.opened.get()
    }

    /// [`Self::launch`], then fails unless all handshakes succeeded and no connection was lost.
    pub async fn add(&mut self, n: usize, per_second: f64) -> Result<()> {
        let before = (self.counts().opened.get() + self.counts().failed()) as usize;
        self.launch(n, per_second).await;
        self.settle(before + n).await;
        let counts = self.counts();
        if counts.failed() > 0 || counts.lost() > 0 {
            bail!("handshakes failed: {:?}; connections lost: {:?}", counts.failures.borrow(), counts.lost.borrow());
        }
        Ok(())
    }

    /// Waits until `messages` have arrived in total, for at most `within`. Returns whether they have.
    pub async fn received(&self, messages: u64, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.counts().messages.get() < messages {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// Sends `n` text messages of `len` bytes, `per_second` in total, round robin over the clients. Returns how many
    /// fitted into a socket.
    ///
    /// It sends from a thread of its own: timers of the runtime have a resolution of 1 ms, which would cause batches.
    pub async fn send(&self, n: usize, per_second: f64, len: usize) -> Result<u64> {
        let frame = client_frame(Opcode::Text, &vec![b'x'; len], [1, 2, 3, 4]);
        let streams = self.shared.streams.borrow().clone();
        let sending = tokio::task::spawn_blocking(move || {
            let began = std::time::Instant::now();
            let mut sent = 0;
            for (i, stream) in streams.iter().cycle().take(n).enumerate() {
                let due = began + Duration::from_secs_f64(i as f64 / per_second);
                std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
                sent += u64::from(rustix::net::send(stream, &frame, SendFlags::NOSIGNAL) == Ok(frame.len()));
            }
            sent
        });
        sending.await.map_err(|error| Error::Unusable(format!("the sending thread failed: {error}")))
    }
}

/// An open-loop schedule.
struct Pace {
    began: Instant,
    gap: Duration,
}

impl Pace {
    fn start(per_second: f64) -> Self {
        Self { began: Instant::now(), gap: Duration::from_secs_f64(1.0 / per_second) }
    }

    /// Waits until event `i` is due; returns at once if it is late.
    async fn until_due(&self, i: usize) {
        let due = self.began + self.gap.mul_f64(i as f64);
        if due > Instant::now() {
            // Timers have a resolution of 1 ms: events due in the same millisecond happen together.
            tokio::time::sleep_until(due).await;
        } else if i.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
}

/// Opens `n` connections at `per_second`. Closes each right after its 101 and waits for the server to do the same.
pub async fn handshakes(door: &Door, n: usize, per_second: f64) -> Result<()> {
    let failures = Rc::new(RefCell::new(BTreeMap::<String, u64>::new()));
    let pace = Pace::start(per_second);
    let mut tasks = JoinSet::new();
    for i in 0..n {
        pace.until_due(i).await;
        let (door, failures) = (door.clone(), Rc::clone(&failures));
        tasks.spawn_local(async move {
            let failed = match wire::open(door.addr, &door.path, HANDSHAKE).await {
                Ok(opened) => farewell(opened).await,
                Err(failure) => Some(failure.to_string()),
            };
            if let Some(failed) = failed {
                *failures.borrow_mut().entry(failed).or_default() += 1;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    if !failures.borrow().is_empty() {
        bail!("handshakes failed: {:?}", failures.borrow());
    }
    Ok(())
}

async fn farewell(opened: Opened) -> Option<String> {
    use tokio::io::AsyncReadExt as _;
    let mut stream = opened.stream;
    let ended = async {
        stream.shutdown().await?;
        let mut byte = [0];
        while stream.read(&mut byte).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    match timeout(HANDSHAKE, ended).await {
        // A reset instead of an end is fine: both sides are closed.
        Ok(_) => None,
        Err(_) => Some("no end after ours".to_owned()),
    }
}

/// Runs `work` on a single-threaded runtime with a `LocalSet`, which fleets need.
pub fn block_on<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(tokio::task::LocalSet::new().run_until(work)))
}

/// Starts a detached task on this thread.
pub fn detach(work: impl Future<Output = ()> + 'static) {
    drop(spawn_local(work));
}
