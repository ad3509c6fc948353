//! A fake API server with one kind of object: it lists, watches, expires versions, refuses, and becomes unavailable.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::slices::tests::slice;
use crate::tests::ANY;

const PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?";
const SELECTOR: &str = "labelSelector=kubernetes.io%2Fservice-name%3Dprices-shards";

/// How it forgets what was before a list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gone {
    /// The watch is answered by that status.
    Status,
    /// The watch begins, and that is its first event.
    Event,
}

pub(super) struct FakeApi {
    addr: SocketAddr,
    state: Arc<State>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    known: Mutex<Known>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Known {
    slices: BTreeMap<String, Value>,
    version: u64,
    /// Events, each with the version that it created.
    log: Vec<(u64, Value)>,
    /// The oldest version from which a watch may begin.
    oldest: u64,
    gone: Option<Gone>,
    /// The status code with which every request is refused.
    refusal: Option<u16>,
    /// How many times all watches were cut. A watch ends when this number changes.
    epoch: u32,
    lists: u32,
    watches: u32,
}

impl FakeApi {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let mut api = Self { addr: listener.local_addr().unwrap(), state: Arc::default(), serving: None };
        api.serve(listener);
        api
    }

    pub(super) fn client(&self) -> Client {
        Client::try_from(Config::new(format!("http://{}", self.addr).parse().unwrap())).unwrap()
    }

    /// Lists and watches it was asked for.
    pub(super) fn asked(&self) -> (u32, u32) {
        let known = self.known();
        (known.lists, known.watches)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.known.lock().unwrap()
    }

    /// Writes a slice with these endpoints, as Kubernetes does.
    pub(super) fn put(&self, name: &str, family: &str, endpoints: &[Value]) {
        self.put_with(name, serde_json::to_value(slice(name, family, endpoints)).unwrap());
    }

    pub(super) fn put_with(&self, name: &str, mut slice: Value) {
        let known = &mut *self.known();
        known.version += 1;
        slice["metadata"]["resourceVersion"] = known.version.to_string().into();
        let before = known.slices.insert(name.to_owned(), slice.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        known.log.push((known.version, json!({ "type": kind, "object": slice })));
        self.state.changed.send_replace(());
    }

    pub(super) fn delete(&self, name: &str) {
        let known = &mut *self.known();
        known.version += 1;
        let mut slice = known.slices.remove(name).unwrap();
        slice["metadata"]["resourceVersion"] = known.version.to_string().into();
        known.log.push((known.version, json!({ "type": "DELETED", "object": slice })));
        self.state.changed.send_replace(());
    }

    /// Cuts all watches. `gone`: their resource versions are too old.
    pub(super) fn cut(&self, gone: Option<Gone>) {
        let mut known = self.known();
        known.epoch += 1;
        known.version += 1;
        (known.gone, known.oldest) = (gone, if gone.is_some() { known.version } else { 0 });
        self.state.changed.send_replace(());
    }

    pub(super) fn refuse(&self, status: Option<u16>) {
        self.known().refusal = status;
        self.cut(None);
    }

    /// No listener, no connections.
    pub(super) async fn go_away(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
    }

    pub(super) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.addr).await.unwrap();
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        self.serving = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    let _ = state.answer(stream).await;
                });
            }
        }));
    }
}

impl State {
    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap();
        assert!(target.starts_with(PATH) && target.contains(SELECTOR), "{target}");
        let refusal = self.known.lock().unwrap().refusal;
        if let Some(code) = refusal {
            return say(&mut stream, code, &failure(code)).await;
        }
        match target.split('&').find_map(|part| part.strip_prefix("resourceVersion=")) {
            Some(version) if target.contains("watch=true") => self.watch(&mut stream, version.parse().unwrap()).await,
            _ => {
                let list = self.list();
                say(&mut stream, 200, &list).await
            }
        }
    }

    fn list(&self) -> Value {
        let mut known = self.known.lock().unwrap();
        known.lists += 1;
        let items: Vec<_> = known.slices.values().cloned().collect();
        json!({ "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "items": items,
            "metadata": { "resourceVersion": known.version.to_string() } })
    }

    async fn watch(&self, stream: &mut TcpStream, mut version: u64) -> io::Result<()> {
        let mut changed = self.changed.subscribe();
        let (epoch, gone) = {
            let mut known = self.known.lock().unwrap();
            known.watches += 1;
            (known.epoch, known.gone.filter(|_| version < known.oldest))
        };
        if let Some(Gone::Status) = gone {
            return say(stream, 410, &failure(410)).await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n").await?;
        if gone.is_some() {
            let event = json!({ "type": "ERROR", "object": failure(410) });
            return stream.write_all(format!("{event}\n").as_bytes()).await;
        }
        loop {
            changed.borrow_and_update();
            let mut news = String::new();
            {
                let known = self.known.lock().unwrap();
                if known.epoch != epoch {
                    return Ok(());
                }
                for (_, event) in known.log.iter().filter(|(at, _)| *at > version) {
                    news += &format!("{event}\n");
                }
                version = known.version;
            }
            stream.write_all(news.as_bytes()).await?;
            if changed.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

fn failure(code: u16) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": "No", "message": format!("no, {code}") })
}

async fn say(stream: &mut TcpStream, status: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await
}
