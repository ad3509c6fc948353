//! The end of a connection (RFC 6455 §7): a Close frame in each direction, then the socket is closed. If the peer's
//! Close frame can no longer arrive, our half is shut first and the peer's end awaited, because a reset could destroy
//! our Close frame. All of this takes [`LINGER`] at most.

use wscluster_protocol::close::CloseCode;
use wscluster_ws::close::NO_STATUS;
use wscluster_ws::decode::Violation;
use wscluster_ws::frame::{Opcode, close_payload, server_frame};

use super::connection::ConnectionPhase;
use super::outbox::Due;
use super::settings::LINGER;
use super::worker::Worker;

impl Worker {
    /// Closes an open connection. Due frames are sent first, except to slow clients, which would read them too late.
    pub(super) fn begin_close(&mut self, key: u32, code: CloseCode, reason: &str) {
        if self.connections[key as usize].phase == ConnectionPhase::Open {
            if code == CloseCode::SlowClient {
                self.discard_due(key);
            }
            self.close_with(key, ConnectionPhase::Closing, code.number(), &close_payload(code.number(), reason));
        }
    }

    /// Fails a connection whose peer violated RFC 6455: its further bytes cannot be decoded.
    pub(super) fn fail(&mut self, key: u32, violation: Violation) {
        let payload = close_payload(violation.code, violation.reason);
        match self.connections[key as usize].phase {
            ConnectionPhase::Open => self.close_with(key, ConnectionPhase::Ending, violation.code, &payload),
            ConnectionPhase::Closing => self.end(key, ConnectionPhase::Ending),
            ConnectionPhase::Ending | ConnectionPhase::Shut | ConnectionPhase::Done => {}
        }
    }

    /// Handles a Close frame of the peer: answers it, unless it is the answer to ours. Requests before it are answered
    /// first: a gateway sends a Close in the name of a client that has only ended its side.
    pub(super) fn on_close(&mut self, key: u32, code: Option<u16>) {
        if self.connections[key as usize].phase == ConnectionPhase::Open {
            self.answer_pending(key);
        }
        match self.connections[key as usize].phase {
            ConnectionPhase::Open => {
                self.discard_due(key);
                let payload = code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec());
                self.close_with(key, ConnectionPhase::Done, code.unwrap_or(NO_STATUS), &payload);
            }
            ConnectionPhase::Closing => self.end(key, ConnectionPhase::Done),
            ConnectionPhase::Ending | ConnectionPhase::Shut | ConnectionPhase::Done => {}
        }
    }

    fn close_with(&mut self, key: u32, phase: ConnectionPhase, code: u16, payload: &[u8]) {
        self.leave_all(key);
        self.open -= 1;
        let connection = &mut self.connections[key as usize];
        connection.phase = phase;
        connection.close_code = code;
        if let Some(reader) = connection.blocked.as_mut().and_then(|blocked| blocked.reader.take()) {
            reader.wake();
        }
        connection.deadline = self.wheel.now().after(LINGER);
        self.wheel.add(key, connection.deadline);
        self.send(key, server_frame(Opcode::Close, payload));
        self.flush(key);
    }

    /// Ends the exchange: no further frame of the peer is expected.
    fn end(&mut self, key: u32, phase: ConnectionPhase) {
        self.connections[key as usize].phase = phase;
        self.flush(key);
    }

    /// Drops due frames. The rest of a frame that was written in part must still be sent.
    fn discard_due(&mut self, key: u32) {
        let connection = &mut self.connections[key as usize];
        let due = std::mem::replace(&mut connection.due, Due::NONE);
        let bytes = self.outbox.bytes(due);
        match connection.blocked {
            Some(_) => self.blocked_bytes -= bytes,
            None => self.due_bytes -= bytes,
        }
        self.outbox.release(due);
    }
}
