//! A stand-in for the replaced system, with only the properties that made half of its handshakes fail: shards and
//! balancer in one process, a [`Guard`] on the CPU of that process, a fan-out that delivers each record three times,
//! and a balancer that considers only slots and forwards refusals.
//!
//! A role of this binary: `wscluster-bench stand-in`. It has advantages over the original: it encodes a message once,
//! uses no CPU for Kafka (records come from a timer), and has no garbage collector.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slab::Slab;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional_with_sizes,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use wscluster_runtime::sockets::{Share, listen};
use wscluster_ws::decode::{Decoder, Event, Flow, Role};
use wscluster_ws::frame::{Opcode, server_frame};
use wscluster_ws::upgrade::accept_key;

use super::guard::Guard;
use crate::backend::key_of;
use crate::error::{Doing as _, Error, Result};
use crate::fleet::{block_on, detach};
use crate::ours;
use crate::wire::receive;

/// Arguments of the role.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {
    /// Shards; their consumers all publish to the one bus that all of them read.
    #[arg(long, default_value_t = 3)]
    shards: usize,
    /// Slots of a shard.
    #[arg(long, default_value_t = 3_000)]
    capacity: usize,
    /// Refuse and drop by sampled CPU.
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true)]
    guard: bool,
    /// Milliseconds between two samples.
    #[arg(long, default_value_t = 15_000)]
    sample_ms: u64,
    /// Records a second, over all channels.
    #[arg(long)]
    per_second: f64,
    /// Channels `c0.t`, `c1.t` and so on, in turn.
    #[arg(long)]
    channels: usize,
    /// Bytes of a record.
    #[arg(long, default_value_t = 128)]
    len: usize,
}

/// Its first line of output.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The balancer.
    pub addr: SocketAddr,
}

/// Its answer to a request on standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Connections of each shard.
    pub connections: Vec<usize>,
    /// CPU percentages the guard has sampled.
    pub samples: Vec<f64>,
    /// Upgrades refused by the guard.
    pub refused: u64,
    /// Records dropped by the guard; each of the three copies counts.
    pub dropped: u64,
}

#[derive(Default)]
struct Shard {
    clients: Slab<Rc<TcpStream>>,
    channels: HashMap<String, Vec<usize>>,
}

struct System {
    args: Args,
    guard: Guard,
    shards: Vec<RefCell<Shard>>,
    refused: std::cell::Cell<u64>,
    dropped: std::cell::Cell<u64>,
    scratch: RefCell<Vec<u8>>,
}

/// Runs until standard input ends.
pub fn run(args: Args) -> Result<()> {
    wscluster_runtime::sockets::raise_open_files();
    block_on(serve(args)).doing("run the stand-in")?
}

async fn serve(args: Args) -> Result<()> {
    let system = Rc::new(System {
        args,
        guard: Guard::new(args.guard),
        shards: (0..args.shards).map(|_| RefCell::default()).collect(),
        refused: 0.into(),
        dropped: 0.into(),
        scratch: RefCell::new(vec![0; 16 << 10]),
    });
    let mut doors = vec![];
    for shard in 0..args.shards {
        let (listener, addr) = bind()?;
        doors.push(addr);
        let system = Rc::clone(&system);
        accept(listener, move |stream| {
            let system = Rc::clone(&system);
            async move { system.client(shard, stream).await }
        });
    }
    let (listener, addr) = bind()?;
    let balancer = Rc::clone(&system);
    accept(listener, move |stream| {
        let door = doors[balancer.most_free()];
        async move { proxy(stream, door).await }
    });
    let sampler = Rc::clone(&system);
    detach(async move {
        let mut ticks = interval(Duration::from_millis(args.sample_ms));
        ticks.tick().await;
        loop {
            ticks.tick().await;
            sampler.guard.sample();
        }
    });
    for consumer in 0..args.shards {
        let source = Rc::clone(&system);
        detach(async move { source.consume(consumer).await });
    }
    println!("{}", serde_json::json!(Hello { addr }));
    let stdin = rustix::io::dup(rustix::stdio::stdin()).doing("duplicate standard input")?;
    let stdin = tokio::net::unix::pipe::Receiver::from_file(stdin.into()).doing("read commands")?;
    let mut lines = BufReader::new(stdin).lines();
    while lines.next_line().await.doing("read a command")?.is_some() {
        println!("{}", serde_json::json!(system.state()));
    }
    Ok(())
}

fn bind() -> Result<(TcpListener, SocketAddr)> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = listen(any, Share::Exclusive).map_err(|error| Error::Unusable(error.to_string()))?;
    let addr = listener.local_addr().doing("read an address")?;
    Ok((TcpListener::from_std(listener).doing("register a listener")?, addr))
}

