//! The end of a connection (RFC 6455 §7): a Close frame in each direction, then the socket is closed. If the peer's
//! Close frame can no longer arrive, our half is shut first and the peer's end awaited, because a reset could destroy
//! our Close frame. All of this takes [`LINGER`] at most, or longer while the peer keeps reading what is due to it.

use wscluster_protocol::close::CloseCode;
use wscluster_ws::close::NO_STATUS;
use wscluster_ws::decode::Violation;
use wscluster_ws::frame::{Opcode, close_payload, server_frame};

use super::connection::ConnectionPhase;
use super::outbox::Due;
use super::settings::LINGER;
use super::worker::Worker;

/// Bytes that the peer of a closing connection must accept in [`LINGER`] to get as much time again.
const PACE: usize = 16 << 10;

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
        self.linger(key);
        self.send(key, server_frame(Opcode::Close, payload));
        self.flush(key);
        self.mark_pace(key);
    }

    /// Whether a closing connection gets another [`LINGER`]: its peer has accepted enough bytes since the last mark.
    pub(super) fn keeps_pace(&mut self, key: u32) -> bool {
        let waiting = self.waiting(key);
        let blocked = self.connections[key as usize].blocked.as_ref();
        let keeps_pace = blocked.is_some_and(|blocked| waiting + PACE <= blocked.waiting_at_mark);
        self.mark_pace(key);
        keeps_pace
    }

    fn mark_pace(&mut self, key: u32) {
        let waiting = self.waiting(key);
        if let Some(blocked) = &mut self.connections[key as usize].blocked {
            blocked.waiting_at_mark = waiting;
        }
    }

    /// Gives the peer of a closing connection [`LINGER`] from now.
    pub(super) fn linger(&mut self, key: u32) {
        let deadline = self.wheel.now().after(LINGER);
        self.connections[key as usize].deadline = deadline;
        self.wheel.add(key, deadline);
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::{LocalSet, yield_now};
    use tokio::time::timeout;
    use wscluster_runtime::fds::Permit;

    use super::*;
    use crate::handshake::Principal;
    use crate::tests::PATIENCE;
    use crate::wheel::TICK;
    use crate::worker::Upgraded;

    /// A worker with one connection, key 0, and its client.
    async fn connected() -> (Rc<RefCell<Worker>>, TcpStream) {
        let (worker, shared) = crate::tests::worker();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let slot = shared.slots.grant(&mut shared.slots.fds().take(Permit::CONNECTION)).unwrap();
        let upgraded = Upgraded { stream, slot, principal: Principal::default(), echo: false };
        worker.borrow_mut().add(upgraded, &[], None);
        (worker, client)
    }

    /// Lets [`LINGER`] pass, and the tasks notice it.
    async fn pass_linger(worker: &RefCell<Worker>) {
        for _ in 0..LINGER.as_millis() / TICK.as_millis() {
            worker.borrow_mut().tick();
        }
        for _ in 0..100 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_closing_client_has_more_time_while_it_reads_what_is_due() {
        let test = async {
            let (worker, mut client) = connected().await;
            worker.borrow_mut().send(0, server_frame(Opcode::Text, &vec![b'x'; 32 << 20]));
            worker.borrow_mut().flush(0);
            worker.borrow_mut().begin_close(0, CloseCode::Restart, "");
            let mut piece = vec![0; 64 << 10];
            for _ in 0..3 {
                let before = worker.borrow().waiting(0);
                while worker.borrow().waiting(0) + PACE > before {
                    client.read_exact(&mut piece).await.unwrap();
                }
                pass_linger(&worker).await;
                assert!(worker.borrow().connections.contains(0), "it keeps pace");
            }
            // The kernel takes some more before it takes nothing.
            for _ in 0..100 {
                pass_linger(&worker).await;
            }
            timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await.expect("it has read nothing").unwrap();
            assert!(worker.borrow().connections.is_empty());
        };
        LocalSet::new().run_until(test).await;
    }
}
