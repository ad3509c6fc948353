//! How a connection ends (RFC 6455 §7): a Close frame each way, then the socket. Where the peer's Close frame cannot come
//! any more, our half is shut first and the peer's end awaited, or a reset would take our Close frame with it. All of it
//! within [`LINGER`].

use wscluster_protocol::close::CloseCode;
use wscluster_ws::close::NO_STATUS;
use wscluster_ws::decode::Violation;
use wscluster_ws::frame::{Opcode, close_payload, server_frame};

use super::connection::Phase;
use super::outbox::Due;
use super::settings::LINGER;
use super::worker::Worker;

impl Worker {
    /// Closes a connection that is open. What is due goes first, but not to slow clients, who would wait for it.
    pub(super) fn begin_close(&mut self, key: u32, code: CloseCode, reason: &str) {
        if self.connections[key as usize].phase == Phase::Open {
            if code == CloseCode::SlowClient {
                self.discard_due(key);
            }
            self.close_with(key, Phase::Closing, code.number(), &close_payload(code.number(), reason));
        }
    }

    /// Fails a connection whose peer broke the protocol: nothing more that it sends can be understood.
    pub(super) fn fail(&mut self, key: u32, violation: Violation) {
        let payload = close_payload(violation.code, violation.reason);
        match self.connections[key as usize].phase {
            Phase::Open => self.close_with(key, Phase::Ending, violation.code, &payload),
            Phase::Closing => self.end(key, Phase::Ending),
            Phase::Ending | Phase::Shut | Phase::Done => {}
        }
    }

    /// Takes a Close frame of the peer, and answers it where it is not the answer itself.
    pub(super) fn on_close(&mut self, key: u32, code: Option<u16>) {
        match self.connections[key as usize].phase {
            Phase::Open => {
                self.discard_due(key);
                let payload = code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec());
                self.close_with(key, Phase::Done, code.unwrap_or(NO_STATUS), &payload);
            }
            Phase::Closing => self.end(key, Phase::Done),
            Phase::Ending | Phase::Shut | Phase::Done => {}
        }
    }

    fn close_with(&mut self, key: u32, phase: Phase, code: u16, payload: &[u8]) {
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

    /// Nothing more is expected of the peer but, in [`Phase::Ending`], its end.
    fn end(&mut self, key: u32, phase: Phase) {
        self.connections[key as usize].phase = phase;
        self.flush(key);
    }

    /// Drops the whole frames that wait; the rest of one that was cut must still be sent.
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
