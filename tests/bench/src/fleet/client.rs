//! One client: handshake, subscription, and receiving until the connection ends.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use wscluster_ws::decode::{Decoder, Event, Flow, Role};
use wscluster_ws::frame::{Opcode, client_frame};

use super::{Door, HANDSHAKE, Shared, add, stamp};
use crate::wire::{self, Opened};

pub(super) async fn client(i: usize, door: &Door, shared: &Shared) {
    match wire::open(door.addr, &door.path, HANDSHAKE).await {
        Ok(opened) => {
            add(&shared.counts.opened, 1);
            let end = hold(opened, door.hellos.get(i % door.hellos.len().max(1)), door.stamped, shared).await;
            *shared.counts.lost.borrow_mut().entry(end).or_default() += 1;
        }
        Err(failure) => shared.counts.fail(failure),
    }
}

/// Reads until the connection ends. Returns the cause of the end.
async fn hold(opened: Opened, hello: Option<&String>, stamped: bool, shared: &Shared) -> String {
    let Opened { mut stream, mut rest } = opened;
    if let Some(hello) = hello {
        let frame = client_frame(Opcode::Text, hello.as_bytes(), [1, 2, 3, 4]);
        if let Err(error) = stream.write_all(&frame).await {
            return error.kind().to_string();
        }
    }
    let stream = Arc::new(stream);
    shared.streams.borrow_mut().push(Arc::clone(&stream));
    let mut decoder = Decoder::new(Role::Client, 1 << 20);
    let mut end = take(&mut rest, &mut decoder, &stream, shared, stamped);
    while end.is_none() {
        end = match wire::receive(&stream, &shared.scratch, |b| take(b, &mut decoder, &stream, shared, stamped)).await {
            Ok((0, _)) => Some("end of stream without a close frame".to_owned()),
            Ok((_, end)) => end,
            Err(error) => Some(error.kind().to_string()),
        };
    }
    shared.streams.borrow_mut().retain(|other| !Arc::ptr_eq(other, &stream));
    end.unwrap_or_default()
}

/// Counts the messages in `bytes` and answers pings. Returns the cause if the connection ended.
fn take(bytes: &mut [u8], decoder: &mut Decoder, stream: &TcpStream, shared: &Shared, stamped: bool) -> Option<String> {
    let counts = &shared.counts;
    if bytes.is_empty() {
        return None;
    }
    add(&counts.bytes, bytes.len() as u64);
    let mut end = None;
    let now = if stamped { stamp::now() } else { 0 };
    let result = decoder.decode(bytes, &mut |event| {
        match event {
            // A ping of Centrifuge's protocol is a text message. It is answered in kind and does not count.
            Event::Text("{}") => drop(stream.try_write(&client_frame(Opcode::Text, b"{}", [1, 2, 3, 4]))),
            Event::Text(text) => {
                add(&counts.messages, 1);
                if stamped {
                    counts.latencies.borrow_mut().extend(stamp::ages(text, now));
                }
            }
            Event::Binary(_) => add(&counts.messages, 1),
            // If the socket has no room for a pong, the server will close the connection for its slowness.
            Event::Ping(data) => drop(stream.try_write(&client_frame(Opcode::Pong, data, [1, 2, 3, 4]))),
            Event::Pong(_) => {}
            Event::Close(code, reason) => end = Some(format!("close {} {reason}", code.unwrap_or(1005))),
        }
        Flow::Continue
    });
    end.or_else(|| result.err().map(|violation| violation.to_string()))
}
