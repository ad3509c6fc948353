//! Runs against servers that each misbehave in one way. Every fault must be counted under its own name.

mod failures;
mod lives;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use wscluster_ws::decode::{Decoder, Event, Flow};
use wscluster_ws::frame::{Opcode, server_frame};
use wscluster_ws::upgrade::{HeadLimits, accept_key, parse_request};

use super::channels::Template;
use super::coordinator::{Mark, Run, coordinate};
use super::report::Report;
use super::topic::Topic;
use super::worker_plan::{WorkerPlan, tests::plan};

/// A server that does `serve` with each connection, in a thread of its own.
fn server(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for (i, stream) in listener.incoming().enumerate() {
            let serve = std::sync::Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap(), i));
        }
    });
    addr
}

/// Reads the head of an upgrade and returns its key.
fn key(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0; 512];
    loop {
        let n = stream.read(&mut byte).unwrap();
        assert!(n > 0, "the client left");
        head.extend_from_slice(&byte[..n]);
        if let Some(request) = parse_request(&head, HeadLimits::default()).expect("our own upgrade is good") {
            return request.key.to_owned();
        }
    }
}

fn switching(key: &str) -> String {
    let accept = accept_key(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The next texts of the client; none at its end.
fn texts(stream: &mut TcpStream, decoder: &mut Decoder) -> Vec<String> {
    let mut texts = Vec::new();
    let mut buf = [0; 4_096];
    while texts.is_empty()
        && let Ok(n @ 1..) = stream.read(&mut buf)
    {
        let flow = decoder.decode(&mut buf[..n], &mut |event| {
            if let Event::Text(text) = event {
                texts.push(text.to_owned());
            }
            Flow::Continue
        });
        flow.unwrap();
    }
    texts
}

/// Waits until the client is gone.
fn wait(mut stream: TcpStream) {
    let mut buf = [0; 1_024];
    while matches!(stream.read(&mut buf), Ok(1..)) {}
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    server_frame(Opcode::Close, &payload).to_vec()
}

fn text(text: &str) -> Vec<u8> {
    server_frame(Opcode::Text, text.as_bytes()).to_vec()
}

const ACK: &str = r#"{"type":"subscription_ack","subscribed":["A.trade"],"count":1}"#;

fn run(plan: WorkerPlan) -> Report {
    run_with(plan, None, |_| {})
}

fn run_with(plan: WorkerPlan, topic: Option<Topic>, on_hold: impl FnMut(Mark)) -> Report {
    let run = Run {
        plan,
        processes: 1,
        topic,
        publish_rate: 0.0,
        publish_in_hold: false,
        tail: Duration::ZERO,
        progress: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_mins(1), coordinate(&run, on_hold)).await.expect("the run ends").unwrap()
    })
}

/// The only failure of one client against `serve`.
fn failure(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    failure_of(plan(server(move |stream, _| serve(stream)), 1))
}

fn failure_of(plan: WorkerPlan) -> String {
    let report = run(plan);
    assert_eq!((report.started, report.connected, report.failed, report.failed_attempts), (1, 0, 1, 1), "{report:?}");
    let names: Vec<_> = report.failures.into_iter().collect();
    let [(name, 1)] = &names[..] else { panic!("one failure: {names:?}") };
    name.clone()
}

fn short(plan: WorkerPlan) -> WorkerPlan {
    WorkerPlan { timeout: Duration::from_millis(200), ..plan }
}

#[test]
fn reports_what_it_saw_when_the_topic_cannot_be_read_to_its_end() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let topic = Topic {
        brokers: cluster.bootstrap_servers(),
        properties: Vec::new(),
        name: "t".to_owned(),
        template: Template::parse("{key}", "t").unwrap(),
        channels: vec!["a".to_owned()],
    };
    let serve = |mut stream: TcpStream, _| {
        let key = key(&mut stream);
        stream.write_all(switching(&key).as_bytes()).unwrap();
        wait(stream);
    };
    let denied = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 9];
    let report = run_with(plan(server(serve), 1), Some(topic), |_| {
        cluster.request_errors(RDKafkaApiKey::ListOffsets, &denied);
    });
    assert_eq!((report.connected, report.audit.basis), (1, "none"));
    let reason = report.audit.not_compared.expect("the topic was named");
    assert!(reason.contains("ask for the end of the topic"), "{reason}");
}
