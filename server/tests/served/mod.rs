//! A WebSocket server for client processes under test. The test decides what happens after the upgrade.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use wscluster_ws::upgrade::{HeadLimits, accept_key, parse_request};

/// Serves each client on its own thread.
pub(crate) fn server(serve: fn(TcpStream) -> Option<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    addr
}

/// Reads the request and answers 101 with the additional header lines `fields`; `None` if the client has left.
pub(crate) fn upgrade(stream: &mut TcpStream, fields: &str) -> Option<()> {
    let mut head = Vec::new();
    let mut buf = [0; 1_024];
    let key = loop {
        let n = stream.read(&mut buf).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&buf[..n]);
        if let Some(request) = parse_request(&head, HeadLimits::default()).ok()? {
            break request.key.to_owned();
        }
    };
    let accept = accept_key(&key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         {fields}\r\n"
    );
    stream.write_all(answer.as_bytes()).ok()
}
