//! The client's side of a WebSocket on a bare TCP stream, cheap enough that the clients do not become the bottleneck.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use wscluster_client::Endpoint;
use wscluster_client::handshake::{HandshakeError, Request, connect, upgrade};

/// Why a handshake failed, as reports name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        Self(match error {
            HandshakeError::Io(stage, error) => format!("{:?} in {stage}", error.kind()),
            HandshakeError::Timeout(stage, _) => format!("timeout in {stage}"),
            HandshakeError::Ended(_) => "closed before an answer".to_owned(),
            HandshakeError::Refused(refusal) => {
                format!("status {} {}", refusal.status, refusal.reason.unwrap_or(refusal.phrase))
            }
            HandshakeError::AcceptKey => "wrong accept key".to_owned(),
            HandshakeError::UpgradeHeader | HandshakeError::Subprotocol => "wrong upgrade header".to_owned(),
            HandshakeError::NotHttp => "answer is no HTTP".to_owned(),
        })
    }
}

/// An upgraded connection.
#[derive(Debug)]
pub struct Opened {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes received after the 101.
    pub rest: Vec<u8>,
}

/// Connects to `addr` and upgrades on `path`, both within `limit`.
pub async fn open(addr: SocketAddr, path: &str, limit: Duration) -> Result<Opened, Failure> {
    let began = Instant::now();
    let endpoint = Endpoint { host: addr.to_string(), path: path.to_owned() };
    let stream = connect(&endpoint, limit).await?;
    let request = Request::new(&endpoint, "");
    let upgraded = upgrade(&stream, &request, limit.saturating_sub(began.elapsed()), &mut None).await?;
    Ok(Opened { stream, rest: upgraded.rest })
}

/// Waits for bytes, reads once into `scratch` and passes them to `sink`; 0 at the end of the stream.
///
/// A read shorter than the buffer means an empty socket, so readiness is cleared at once: one system call per message
/// instead of two.
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use wscluster_ws::upgrade::accept_key;

    use super::*;
    use crate::backend::key_of;

    /// The result of a handshake with a server that answers the key `K` with `answer(accept key of K)`.
    async fn opened(answer: impl Fn(&str) -> String) -> Result<Vec<u8>, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            let key = loop {
                stream.read_buf(&mut head).await.unwrap();
                if let Some(key) = key_of(&head).unwrap() {
                    break key;
                }
            };
            stream.write_all(answer(&accept_key(&key)).as_bytes()).await.unwrap();
        };
        let (opened, ()) = tokio::join!(open(addr, "/ws", Duration::from_secs(20)), server);
        opened.map(|opened| opened.rest).map_err(|failure| failure.to_string())
    }

    fn switching(accept: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: {accept}\r\n\r\nrest"
        )
    }

    #[tokio::test]
    async fn takes_only_a_101_with_the_right_key() {
        assert_eq!(opened(switching).await, Ok(b"rest".to_vec()));
        let half = |accept: &str| switching(accept)[..40].to_owned();
        assert_eq!(opened(half).await, Err("closed before an answer".to_owned()));
        let wrong = |accept: &str| switching(&accept.to_ascii_uppercase());
        assert_eq!(opened(wrong).await, Err("wrong accept key".to_owned()));
        assert_eq!(opened(|_| "hello\r\n\r\n".to_owned()).await, Err("answer is no HTTP".to_owned()));
    }

    #[tokio::test]
    async fn names_the_reason_of_a_refusal() {
        let full = "HTTP/1.1 503 Service Unavailable\r\nX-Wscluster-Reason: no_capacity\r\n\r\n";
        assert_eq!(opened(|_| full.to_owned()).await, Err("status 503 no_capacity".to_owned()));
        let busy = "HTTP/1.1 503 Service Unavailable\r\n\r\n";
        assert_eq!(opened(|_| busy.to_owned()).await, Err("status 503 Service Unavailable".to_owned()));
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
