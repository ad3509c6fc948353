//! The subset of an API server that the operator uses: lists, watches, applies, merge patches of statuses, deletes,
//! Events.
//!
//! It merges applied objects without field managers; those are tested against a real API server.

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::faults::Fault;
use super::world::Inner;

type Shared = Arc<Mutex<Inner>>;

/// Answers one request.
pub(super) async fn answer(State(shared): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path().split_once("/namespaces/market/").expect("one namespace").1.to_owned();
    let query = uri.query().unwrap_or_default().to_owned();
    let watches = query.contains("watch=true");
    let fault = shared.lock().unwrap().faults.next(watches);
    if let Some(Fault::Slow(time)) = fault {
        sleep(time).await;
    }
    if let Some(Fault::Refused(code)) = fault {
        return failure(code);
    }
    let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let answer = match (method, path.split('/').collect::<Vec<_>>().as_slice()) {
        (Method::GET, [plural]) if watches => watch(&shared, plural, &query, fault),
        (Method::GET, [plural]) => list(&shared, plural, &query),
        (Method::GET, [plural, name]) => found(shared.lock().unwrap().get(plural, name)),
        (Method::PATCH, [plural, _]) if shared.lock().unwrap().refused == Some(*plural) => failure(403),
        (Method::PATCH, [plural, name]) => found(Some(shared.lock().unwrap().apply(plural, name, &body))),
        (Method::PATCH, [plural, name, "status"]) => found(shared.lock().unwrap().patch_status(plural, name, &body)),
        (Method::POST, ["events"]) => {
            shared.lock().unwrap().record_event(&body);
            (StatusCode::CREATED, axum::Json(body)).into_response()
        }
        (Method::DELETE, [plural, name]) => found(shared.lock().unwrap().delete(plural, name)),
        (method, _) => panic!("{method} {path}"),
    };
    match fault {
        Some(Fault::Lost(code)) => failure(code),
        _ => answer,
    }
}

fn found(object: Option<Value>) -> Response {
    object.map_or_else(|| failure(404), |object| axum::Json(object).into_response())
}

fn failure(code: u16) -> Response {
    let reason = if code == 404 { "NotFound" } else { "Fault" };
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": "a fault" });
    (StatusCode::from_u16(code).unwrap(), axum::Json(status)).into_response()
}

/// Whether the object has the operator's label, if the query selects by it.
fn selected(query: &str, object: &Value) -> bool {
    !query.contains("managed-by")
        || object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "wscluster-operator"
}

fn list(shared: &Shared, plural: &str, query: &str) -> Response {
    let inner = shared.lock().unwrap();
    let items: Vec<_> = inner.all(plural).into_iter().filter(|object| selected(query, object)).collect();
    let version = inner.version.to_string();
    axum::Json(json!({ "metadata": { "resourceVersion": version }, "items": items })).into_response()
}

fn watch(shared: &Shared, plural: &str, query: &str, fault: Option<Fault>) -> Response {
    if fault == Some(Fault::Gone) {
        let gone = json!({ "type": "ERROR", "object": { "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "gone" } });
        return format!("{gone}\n").into_response();
    }
    let left = if let Some(Fault::Dropped(after)) = fault { after } else { usize::MAX };
    let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion=")).unwrap_or("0");
    let from: u64 = from.parse().unwrap();
    let news = shared.lock().unwrap().news.subscribe();
    let state = (Arc::clone(shared), plural.to_owned(), query.to_owned(), from, left, news);
    let events = stream::unfold(state, async |(shared, plural, query, from, left, mut news)| {
        if left == 0 {
            return None;
        }
        loop {
            news.borrow_and_update();
            let next = shared.lock().unwrap().after(&plural, from, |object| selected(&query, object));
            if let Some((version, kind, object)) = next {
                let line = format!("{}\n", json!({ "type": kind, "object": object }));
                return Some((
                    Ok::<_, std::convert::Infallible>(line),
                    (shared, plural, query, version, left - 1, news),
                ));
            }
            news.changed().await.ok()?;
        }
    });
    Body::from_stream(events).into_response()
}
