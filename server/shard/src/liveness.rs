//! Liveness: pings, timeouts of silent clients, and the time limit of closing connections. All are driven by the
//! timer wheel.

use rand::RngExt as _;
use rustix::net::RecvFlags;
use tokio::net::TcpStream;
use wscluster_ws::frame::{Opcode, server_frame};

use super::connection::ConnectionPhase;
use super::worker::Worker;

impl Worker {
    /// Schedules the first ping of a new connection at a random time of the first interval, so that connections that
    /// arrived together are not pinged together.
    pub(super) fn start_liveness(&mut self, key: u32) {
        let share = rand::rng().random_range(0.5..1.0);
        self.ping_later(key, share);
    }

    fn ping_later(&mut self, key: u32, share: f64) {
        let delivery = &self.shared.settings.delivery;
        let now = self.wheel.now();
        let connection = &mut self.connections[key as usize];
        connection.ping_at = now.after(delivery.ping_interval.0.mul_f64(share));
        connection.deadline = connection.ping_at.min(connection.seen.after(delivery.pong_timeout.0));
        self.wheel.add(key, connection.deadline);
    }

    /// Advances the timer wheel by one step.
    pub(super) fn tick(&mut self) {
        let mut keys = Vec::new();
        self.wheel.step(&mut keys);
        for key in keys {
            self.check(key);
        }
        self.retry_pending();
    }

    fn check(&mut self, key: u32) {
        let now = self.wheel.now();
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if connection.deadline != now {
            // The deadline has moved, or the key belongs to a newer connection.
            return;
        }
        let pong_timeout = self.shared.settings.delivery.pong_timeout.0;
        // A busy shard may not have read bytes that arrived in time. A blocked connection is not read on purpose.
        let is_late = |stream| connection.blocked.is_none() && has_unread(stream);
        if connection.seen.after(pong_timeout) <= now && is_late(&connection.stream) {
            connection.seen = now;
        }
        let silent_at = connection.seen.after(pong_timeout);
        if connection.phase != ConnectionPhase::Open {
            if self.keeps_pace(key) {
                self.linger(key);
            } else {
                self.connections[key as usize].kill();
            }
        } else if silent_at <= now {
            // A Close frame would not arrive either.
            connection.kill();
        } else if connection.ping_at <= now {
            if connection.blocked.is_none() {
                // A blocked client proves that it is alive by accepting bytes.
                self.send(key, server_frame(Opcode::Ping, b""));
                self.flush(key);
            }
            let share = rand::rng().random_range(0.95..1.0);
            self.ping_later(key, share);
        } else {
            connection.deadline = connection.ping_at.min(silent_at);
            let deadline = connection.deadline;
            self.wheel.add(key, deadline);
        }
    }
}

fn has_unread(stream: &TcpStream) -> bool {
    rustix::net::recv(stream, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(len, _)| len > 0)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn unread_bytes_differ_from_silence_and_from_the_end() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(!has_unread(&server));
        client.write_all(b"x").await.unwrap();
        server.readable().await.unwrap();
        assert!(has_unread(&server) && has_unread(&server), "peeking takes nothing");
        assert_eq!(server.try_read(&mut [0; 8]).unwrap(), 1);
        drop(client);
        server.readable().await.unwrap();
        assert!(!has_unread(&server));
    }
}
