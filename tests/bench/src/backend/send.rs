//! The bare loop of `send` calls: sends frames to every connection, at a pace or without a pause.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use wscluster_ws::frame::{Opcode, put_server_header};

/// A command: `records` frames to every connection, `per_second` records a second, `burst` at a time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Push {
    /// Frames for each connection.
    pub records: usize,
    /// Pace; infinite, JSON `null`, means as fast as possible.
    pub per_second: Option<f64>,
    /// Records that are due at the same instant.
    pub burst: usize,
    /// Payload bytes of a frame.
    pub len: usize,
    /// Spread the sends of a record evenly over the time to the next record, instead of all at once.
    pub spread: bool,
}

/// The result of a command.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Frames sent.
    pub sent: u64,
    /// Sends that had to wait for room in the socket.
    pub waited: u64,
}

/// Runs the loop.
pub(super) fn send_all(streams: &[Rc<TcpStream>], push: Push) -> io::Result<Sent> {
    let mut frame = vec![];
    put_server_header(&mut frame, Opcode::Text, push.len);
    frame.resize(frame.len() + push.len, b'x');
    let began = Instant::now();
    let mut done = Sent { sent: 0, waited: 0 };
    for record in 0..push.records {
        for (i, stream) in streams.iter().enumerate() {
            let place = if push.spread { i as f64 / streams.len() as f64 } else { 0.0 };
            if let Some(per_second) = push.per_second {
                let due = ((record / push.burst * push.burst) as f64 + place) / per_second;
                sleep_until(began + Duration::from_secs_f64(due));
            }
            send_one(stream, &frame, &mut done)?;
        }
    }
    Ok(done)
}

fn sleep_until(due: Instant) {
    let now = Instant::now();
    if due > now {
        std::thread::sleep(due - now);
    }
}

fn send_one(stream: &TcpStream, frame: &[u8], done: &mut Sent) -> io::Result<()> {
    let mut rest = frame;
    while !rest.is_empty() {
        match rustix::net::send(stream, rest, SendFlags::NOSIGNAL) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::AGAIN) => {
                done.waited += 1;
                poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    done.sent += 1;
    Ok(())
}