fn accept<F: Future<Output = io::Result<()>> + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F + 'static,
) {
    detach(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let work = serve(stream);
            // The tester counts clients that leave early.
            detach(async move { drop(work.await) });
        }
    });
}

/// The balancer's tunnel: it forwards every answer of the shard, also a 503, and tries no other shard.
async fn proxy(mut client: TcpStream, door: SocketAddr) -> io::Result<()> {
    let mut shard = TcpStream::connect(door).await?;
    shard.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut shard, 4_096, 4_096).await.map(|_| ())
}

impl System {
    /// The balancer's choice, which considers only slots.
    fn most_free(&self) -> usize {
        let taken = |&shard: &usize| self.shards[shard].borrow().clients.len();
        (0..self.shards.len()).min_by_key(taken).unwrap_or(0)
    }

    async fn client(&self, shard: usize, mut stream: TcpStream) -> io::Result<()> {
        let mut head = Vec::with_capacity(512);
        let key = loop {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
            if let Some(key) = key_of(&head)? {
                break key;
            }
        };
        if self.guard.refuses() {
            self.refused.set(self.refused.get() + 1);
            return refuse(stream, "Server overloaded").await;
        }
        if self.shards[shard].borrow().clients.len() >= self.args.capacity {
            return refuse(stream, "Server full").await;
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(&key)
        );
        let stream = Rc::new(stream);
        let client = self.shards[shard].borrow_mut().clients.insert(Rc::clone(&stream));
        let mut channel = None;
        let end = match stream.try_write(answer.as_bytes()) {
            Ok(_) => self.listen_to(&stream, shard, client, &mut channel).await,
            Err(error) => Err(error),
        };
        let mut shard = self.shards[shard].borrow_mut();
        shard.clients.remove(client);
        if let Some(subscribers) = channel.and_then(|channel| shard.channels.get_mut(&channel)) {
            subscribers.retain(|&other| other != client);
        }
        end
    }

    /// Handles the one subscription that the tester's clients send, and reads to the end.
    async fn listen_to(
        &self,
        stream: &TcpStream,
        shard: usize,
        client: usize,
        channel: &mut Option<String>,
    ) -> io::Result<()> {
        let mut decoder = Decoder::new(Role::Server, 1 << 16);
        loop {
            let mut asked = None;
            let (read, good) = receive(stream, &self.scratch, |bytes| {
                let mut sink = |event: Event<'_>| {
                    if let Event::Text(text) = event {
                        asked = serde_json::from_str::<serde_json::Value>(text).ok();
                    }
                    Flow::Continue
                };
                decoder.decode(bytes, &mut sink).is_ok()
            })
            .await?;
            if read == 0 || !good {
                return Ok(());
            }
            if let Some(name) = asked.as_ref().and_then(|asked| asked["data"]["channels"][0].as_str()) {
                let mut shard = self.shards[shard].borrow_mut();
                shard.channels.entry(name.to_owned()).or_default().push(client);
                *channel = Some(name.to_owned());
            }
        }
    }

    /// The consumer of one shard: it reads every record, on its own timer, and publishes it on the bus, which every
    /// shard reads. So a client receives each record from every consumer.
    async fn consume(&self, consumer: usize) {
        let frame = server_frame(Opcode::Text, "x".repeat(self.args.len).as_bytes());
        let period = Duration::from_secs_f64(1.0 / self.args.per_second);
        let mut ticks = interval_at(Instant::now() + period * consumer as u32 / self.args.shards as u32, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for record in (0..self.args.channels).cycle() {
            ticks.tick().await;
            if self.guard.drops() {
                self.dropped.set(self.dropped.get() + 1);
                continue;
            }
            let channel = ours::channel(&ours::key(record));
            for shard in &self.shards {
                let shard = shard.borrow();
                for &client in shard.channels.get(&channel).into_iter().flatten() {
                    // A client with a full socket misses this message, as with a full queue in the original.
                    let _ = shard.clients[client].try_write(&frame);
                }
            }
        }
    }

    fn state(&self) -> State {
        State {
            connections: self.shards.iter().map(|shard| shard.borrow().clients.len()).collect(),
            samples: self.guard.samples(),
            refused: self.refused.get(),
            dropped: self.dropped.get(),
        }
    }
}

async fn refuse(mut stream: TcpStream, why: &str) -> io::Result<()> {
    let answer =
        format!("HTTP/1.1 503 Service Unavailable\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}", why.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
