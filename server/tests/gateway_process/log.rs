//! The log of a gateway: clients are served even if the reader of the log stops or ends.

use super::*;

fn refused(running: &Running) -> String {
    let mut bad = TcpStream::connect(running.ws).unwrap();
    bad.set_read_timeout(Some(PATIENCE)).unwrap();
    bad.write_all(b"BAD\r\n\r\n").unwrap();
    let mut answer = String::new();
    bad.read_to_string(&mut answer).unwrap();
    answer
}

fn serves(running: &mut Running) {
    assert!(refused(running).starts_with("HTTP/1.1 400"));
    echoes(&mut running.tunnel());
    assert!(running.get("/readyz").starts_with("HTTP/1.1 200"));
    running.signal();
    assert_eq!(running.wait(), Some(0));
}

#[test]
fn serves_after_the_reader_of_its_log_has_ended() {
    let mut running = Running::in_front_of(&impatient(), &shard());
    drop(running.child.stderr.take());
    // Each refusal is logged.
    (0..3).for_each(|_| drop(refused(&running)));
    serves(&mut running);
}

#[test]
fn serves_while_the_reader_of_its_log_is_stopped() {
    let file = impatient();
    let shard = shard();
    let args = ["--listen", "127.0.0.1:0", "--workers", "1", "--shard", &shard, "--log-handshakes"];
    let mut running = Running::start(gateway(&file, &args));
    // More lines than a pipe holds.
    (0..1_000).for_each(|_| drop(refused(&running)));
    serves(&mut running);
    let mut log = Vec::new();
    running.child.stderr.take().unwrap().read_to_end(&mut log).unwrap();
    assert!(log.len() >= 48 << 10, "only {} bytes: the pipe did not fill", log.len());
}
