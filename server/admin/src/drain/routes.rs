//! The HTTP routes of `/drain` and `/evict`.

use std::fmt::Display;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use wscluster_api::spec::{Drain, RetryAfter};
use wscluster_runtime::drain::{Drains, Holds};

use super::{ConfiguredDrain, DrainCancelled, DrainStarted, EvictRequest, EvictStarted, Refusal, RefusalCode};
use crate::health::State;

/// Also the maximum of the manifest schema. Above it, the time between two evictions rounds to zero.
const MAX_EVICT_RATE: u32 = 1_000_000;

/// `/drain`: `POST` begins a drain, `PUT` replaces the configured drain without starting one, `DELETE` cancels a
/// drain. Fields missing from a body keep their configured values.
pub fn drain_routes<H: Holds>(drains: Drains<H>) -> Router {
    let (cancel, configure) = (drains.clone(), drains.clone());
    let configure = async move |body: Bytes| match drain(&configure.own(), &body) {
        Ok(drain) => {
            configure.set_own(drain.clone());
            Json(ConfiguredDrain { drain }).into_response()
        }
        Err(message) => bad_request(message),
    };
    let begin = async move |body: Bytes| match drain(&drains.own(), &body) {
        Ok(drain) => {
            let answer = DrainStarted { state: State::Draining, drain: drain.clone() };
            accepted(drains.begin(drain), RefusalCode::Ending, answer)
        }
        Err(message) => bad_request(message),
    };
    let cancel = async move || match cancel.cancel() {
        Ok(()) => Json(DrainCancelled { draining: false }).into_response(),
        Err(ending) => conflict(RefusalCode::Ending, &ending),
    };
    Router::new().route("/drain", post(begin).put(configure).delete(cancel))
}

/// `POST /evict`. Fields missing from a body, except `count`, are those of the configured drain.
pub fn evict_route<H: Holds>(drains: Drains<H>) -> Router {
    let evict = async move |body: Bytes| match evict(&drains.own(), &body) {
        Ok(evict) => {
            let answer = EvictStarted { evict: evict.clone() };
            accepted(drains.evict(evict), RefusalCode::Draining, answer)
        }
        Err(message) => bad_request(message),
    };
    Router::new().route("/evict", post(evict))
}

fn accepted<E: Display>(begun: Result<(), E>, code: RefusalCode, answer: impl Serialize) -> Response {
    match begun {
        Ok(()) => (StatusCode::ACCEPTED, Json(answer)).into_response(),
        Err(error) => conflict(code, &error),
    }
}

fn bad_request(message: String) -> Response {
    (StatusCode::BAD_REQUEST, Json(Refusal { error: RefusalCode::BadRequest, message })).into_response()
}

fn conflict(code: RefusalCode, error: &impl Display) -> Response {
    (StatusCode::CONFLICT, Json(Refusal { error: code, message: error.to_string() })).into_response()
}

/// The configured drain, overlaid with the fields of `body`.
fn drain(defaults: &Drain, body: &[u8]) -> Result<Drain, String> {
    let drain: Drain = merged(json!(defaults), body)?;
    check(drain.evict_rate, &drain.retry_after)?;
    Ok(drain)
}

/// The eviction that `body` requests.
fn evict(defaults: &Drain, body: &[u8]) -> Result<EvictRequest, String> {
    let defaults =
        EvictRequest { count: 0, evict_rate: defaults.evict_rate, retry_after: defaults.retry_after.clone() };
    let evict: EvictRequest = merged(json!(defaults), body)?;
    if evict.count == 0 {
        return Err("count is 0 or missing: give the number of connections to move".to_owned());
    }
    check(evict.evict_rate, &evict.retry_after)?;
    Ok(evict)
}

fn check(evict_rate: u32, retry_after: &RetryAfter) -> Result<(), String> {
    if evict_rate == 0 {
        return Err("evictRate is 0: no connection would move; give 1 or more".to_owned());
    }
    if evict_rate > MAX_EVICT_RATE {
        return Err(format!("evictRate is {evict_rate}: give at most {MAX_EVICT_RATE} a second"));
    }
    if retry_after.min > retry_after.max {
        return Err("retryAfter.min is above retryAfter.max".to_owned());
    }
    Ok(())
}

/// `defaults`, an object with every known field, overlaid with the fields of `body`.
fn merged<T: DeserializeOwned>(mut defaults: Value, body: &[u8]) -> Result<T, String> {
    if !body.trim_ascii().is_empty() {
        let given: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let Value::Object(given) = given else {
            return Err("the body must be an object, e.g. {\"evictRate\": 100}".to_owned());
        };
        overlay(&mut defaults, given)?;
    }
    serde_json::from_value(defaults).map_err(|error| error.to_string())
}

/// Puts `given` over the object `onto`.
fn overlay(onto: &mut Value, given: Map<String, Value>) -> Result<(), String> {
    for (field, value) in given {
        match (onto.get_mut(&field), value) {
            (Some(onto @ Value::Object(_)), Value::Object(part)) => overlay(onto, part)?,
            (Some(onto), value) => *onto = value,
            (None, _) => {
                let known: Vec<_> = onto.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
                return Err(format!("unknown field {field:?}; there are {}", known.join(", ")));
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
        let defaults = Drain::default();
        assert_eq!(drain(&defaults, b"").unwrap(), defaults);
        let drain = drain(&defaults, br#"{"evictRate":7,"retryAfter":{"max":"9s"}}"#).unwrap();
        assert_eq!((drain.evict_rate, drain.deadline), (7, defaults.deadline));
        assert_eq!(drain.retry_after.min, defaults.retry_after.min);
        assert_eq!(drain.retry_after.max.to_string(), "9s");
    }

    #[test]
    fn names_the_field_that_is_wrong_in_a_drain() {
        let defaults = Drain::default();
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
            let message = drain(&defaults, body.as_bytes()).unwrap_err();
            assert!(message.contains(part), "{body}: {message}");
        }
    }

    #[test]
    fn takes_an_eviction_with_a_count() {
        let defaults = Drain::default();
        let some = evict(&defaults, br#"{"count":5}"#).unwrap();
        assert_eq!(
            (some.count, some.evict_rate, some.retry_after),
            (5, defaults.evict_rate, defaults.retry_after.clone())
        );
        let some = evict(&defaults, br#"{"count":5,"evictRate":2,"retryAfter":{"max":"9s"}}"#).unwrap();
        assert_eq!((some.evict_rate, some.retry_after.max.to_string()), (2, "9s".to_owned()));
        for (body, part) in [
            ("", "count"),
            (r#"{"evictRate":3}"#, "count"),
            (r#"{"count":-1}"#, "-1"),
            (r#"{"count":1,"evictRate":0}"#, "evictRate"),
            (r#"{"count":1,"deadline":"1s"}"#, "there are count, evictRate, retryAfter"),
        ] {
            let message = evict(&defaults, body.as_bytes()).unwrap_err();
            assert!(message.contains(part), "{body}: {message}");
        }
    }
}
