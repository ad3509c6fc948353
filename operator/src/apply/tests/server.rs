//! A fake API server that stores objects by path and records requests. It merges applied objects without field
//! managers; those are tested against a real API server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use kube::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::build::labels::{MANAGED_BY, OPERATOR};
use crate::caches::{CacheWriters, Cached, Caches, caches};

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The end of the path: the plural of the kind and the name, such as `services/prices-gateway`.
    pub(super) object: String,
    pub(super) query: String,
    pub(super) body: Value,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    requests: Vec<Request>,
    /// The status code with which writes to an object are answered.
    failure: Option<(&'static str, u16)>,
}

/// The server, and the caches that watch it.
pub(super) struct Server {
    inner: Arc<Mutex<Inner>>,
    pub(super) client: Client,
    pub(super) caches: Caches,
    writers: CacheWriters,
}

impl Server {
    pub(super) fn start() -> Self {
        let inner = Arc::<Mutex<Inner>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let (caches, writers) = caches();
        Self { inner, client: Client::new(router, "default"), caches, writers }
    }

    /// Every request since the last call.
    pub(super) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.inner.lock().unwrap().requests)
    }

    /// Requests that write, since the last call, as `PATCH services/prices-gateway`.
    pub(super) fn writes(&self) -> Vec<String> {
        let writes = self.requests().into_iter().filter(|r| r.method != Method::GET);
        writes.map(|r| format!("{} {}", r.method, r.object)).collect()
    }

    /// Creates or changes an object.
    pub(super) fn edit(&self, object: &str, edit: impl FnOnce(&mut Value)) {
        edit(self.inner.lock().unwrap().objects.entry(object.to_owned()).or_default());
    }

    /// Deletes an object.
    pub(super) fn remove(&self, object: &str) {
        self.inner.lock().unwrap().objects.remove(object).unwrap();
    }

    /// Answers writes to `object` with `code` from now on.
    pub(super) fn fail(&self, object: &'static str, code: u16) {
        self.inner.lock().unwrap().failure = Some((object, code));
    }

    /// Updates the caches.
    pub(super) fn sync(&mut self) {
        let objects: Vec<_> = self.inner.lock().unwrap().objects.values().cloned().collect();
        let CacheWriters {
            stateful_sets,
            deployments,
            pods,
            services,
            service_accounts,
            roles,
            role_bindings,
            config_maps,
            budgets,
            policies,
        } = &mut self.writers;
        fill(stateful_sets, &objects);
        fill(deployments, &objects);
        fill(pods, &objects);
        fill(services, &objects);
        fill(service_accounts, &objects);
        fill(roles, &objects);
        fill(role_bindings, &objects);
        fill(config_maps, &objects);
        fill(budgets, &objects);
        fill(policies, &objects);
    }
}

/// Selects objects like the watches do.
fn fill<K: Cached>(writer: &mut Writer<K>, objects: &[Value]) {
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        if object["kind"] == *K::kind(&()) && object["metadata"]["labels"][MANAGED_BY] == OPERATOR {
            writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(object.clone()).unwrap()));
        }
    }
    writer.apply_watcher_event(&Event::InitDone);
}

async fn answer(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let mut inner = inner.lock().unwrap();
    let (_, below) = uri.path().split_once("/namespaces/").unwrap();
    let object = below.split_once('/').unwrap().1.to_owned();
    let query = uri.query().unwrap_or_default().to_owned();
    let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    inner.requests.push(Request { method: method.clone(), object: object.clone(), query, body: body.clone() });
    let failed = inner.failure.filter(|(failing, _)| *failing == object && method != Method::GET);
    let (code, answer) = match (failed, method) {
        (Some((_, code)), _) => (code, status(code)),
        (None, Method::GET) => match inner.objects.get(&object) {
            Some(found) => (200, found.clone()),
            None => (404, status(404)),
        },
        (None, Method::PATCH) => {
            let live = inner.objects.entry(object.clone()).or_insert_with(|| json!({ "metadata": { "uid": object } }));
            let is_apply = headers[CONTENT_TYPE] == "application/apply-patch+yaml";
            if is_apply && object.starts_with("services/") && repeats_a_name(live, &body) {
                (422, status(422))
            } else {
                merge(live, &body);
                (200, live.clone())
            }
        }
        (None, Method::DELETE) => match inner.objects.remove(&object) {
            Some(_) => (200, json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })),
            None => (404, status(404)),
        },
        (None, method) => panic!("{method} {object}"),
    };
    (StatusCode::from_u16(code).unwrap(), axum::Json(answer))
}

fn status(code: u16) -> Value {
    let reason = if code == 404 { "NotFound" } else { "Why" };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "because" })
}

/// Ports have their number as key: applying the same name with another number makes two of that name, which is not
/// valid.
fn repeats_a_name(live: &Value, applied: &Value) -> bool {
    let ports = |service: &Value| service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let applied = ports(applied);
    ports(live)
        .iter()
        .any(|live| applied.iter().any(|port| port["name"] == live["name"] && port["port"] != live["port"]))
}

fn merge(live: &mut Value, applied: &Value) {
    match applied {
        Value::Object(applied) if live.is_object() => {
            applied.iter().for_each(|(key, value)| merge(&mut live[key.as_str()], value));
        }
        _ => *live = applied.clone(),
    }
}
