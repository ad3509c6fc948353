//! What a shard tells on its admin port, and the drain it takes there.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::drain::{Drains, Ending};
use super::shared::Shared;
use crate::admin::Part;
use crate::health::{CapacityCheck, Checks, CpuCheck, KafkaCheck, MemoryCheck, ShardHealth, State, Status, percent};
use crate::process::{CpuMeter, memory_limit_bytes, usage};

/// The most that a manifest may ask for too. So far above, the time between two evictions would be none at all.
const MAX_EVICT_RATE: u32 = 1_000_000;

/// Tells how the source is.
pub type SourceStatus = Box<dyn Fn() -> KafkaCheck + Send + Sync>;

/// A shard as its admin server sees it.
pub struct Admin {
    shared: Arc<Shared>,
    source: SourceStatus,
    cpu: Mutex<CpuMeter>,
}

impl Admin {
    /// Tells about `shared` and its `source`.
    pub fn new(shared: Arc<Shared>, source: SourceStatus) -> Self {
        Self { shared, source, cpu: Mutex::new(CpuMeter::start()) }
    }

    /// The health of this shard now.
    pub fn shard_health(&self) -> ShardHealth {
        let Shared { settings, slots, .. } = &*self.shared;
        let (current, max) = (slots.used(), slots.capacity());
        let state = self.shared.state();
        let kafka = (self.source)();
        let usage = usage("self").unwrap_or_default();
        let limit_bytes = memory_limit_bytes().unwrap_or(0);
        let reason = slots.fds().trouble();
        let status = if self.shared.is_broken() {
            Status::Unhealthy
        } else if state == State::Starting
            || reason.is_some()
            || !matches!(&*kafka.status, "connected" | "none")
            || kafka.error.is_some()
        {
            Status::Degraded
        } else {
            Status::Healthy
        };
        let cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner).percentage();
        ShardHealth {
            status,
            healthy: status != Status::Unhealthy,
            reason,
            state,
            shard: settings.name.clone(),
            incarnation: settings.incarnation.clone(),
            revision: settings.revision.clone(),
            connections: current,
            capacity: max,
            available: if state == State::Ready { max - current.min(max) } else { 0 },
            utilization: percent(current, max),
            checks: Checks {
                capacity: CapacityCheck { current, max, percentage: percent(current, max) },
                cpu: CpuCheck { percentage: cpu },
                memory: MemoryCheck {
                    percentage: if limit_bytes == 0 {
                        0.0
                    } else {
                        100.0 * usage.rss_bytes as f64 / limit_bytes as f64
                    },
                    bytes: usage.rss_bytes,
                    limit_bytes,
                },
                kafka,
            },
            uptime: self.shared.started.elapsed().as_secs_f64(),
        }
    }
}

impl Part for Admin {
    fn health(&self) -> Value {
        serde_json::to_value(self.shard_health()).unwrap_or_default()
    }

    fn ready(&self) -> Result<(), String> {
        if self.shared.is_broken() {
            return Err("a worker ended".to_owned());
        }
        match self.shared.state() {
            State::Ready | State::Full => Ok(()),
            State::Starting => Err("starting: the window is being filled from Kafka".to_owned()),
            State::Draining => Err("draining".to_owned()),
        }
    }
}

/// `POST /drain` and `DELETE /drain`.
pub fn routes(drains: Drains, defaults: wscluster_api::spec::Drain) -> Router {
    let cancel = drains.clone();
    let begin = async move |body: Bytes| -> Response {
        match merged(&defaults, &body) {
            Ok(drain) => {
                let answer = json!({ "state": "draining", "drain": drain });
                match drains.begin(drain) {
                    Ok(()) => (StatusCode::ACCEPTED, Json(answer)).into_response(),
                    Err(ending) => conflict(ending),
                }
            }
            Err(message) => {
                let body = json!({ "error": "bad_request", "message": message });
                (StatusCode::BAD_REQUEST, Json(body)).into_response()
            }
        }
    };
    let cancel = async move || match cancel.cancel() {
        Ok(()) => Json(json!({ "draining": false })).into_response(),
        Err(ending) => conflict(ending),
    };
    Router::new().route("/drain", post(begin).delete(cancel))
}

fn conflict(ending: Ending) -> Response {
    let body = json!({ "error": "ending", "message": ending.to_string() });
    (StatusCode::CONFLICT, Json(body)).into_response()
}

/// The manifest's drain with the fields of `body` in their place.
fn merged(defaults: &wscluster_api::spec::Drain, body: &[u8]) -> Result<wscluster_api::spec::Drain, String> {
    let mut drain = serde_json::to_value(defaults).map_err(|error| error.to_string())?;
    if !body.trim_ascii().is_empty() {
        let given: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let Value::Object(given) = given else {
            return Err("the body must be an object, e.g. {\"evictRate\": 100}".to_owned());
        };
        overlay(&mut drain, given)?;
    }
    let drain: wscluster_api::spec::Drain = serde_json::from_value(drain).map_err(|error| error.to_string())?;
    if drain.evict_rate == 0 {
        return Err("evictRate is 0: nobody would leave before the deadline; give 1 or more".to_owned());
    }
    if drain.evict_rate > MAX_EVICT_RATE {
        return Err(format!("evictRate is {}: give at most {MAX_EVICT_RATE} a second", drain.evict_rate));
    }
    if drain.retry_after.min > drain.retry_after.max {
        return Err("retryAfter.min is above retryAfter.max".to_owned());
    }
    Ok(drain)
}

/// Puts `given` over the object `onto`, which has every field there is.
fn overlay(onto: &mut Value, given: Map<String, Value>) -> Result<(), String> {
    for (field, value) in given {
        match (onto.get_mut(&field), value) {
            (Some(onto @ Value::Object(_)), Value::Object(part)) => overlay(onto, part)?,
            (Some(onto), value) => *onto = value,
            (None, _) => {
                return Err(format!(
                    "unknown field {field:?}; a drain has evictRate, deadline, retryAfter.min, retryAfter.max"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_drain_with_any_fields() {
        let defaults = wscluster_api::spec::Drain::default();
        assert_eq!(merged(&defaults, b"").unwrap(), defaults);
        let drain = merged(&defaults, br#"{"evictRate":7,"retryAfter":{"max":"9s"}}"#).unwrap();
        assert_eq!((drain.evict_rate, drain.deadline), (7, defaults.deadline));
        assert_eq!(drain.retry_after.min, defaults.retry_after.min);
        assert_eq!(drain.retry_after.max.to_string(), "9s");
    }

    #[test]
    fn says_what_is_wrong_with_a_drain() {
        let defaults = wscluster_api::spec::Drain::default();
        for (body, part) in [
            ("[]", "object"),
            ("{", "JSON"),
            (r#"{"evictRate":0}"#, "evictRate"),
            (r#"{"evictRate":4000000000}"#, "at most 1000000"),
            (r#"{"evictRat":1}"#, "evictRat"),
            (r#"{"retryAfter":{"mim":"1s"}}"#, "mim"),
            (r#"{"deadline":5}"#, "string"),
            (r#"{"retryAfter":{"min":"1m"}}"#, "retryAfter"),
        ] {
            let message = merged(&defaults, body.as_bytes()).unwrap_err();
            assert!(message.contains(part), "{body}: {message}");
        }
    }
}
