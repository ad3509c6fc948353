//! The server behind the proxies, and the bare loop of `send` calls with which fan-out is compared.
//!
//! A role of this binary, run as a process of its own: `wscluster-bench backend`. It accepts every upgrade, echoes data
//! frames, and sends on command (one JSON line on standard input, one back). To our gateway it looks like a shard.

mod send;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use prometheus_client::registry::Registry;
use send::send_all;
pub use send::{Push, Sent};
use serde::{Deserialize, Serialize};
use slab::Slab;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use wscluster_admin::health::{Checks, ShardHealth, State, Status};
use wscluster_admin::{self, Access, AdminPart};
use wscluster_runtime::sockets::{Share, listen};
use wscluster_ws::decode::{Decoder, Event, Flow, Role};
use wscluster_ws::frame::{Opcode, server_frame};
use wscluster_ws::upgrade::accept_key;

use crate::error::{Doing as _, Error, Result};
use crate::fleet::{block_on, detach};
use crate::wire::receive;

/// Slots each listener claims to have: more than any bench needs.
const CAPACITY: u32 = 20_000;

/// Arguments of the role.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {
    /// Listeners, each with an admin port of its own.
    #[arg(long, default_value_t = 1)]
    listeners: usize,
}

/// Addresses of a listener.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Address {
    /// WebSocket port.
    pub ws: SocketAddr,
    /// `/health`.
    pub admin: SocketAddr,
}

struct Door {
    name: String,
    connections: AtomicU32,
    began: Instant,
}

type Streams = Rc<RefCell<Slab<Rc<TcpStream>>>>;

/// Runs until standard input ends.
pub fn run(args: Args) -> Result<()> {
    wscluster_runtime::sockets::raise_open_files();
    block_on(serve(args)).doing("run the backend")?
}

async fn serve(args: Args) -> Result<()> {
    let (streams, scratch) = (Streams::default(), Rc::new(RefCell::new(vec![0; 16 << 10])));
    let mut addresses = vec![];
    for i in 0..args.listeners {
        let door =
            Arc::new(Door { name: format!("backend-{i}"), connections: AtomicU32::new(0), began: Instant::now() });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let unusable = |error: &dyn std::error::Error| Error::Unusable(error.to_string());
        let listener = listen(any, Share::Exclusive).map_err(|e| unusable(&e))?;
        let part = Arc::clone(&door) as Arc<dyn AdminPart>;
        let admin = wscluster_admin::start(any, part, Arc::new(Registry::default()), axum_router(), &Access::default())
            .map_err(|e| unusable(&e))?;
        addresses.push(Address { ws: listener.local_addr().doing("read an address")?, admin });
        let listener = tokio::net::TcpListener::from_std(listener).doing("register a listener")?;
        let (streams, scratch) = (Rc::clone(&streams), Rc::clone(&scratch));
        detach(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (door, streams, scratch) = (Arc::clone(&door), Rc::clone(&streams), Rc::clone(&scratch));
                detach(async move {
                    // A client that leaves is not an error of the backend.
                    let _ = connection(stream, &door, &streams, &scratch).await;
                });
            }
        });
    }
    println!("{}", serde_json::json!(addresses));
    commands(&streams).await
}

/// The admin server takes a router with further routes; here there are none.
fn axum_router<R: Default>() -> R {
    R::default()
}

async fn commands(streams: &Streams) -> Result<()> {
    let stdin = rustix::io::dup(rustix::stdio::stdin()).doing("duplicate standard input")?;
    let stdin = tokio::net::unix::pipe::Receiver::from_file(stdin.into()).doing("read commands")?;
    let mut lines = BufReader::new(stdin).lines();
    while let Some(line) = lines.next_line().await.doing("read a command")? {
        let push: Push = serde_json::from_str(&line).map_err(|e| Error::Unusable(format!("bad command: {e}")))?;
        let streams: Vec<_> = streams.borrow().iter().map(|(_, stream)| Rc::clone(stream)).collect();
        // Blocks this thread on purpose: only the sends should count.
        let sent = send_all(&streams, push).doing("send")?;
        println!("{}", serde_json::json!(sent));
    }
    Ok(())
}

async fn connection(
    mut stream: TcpStream,
    door: &Arc<Door>,
    streams: &Streams,
    scratch: &RefCell<Vec<u8>>,
) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    let accept = loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
        if let Some(key) = key_of(&head)? {
            break accept_key(&key);
        }
    };
    let slot = Slot::take(door);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nX-Wscluster-Load: {}/{CAPACITY}\r\n\r\n",
        door.connections.load(Ordering::Relaxed)
    );
    stream.write_all(answer.as_bytes()).await?;
    let stream = Rc::new(stream);
    let key = streams.borrow_mut().insert(Rc::clone(&stream));
    let end = echo(&stream, scratch).await;
    streams.borrow_mut().remove(key);
    drop(slot);
    end
}

/// Sends every data frame back until the stream ends.
async fn echo(stream: &TcpStream, scratch: &RefCell<Vec<u8>>) -> io::Result<()> {
    let mut decoder = Decoder::new(Role::Server, 1 << 20);
    loop {
        let mut over = false;
        let (read, ()) = receive(stream, scratch, |bytes| {
            let result = decoder.decode(bytes, &mut |event| {
                let frame = match event {
                    Event::Text(text) => server_frame(Opcode::Text, text.as_bytes()),
                    Event::Binary(data) => server_frame(Opcode::Binary, data),
                    Event::Ping(data) => server_frame(Opcode::Pong, data),
                    Event::Close(..) => server_frame(Opcode::Close, &[]),
                    Event::Pong(_) => return Flow::Continue,
                };
                // Echoes are small and paced. The client counts an echo that does not fit as missing.
                over |= stream.try_write(&frame).is_err() || matches!(event, Event::Close(..));
                Flow::Continue
            });
            over |= result.is_err();
        })
        .await?;
        if read == 0 || over {
            return Ok(());
        }
    }
}

/// The `Sec-WebSocket-Key` of a complete request head; `None` while it is incomplete.
pub fn key_of(head: &[u8]) -> io::Result<Option<String>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(head).map_err(io::Error::other)?;
    if parsed.is_partial() {
        return Ok(None);
    }
    let key = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Key"));
    let key = key.ok_or_else(|| io::Error::other("no key"))?;
    Ok(Some(String::from_utf8_lossy(key.value).into_owned()))
}

/// A counted connection.
struct Slot(Arc<Door>);

impl Slot {
    fn take(door: &Arc<Door>) -> Self {
        door.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(door))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AdminPart for Door {
    fn health(&self) -> serde_json::Value {
        let connections = self.connections.load(Ordering::Relaxed);
        serde_json::json!(ShardHealth {
            status: Status::Healthy,
            healthy: true,
            reason: None,
            state: State::Ready,
            shard: self.name.clone(),
            incarnation: format!("{}-{}", self.name, std::process::id()),
            revision: String::new(),
            connections,
            capacity: CAPACITY,
            available: CAPACITY - connections,
            gateways: 0,
            utilization: wscluster_admin::health::percent(connections, CAPACITY),
            checks: Checks::default(),
            uptime: self.began.elapsed().as_secs_f64(),
        })
    }

    fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }
}
