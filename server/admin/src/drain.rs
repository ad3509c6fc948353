//! `/drain` and `/evict`: the types of their bodies and answers, and the routes.
//!
//! | Request | Body | Answer |
//! |---|---|---|
//! | `POST /drain` | [`Drain`], any of its fields | 202 [`DrainStarted`] |
//! | `PUT /drain` | [`Drain`], any of its fields | 200 [`ConfiguredDrain`] |
//! | `DELETE /drain` | none | 200 [`DrainCancelled`] |
//! | `POST /evict` (shards only) | [`EvictRequest`], `count` and any other field | 202 [`EvictStarted`] |
//!
//! A body that cannot be used gets 400 or 415, a call without the token 401, one of another web page or machine 403,
//! one to an unknown host 421, and one that the present state forbids 409, all with a [`Refusal`].

use serde::{Deserialize, Serialize};
pub use wscluster_api::spec::Drain;
pub use wscluster_runtime::drain::EvictRequest;

pub use self::routes::{drain_routes, evict_route};
use crate::health::State;

mod routes;

/// Answer to `POST /drain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainStarted {
    /// Always [`State::Draining`].
    pub state: State,
    /// The drain that is carried out.
    pub drain: Drain,
}

/// Answer to `PUT /drain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfiguredDrain {
    /// The drain that a signal, or a `POST` with an empty body, starts from now on.
    pub drain: Drain,
}

/// Answer to `DELETE /drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainCancelled {
    /// Always false.
    pub draining: bool,
}

/// Answer to `POST /evict`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvictStarted {
    /// The eviction that is carried out.
    pub evict: EvictRequest,
}

/// Why a request was refused, by its word in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The body is wrong.
    BadRequest,
    /// The process ends: its drain can be neither replaced nor cancelled.
    Ending,
    /// The process drains, which moves every connection already.
    Draining,
    /// The `Host` field is no name of the process.
    ForeignHost,
    /// A web page of another origin sent the call.
    ForeignOrigin,
    /// The body is not of the type `application/json`.
    NotJson,
    /// The call does not carry the token of the process.
    NoCredential,
    /// The process has no token, and the call comes from another machine.
    OtherMachine,
}

/// The answer to a refused request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub error: RefusalCode,
    /// The field, the value and the remedy, for people.
    pub message: String,
}
