//! The HTTP/1.1 client for admin ports: pooled connections, and answers bounded in time and size.
//!
//! A client belongs to the tokio runtime on which it was first used, because its connections run there. The free
//! functions serve single requests; they open a connection for each.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
pub use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::drain::{Drain, EvictRequest};
use crate::token::Token;

/// Longest answer, unless [`AdminClient::max_body`] sets another limit.
const MAX_BODY_BYTES: usize = 8 << 20;

/// An unused connection is closed after this time: well before the server does so.
const IDLE: Duration = Duration::from_secs(5);

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("failed to {method} http://{address}{path}: {cause}")]
pub struct CallError {
    method: Method,
    address: String,
    path: String,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{}", root(&**.0))]
    Exchange(Box<dyn Error + Send + Sync>),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("answered {0}: {1}")]
    Status(StatusCode, String),
    #[error("answered {0} with no JSON: {1}")]
    NotJson(StatusCode, serde_json::Error),
    #[error("answered {0} with JSON of another shape: {1}")]
    Shape(StatusCode, serde_json::Error),
}

/// The innermost error of the chain; the outer ones only name the layer.
fn root<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

impl CallError {
    /// The I/O error that ended the exchange, if one did.
    pub fn io_error(&self) -> Option<&io::Error> {
        let Cause::Exchange(error) = &self.cause else { return None };
        let mut chain = std::iter::successors(Some(&**error as &(dyn Error + 'static)), |&error| error.source());
        chain.find_map(|error| error.downcast_ref())
    }

    /// The status of an answer that was refused or not understood.
    pub fn status(&self) -> Option<StatusCode> {
        match self.cause {
            Cause::Status(status, _) | Cause::NotJson(status, _) | Cause::Shape(status, _) => Some(status),
            Cause::Exchange(_) | Cause::Timeout(_) => None,
        }
    }
}

/// Sends requests to admin ports. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct AdminClient {
    http: Client<HttpConnector, Full<Bytes>>,
    within: Duration,
    max_body: usize,
    headers: HeaderMap,
    /// Sent with calls that change something.
    authorization: Option<HeaderValue>,
}

impl AdminClient {
    /// A client whose requests, with connecting, take at most `within`.
    pub fn new(within: Duration) -> Self {
        Self::build(within, 1)
    }

    fn build(within: Duration, idle_connections: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(idle_connections);
        Self {
            http: builder.build(connector),
            within,
            max_body: MAX_BODY_BYTES,
            headers: HeaderMap::new(),
            authorization: None,
        }
    }

    /// Adds a header field to every request.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sends `token` with calls that change something.
    #[must_use]
    pub fn token(mut self, token: &Token) -> Self {
        let value = HeaderValue::try_from(format!("Bearer {}", token.reveal())).ok();
        self.authorization = value.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        self
    }

    /// Limits answers to `bytes`.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// `GET path` at `address` (`host:port`): status and body.
    pub async fn get(&self, address: impl Display, path: &str) -> Result<(StatusCode, Bytes), CallError> {
        self.call(Call { method: Method::GET, address: address.to_string(), path }, None).await
    }

    /// `GET path` at `address`, a JSON value of type `T` whatever the status.
    pub async fn get_json<T: DeserializeOwned>(&self, address: impl Display, path: &str) -> Result<T, CallError> {
        let call = Call { method: Method::GET, address: address.to_string(), path };
        let (status, body) = self.call(call.clone(), None).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let is_json = error.is_data();
            call.failed(if is_json { Cause::Shape(status, error) } else { Cause::NotJson(status, error) })
        })
    }

    /// `GET /health` at `address`: a [`crate::health::ShardHealth`] or [`crate::health::GatewayHealth`].
    ///
    /// An unhealthy process may answer with a status other than 200; its body counts.
    pub async fn health<H: DeserializeOwned>(&self, address: impl Display) -> Result<H, CallError> {
        self.get_json(address, "/health").await
    }

    /// `POST /drain`: begins a drain, or replaces the one under way.
    pub async fn begin_drain(&self, address: impl Display, drain: &Drain) -> Result<(), CallError> {
        self.send(Method::POST, address, "/drain", Some(drain)).await.map(drop)
    }

    /// `PUT /drain`: sets the drain that a signal starts.
    pub async fn configure_drain(&self, address: impl Display, drain: &Drain) -> Result<(), CallError> {
        self.send(Method::PUT, address, "/drain", Some(drain)).await.map(drop)
    }

    /// `DELETE /drain`: cancels a drain.
    pub async fn cancel_drain(&self, address: impl Display) -> Result<(), CallError> {
        self.send(Method::DELETE, address, "/drain", None::<&Drain>).await.map(drop)
    }

    /// `POST /evict`: moves some connections away.
    pub async fn evict(&self, address: impl Display, evict: &EvictRequest) -> Result<(), CallError> {
        self.send(Method::POST, address, "/evict", Some(evict)).await.map(drop)
    }

    /// A call that changes something, with a JSON body; an error unless the status is 2xx.
    pub async fn send(
        &self,
        method: Method,
        address: impl Display,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, CallError> {
        let call = Call { method, address: address.to_string(), path };
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| call.failed(Cause::Exchange(error.into())))?;
        let (status, answer) = self.call(call.clone(), body.map(Bytes::from)).await?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(call.failed(Cause::Status(status, String::from_utf8_lossy(&answer).trim().to_owned())))
    }

    async fn call(&self, call: Call<'_>, body: Option<Bytes>) -> Result<(StatusCode, Bytes), CallError> {
        match tokio::time::timeout(self.within, self.exchange(&call, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(call.failed(Cause::Exchange(error))),
            Err(_) => Err(call.failed(Cause::Timeout(self.within))),
        }
    }

    async fn exchange(
        &self,
        call: &Call<'_>,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("http://{}{}", call.address, call.path))
            .body(Full::new(body.clone().unwrap_or_default()))?;
        request.headers_mut().extend(self.headers.clone());
        if call.method != Method::GET {
            request.headers_mut().extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
        }
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answer = self.http.request(request).await?;
        let status = answer.status();
        Ok((status, Limited::new(answer.into_body(), self.max_body).collect().await?.to_bytes()))
    }
}

#[derive(Clone)]
struct Call<'a> {
    method: Method,
    address: String,
    path: &'a str,
}

impl Call<'_> {
    fn failed(&self, cause: Cause) -> CallError {
        let Self { method, address, path } = self;
        CallError { method: method.clone(), address: address.clone(), path: (*path).to_owned(), cause }
    }
}

fn once(within: Duration) -> AdminClient {
    AdminClient::build(within, 0)
}

/// [`AdminClient::get`] on a connection of its own.
pub async fn get(address: &str, path: &str, within: Duration) -> Result<(StatusCode, Bytes), CallError> {
    once(within).get(address, path).await
}

/// [`AdminClient::get_json`] on a connection of its own.
pub async fn get_json(address: &str, path: &str, within: Duration) -> Result<serde_json::Value, CallError> {
    once(within).get_json(address, path).await
}

/// `POST path` at `address` with a JSON body; an error unless the status is 2xx.
pub async fn post_json(
    address: &str,
    path: &str,
    body: &serde_json::Value,
    within: Duration,
) -> Result<Bytes, CallError> {
    once(within).send(Method::POST, address, path, Some(body)).await
}

/// `DELETE path` at `address`; an error unless the status is 2xx.
pub async fn delete(address: &str, path: &str, within: Duration) -> Result<Bytes, CallError> {
    once(within).send(Method::DELETE, address, path, None::<&()>).await
}

#[cfg(test)]
mod tests;
