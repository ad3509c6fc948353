//! One WebSocket connection: text messages in both directions. Pings are answered here.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wscluster_ws::close;
use wscluster_ws::decode::{Decoder, Event, Flow, Role, Violation};
use wscluster_ws::frame::{Opcode, client_frame, close_payload};

use super::Endpoint;
use super::handshake::{self, HandshakeError, Request, Upgraded};

/// Largest message that is accepted.
const MAX_MESSAGE: u32 = 16 << 20;

/// Bytes read at once.
const READ: usize = 16 << 10;

/// What a read returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message; a shard sends none.
    Binary(Bytes),
    /// A ping, which was answered, or a pong.
    Control,
    /// The server closes. Its Close was answered; nothing follows.
    Close {
        /// Close code.
        code: Option<u16>,
        /// Close reason.
        reason: String,
    },
}

/// The connection was lost.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// An error of the socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server ended the connection without a Close frame.
    #[error("the server ended the connection without a close frame")]
    Ended,
    /// The server violated RFC 6455.
    #[error("the server violated the WebSocket protocol: {0}")]
    Violation(Violation),
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    incoming: VecDeque<Incoming>,
    /// Frames not written yet.
    out: BytesMut,
    violation: Option<Violation>,
}

impl Connection {
    /// Connects and upgrades, offering [`handshake::SUBPROTOCOL`]. `headers` are further header lines, see
    /// [`handshake::header_lines`]. `limit` applies to the TCP connection and again to the upgrade.
    pub async fn open(endpoint: &Endpoint, headers: &str, limit: Duration) -> Result<Self, HandshakeError> {
        let stream = handshake::connect(endpoint, limit).await?;
        let request = Request::with_subprotocol(endpoint, headers);
        let upgraded = handshake::upgrade(&stream, &request, limit, &mut None).await?;
        Ok(Self::new(stream, upgraded))
    }

    /// A connection on an upgraded socket.
    pub fn new(stream: TcpStream, upgraded: Upgraded) -> Self {
        let decoder = Decoder::new(Role::Client, MAX_MESSAGE);
        let (incoming, out) = (VecDeque::new(), BytesMut::new());
        let mut connection = Self { stream, decoder, incoming, out, violation: None };
        let mut rest = upgraded.rest;
        connection.decode(&mut rest);
        connection
    }

    /// Sends a text message. Waits while the socket is full.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.push(Opcode::Text, text.as_bytes());
        self.flush().await
    }

    /// The next thing that arrives. Cancel safe.
    pub async fn next(&mut self) -> Result<Incoming, ConnectionError> {
        loop {
            if let Some(incoming) = self.incoming.pop_front() {
                if matches!(incoming, Incoming::Close { .. }) {
                    // The answer to a Close. If the socket is full, the server will end the connection.
                    let _ = self.write();
                }
                return Ok(incoming);
            }
            if let Some(violation) = self.violation {
                self.push(Opcode::Close, &close_payload(violation.code, violation.reason));
                let _ = self.write();
                return Err(ConnectionError::Violation(violation));
            }
            let write = if self.out.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            let ready = self.stream.ready(write).await?;
            if ready.is_writable() {
                self.write()?;
            }
            if ready.is_readable() || ready.is_read_closed() {
                self.read()?;
            }
        }
    }

    /// Closes the connection and waits for the server to end it, for `limit` at most.
    pub async fn close(mut self, limit: Duration) {
        self.push(Opcode::Close, &close_payload(close::NORMAL, ""));
        let closing = async {
            self.flush().await?;
            while self.next().await.is_ok() {}
            Ok::<_, io::Error>(())
        };
        let _ = timeout(limit, closing).await;
    }

    async fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            self.stream.writable().await?;
            self.write()?;
        }
        Ok(())
    }

    fn push(&mut self, opcode: Opcode, payload: &[u8]) {
        self.out.extend_from_slice(&client_frame(opcode, payload, rand::random()));
    }

    /// Writes as much as the socket takes.
    fn write(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(n) => self.out.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), ConnectionError> {
        let mut bytes = [0; READ];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => Err(ConnectionError::Ended),
            Ok(n) => {
                self.decode(&mut bytes[..n]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn decode(&mut self, bytes: &mut [u8]) {
        let Self { decoder, incoming, out, .. } = self;
        let mut answer = |opcode, payload: &[u8]| {
            out.extend_from_slice(&client_frame(opcode, payload, rand::random()));
        };
        let decoded = decoder.decode(bytes, &mut |event| {
            let (arrived, flow) = match event {
                Event::Text(text) => (Incoming::Text(text.to_owned()), Flow::Continue),
                Event::Binary(bytes) => (Incoming::Binary(Bytes::copy_from_slice(bytes)), Flow::Continue),
                Event::Ping(payload) => {
                    answer(Opcode::Pong, payload);
                    (Incoming::Control, Flow::Continue)
                }
                Event::Pong(_) => (Incoming::Control, Flow::Continue),
                Event::Close(code, reason) => {
                    answer(Opcode::Close, &code.map_or_else(Vec::new, |code: u16| code.to_be_bytes().to_vec()));
                    (Incoming::Close { code, reason: reason.to_owned() }, Flow::Stop)
                }
            };
            incoming.push_back(arrived);
            flow
        });
        self.violation = decoded.err();
    }
}
