//! The Kubernetes client of the operator: every call is counted, bounded in time, and a write is only made while the lease is held.
//!
//! One layer around kube's own stack does it, so no caller can forget. A write that is under way when the lease ends is given up.

mod call;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};

pub use self::call::Call;
use crate::lease::Until;
use crate::metrics::Metrics;

/// How long the API server may take to answer, watches aside: theirs is the time until they begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a call was not made, or was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Only the holder of the lease writes.
    #[error("the lease is not held: another operator may be writing")]
    Fenced,
    /// The API server is slow.
    #[error("no answer within {PATIENCE:?}")]
    Slow,
}

/// A client for everything but the lease itself: it writes only while `until` allows it.
pub fn fenced(config: Config, metrics: &Arc<Metrics>, until: Until) -> Result<Client, kube::Error> {
    build(config, metrics, Some(until))
}

/// A client for the lease.
pub fn unfenced(config: Config, metrics: &Arc<Metrics>) -> Result<Client, kube::Error> {
    build(config, metrics, None)
}

fn build(config: Config, metrics: &Arc<Metrics>, until: Option<Until>) -> Result<Client, kube::Error> {
    let layer = Watched { metrics: Arc::clone(metrics), until };
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

#[derive(Clone)]
struct Watched {
    metrics: Arc<Metrics>,
    until: Option<Until>,
}

impl<S> Layer<S> for Watched {
    type Service = Watch<S>;
    fn layer(&self, inner: S) -> Watch<S> {
        Watch { inner, around: self.clone() }
    }
}

struct Watch<S> {
    inner: S,
    around: Watched,
}

impl<S, B> Service<Request<Body>> for Watch<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::of(request.method(), request.uri());
        let metrics = Arc::clone(&self.around.metrics);
        let now = Instant::now();
        let (mut deadline, mut late) = (now + PATIENCE, CallError::Slow);
        if let (true, Some(until)) = (call.writes(), &self.around.until) {
            let until = until.borrow().filter(|until| *until > now);
            let Some(until) = until else {
                metrics.called(&call, "fenced");
                return Box::pin(async { Err(CallError::Fenced.into()) });
            };
            if until < deadline {
                (deadline, late) = (until, CallError::Fenced);
            }
        }
        metrics.began(&call);
        let answer = self.inner.call(request);
        Box::pin(async move {
            match timeout_at(deadline, answer).await {
                Ok(Ok(response)) => {
                    metrics.called(&call, call::class(response.status()));
                    Ok(response)
                }
                Ok(Err(error)) => {
                    metrics.called(&call, "error");
                    Err(error.into())
                }
                Err(_) => {
                    metrics.called(&call, "error");
                    Err(late.into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::watch;
    use tower::service_fn;

    use super::*;

    fn watched(until: Option<Instant>) -> impl Service<Request<Body>, Response = Response<()>, Error = BoxError> {
        let (_, until) = watch::channel(until);
        let layer = Watched { metrics: Arc::new(Metrics::new()), until: Some(until) };
        layer.layer(service_fn(async |request: Request<Body>| {
            if request.uri().path().ends_with("slow") {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new(()))
        }))
    }

    async fn send(until: Option<Duration>, method: &str, path: &str) -> Option<CallError> {
        let mut service = watched(until.map(|until| Instant::now() + until));
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let error = service.call(request).await.err()?;
        Some(*error.downcast::<CallError>().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn writes_only_while_the_lease_is_held() {
        let held = Some(Duration::from_secs(5));
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(send(None, method, "/api/v1/pods").await, Some(CallError::Fenced), "{method}");
            assert_eq!(send(Some(Duration::ZERO), method, "/api/v1/pods").await, Some(CallError::Fenced), "{method}");
            assert_eq!(send(held, method, "/api/v1/pods").await, None, "{method}");
        }
        assert_eq!(send(None, "GET", "/api/v1/pods").await, None, "a standby reads");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_a_write_when_the_lease_ends() {
        let began = Instant::now();
        assert_eq!(send(Some(Duration::from_secs(5)), "PATCH", "/slow").await, Some(CallError::Fenced));
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(send(Some(Duration::from_secs(500)), "PATCH", "/slow").await, Some(CallError::Slow));
        assert_eq!(began.elapsed(), Duration::from_secs(5) + PATIENCE);
    }
}
