//! The client's side of a WebSocket on a bare TCP stream, cheap enough that the tester does not become the bottleneck.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// The key every client sends and the answer it must get (the example of RFC 6455 §1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Longest answer head we take.
const MAX_HEAD: usize = 4_096;

/// Why there is no WebSocket, each under its own name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// Error of the system in a phase.
    #[error("{1:?} in {0}")]
    Io(&'static str, io::ErrorKind),
    /// Too slow in a phase.
    #[error("timeout in {0}")]
    Timeout(&'static str),
    /// The stream ended before the head did.
    #[error("closed before an answer")]
    Closed,
    /// Another status than 101, with its reason header where there is one.
    #[error("status {0} {1}")]
    Status(u16, String),
    /// A 101 that proves nothing.
    #[error("wrong accept key")]
    Accept,
    /// What came is no HTTP.
    #[error("answer is no HTTP")]
    NotHttp,
}

/// A WebSocket, and what came in one piece with the 101.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: TcpStream,
    /// Bytes behind the head.
    pub rest: Vec<u8>,
}

/// Connects to `addr` and upgrades on `path`, all within `limit`.
pub async fn open(addr: SocketAddr, path: &str, limit: Duration) -> Result<Opened, Failure> {
    let deadline = Instant::now() + limit;
    let mut stream = within(deadline, "connect", TcpStream::connect(addr)).await?;
    // As browsers do; without it small frames of a client wait for acknowledgements.
    stream.set_nodelay(true).map_err(|e| Failure::Io("connect", e.kind()))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    );
    within(deadline, "request", stream.write_all(request.as_bytes())).await?;
    let mut head = Vec::with_capacity(512);
    loop {
        let phase = if head.is_empty() { "first byte" } else { "head" };
        if within(deadline, phase, stream.read_buf(&mut head)).await? == 0 {
            return Err(Failure::Closed);
        }
        if let Some(len) = verdict(&head)? {
            return Ok(Opened { stream, rest: head.split_off(len) });
        }
        if head.len() > MAX_HEAD {
            return Err(Failure::NotHttp);
        }
    }
}

async fn within<T>(
    deadline: Instant,
    phase: &'static str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Failure> {
    match timeout_at(deadline, work).await {
        Ok(done) => done.map_err(|error| Failure::Io(phase, error.kind())),
        Err(_) => Err(Failure::Timeout(phase)),
    }
}

/// The length of a good 101's head; `None` while it is incomplete.
fn verdict(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|_| Failure::NotHttp)?;
    let httparse::Status::Complete(len) = parsed else { return Ok(None) };
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    match response.code {
        Some(101) if value("Sec-WebSocket-Accept").as_deref() == Some(ACCEPT) => Ok(Some(len)),
        Some(101) => Err(Failure::Accept),
        status => {
            let reason = value("X-Wscluster-Reason").or_else(|| response.reason.map(str::to_owned));
            Err(Failure::Status(status.unwrap_or(0), reason.unwrap_or_default()))
        }
    }
}

/// Waits for bytes, reads once into `scratch` and hands them to `sink`; 0 at the end of the stream.
///
/// A read shorter than the buffer means an empty socket, so readiness is cleared at once: one call a message, not two.
pub async fn receive<T>(
    stream: &TcpStream,
    scratch: &RefCell<Vec<u8>>,
    sink: impl FnOnce(&mut [u8]) -> T,
) -> io::Result<(usize, T)> {
    let mut got = None;
    loop {
        stream.readable().await?;
        let read = stream.try_io(Interest::READABLE, || {
            let mut buffer = scratch.borrow_mut();
            let whole = buffer.len();
            let (read, _) = rustix::net::recv(stream, &mut buffer[..], RecvFlags::empty())?;
            got = Some(read);
            if read < whole && read > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (got, read) {
            (Some(read), _) => return Ok((read, sink(&mut scratch.borrow_mut()[..read]))),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_a_101_with_the_right_key() {
        let good = format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {ACCEPT}\r\n\r\nrest");
        assert_eq!(verdict(good.as_bytes()), Ok(Some(good.len() - 4)));
        assert_eq!(verdict(&good.as_bytes()[..40]), Ok(None));
        assert_eq!(verdict(good.replace("s3p", "S3p").as_bytes()), Err(Failure::Accept));
        assert_eq!(verdict(b"hello\r\n\r\n"), Err(Failure::NotHttp));
    }

    #[test]
    fn names_the_reason_of_a_refusal() {
        let full = b"HTTP/1.1 503 Service Unavailable\r\nX-Wscluster-Reason: no_capacity\r\n\r\n";
        assert_eq!(verdict(full).unwrap_err().to_string(), "status 503 no_capacity");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn reads_each_piece_and_the_end() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let scratch = RefCell::new(vec![0; 4]);
        server.write_all(b"abcdef").await.unwrap();
        drop(server);
        let mut all = vec![];
        loop {
            let (read, ()) = receive(&client, &scratch, |bytes| all.extend_from_slice(bytes)).await.unwrap();
            if read == 0 {
                break;
            }
        }
        assert_eq!(all, b"abcdef");
    }
}
