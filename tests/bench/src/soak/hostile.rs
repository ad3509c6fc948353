//! Clients that break every rule: each connects again and again and misbehaves in another way each time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use wscluster_ws::frame::{Opcode, client_frame};

use crate::report::{Report, Target};

/// They do not share the ports of the honest clients.
const SOURCE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 66)), 0);

/// Time limit of a session.
const LONGEST: Duration = Duration::from_secs(40);

const HEAD: &[u8] = b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ResetAfterHead,
    ResetTunnel,
    HalfClose,
    NoHead,
    SlowHead,
    BadHead,
    BadFrame,
    UnfinishedMessage,
    BadRequests,
    NeverReads,
}

impl Kind {
    const ALL: [(Self, &str); 10] = [
        (Self::ResetAfterHead, "resets right after its request"),
        (Self::ResetTunnel, "resets an open connection"),
        (Self::HalfClose, "ends its direction only"),
        (Self::NoHead, "sends nothing"),
        (Self::SlowHead, "sends its request byte by byte"),
        (Self::BadHead, "sends no HTTP"),
        (Self::BadFrame, "violates RFC 6455"),
        (Self::UnfinishedMessage, "sends half a message, then resets"),
        (Self::BadRequests, "sends requests that are no JSON or too many"),
        (Self::NeverReads, "subscribes to everything and never reads"),
    ];
}

/// Sessions by kind.
type Counts = Rc<RefCell<BTreeMap<Kind, u64>>>;

/// Hostile clients that run until they are stopped.
#[derive(Debug)]
pub(super) struct Hostile {
    tasks: JoinSet<()>,
    counts: Counts,
}

/// How many sessions there were.
#[derive(Debug)]
pub(super) struct Sessions(BTreeMap<Kind, u64>);

impl Hostile {
    /// Starts `clients` of them. Needs a `LocalSet`.
    pub(super) fn start(gateway: SocketAddr, channels: Vec<String>, clients: usize) -> Self {
        let (mut tasks, counts, channels) = (JoinSet::new(), Counts::default(), Rc::new(channels));
        for client in 0..clients {
            let (counts, channels) = (Rc::clone(&counts), Rc::clone(&channels));
            tasks.spawn_local(async move {
                let mut rng = SmallRng::seed_from_u64(client as u64);
                for turn in client.. {
                    let (kind, _) = Kind::ALL[turn % Kind::ALL.len()];
                    *counts.borrow_mut().entry(kind).or_default() += 1;
                    // Whatever the server does with such a client is right, as long as the others do not notice.
                    let _ = timeout(LONGEST, session(kind, gateway, &channels, &mut rng)).await;
                    sleep(Duration::from_millis(rng.random_range(0..200))).await;
                }
            });
        }
        Self { tasks, counts }
    }

    /// Ends all of them in whatever they do.
    pub(super) fn stop(self) -> Sessions {
        drop(self.tasks);
        Sessions(self.counts.take())
    }
}

impl Sessions {
    pub(super) fn write(&self, report: &mut Report) {
        let count = |kind| self.0.get(kind).copied().unwrap_or(0);
        let rows = Kind::ALL.iter().map(|(kind, text)| vec![(*text).to_owned(), count(kind).to_string()]);
        report.table("Hostile clients, from one address:", &["what it does", "sessions"], rows.collect());
        let least = Kind::ALL.iter().map(|(kind, _)| count(kind)).min().unwrap_or(0);
        report.goal("sessions of each kind of hostile client", Target::AtLeast(1.0), least as f64);
    }
}

async fn session(kind: Kind, gateway: SocketAddr, channels: &[String], rng: &mut SmallRng) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SOURCE)?;
    if kind == Kind::NeverReads {
        socket.set_recv_buffer_size(4_096)?;
    }
    let mut stream = socket.connect(gateway).await?;
    let moment = Duration::from_millis(rng.random_range(0..5_000));
    match kind {
        Kind::ResetAfterHead => {
            stream.write_all(HEAD).await?;
            reset(&stream)
        }
        Kind::ResetTunnel => {
            subscribe(&mut stream, channels).await?;
            sleep(moment).await;
            reset(&stream)
        }
        Kind::HalfClose => {
            subscribe(&mut stream, channels).await?;
            stream.shutdown().await?;
            until_end(&mut stream).await
        }
        Kind::NoHead => until_end(&mut stream).await,
        Kind::SlowHead => {
            for byte in HEAD {
                stream.write_all(&[*byte]).await?;
                sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        }
        Kind::BadHead => {
            let length = rng.random_range(1..20_000);
            let bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
            stream.write_all(&bytes).await?;
            until_end(&mut stream).await
        }
        Kind::BadFrame => {
            upgrade(&mut stream).await?;
            let frames: [&[u8]; 5] =
                [b"\x81\x02hi", b"\xf1\x80\0\0\0\0", b"\x83\x80\0\0\0\0", b"\x09\x80\0\0\0\0", &[0xff; 14]];
            stream.write_all(frames[rng.random_range(0..frames.len())]).await?;
            until_end(&mut stream).await
        }
        Kind::UnfinishedMessage => {
            upgrade(&mut stream).await?;
            let frame = client_frame(Opcode::Text, &vec![b' '; 60_000], [1, 2, 3, 4]);
            stream.write_all(&frame[..frame.len() / 2]).await?;
            sleep(moment).await;
            reset(&stream)
        }
        Kind::BadRequests => {
            upgrade(&mut stream).await?;
            for text in ["", "[]", "{\"type\":7}", "{\"type\":\"subscribe\",\"data\":{\"channels\":[1]}}"].repeat(25) {
                stream.write_all(&client_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4])).await?;
            }
            stream.write_all(&client_frame(Opcode::Close, b"\x03\xe8", [1, 2, 3, 4])).await?;
            until_end(&mut stream).await
        }
        Kind::NeverReads => {
            subscribe(&mut stream, channels).await?;
            sleep(moment * 6).await;
            reset(&stream)
        }
    }
}

/// The connection ends with RST when `stream` is dropped.
fn reset(stream: &TcpStream) -> io::Result<()> {
    stream.set_zero_linger()
}

async fn upgrade(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(HEAD).await?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if answer.starts_with(b"HTTP/1.1 101 ") { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}

async fn subscribe(stream: &mut TcpStream, channels: &[String]) -> io::Result<()> {
    upgrade(stream).await?;
    let request = serde_json::json!({ "type": "subscribe", "data": { "channels": channels } }).to_string();
    stream.write_all(&client_frame(Opcode::Text, request.as_bytes(), [1, 2, 3, 4])).await
}

async fn until_end(stream: &mut TcpStream) -> io::Result<()> {
    let mut scratch = [0; 4_096];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}
