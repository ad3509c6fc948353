//! The Kubernetes client. It counts every call, limits its duration, and permits writes only while the lease is held.
//!
//! A layer around kube's client does this, so that no caller can forget it. A write is abandoned when the lease ends.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};

use crate::api_call::{self, Call};
use crate::lease::WriteDeadline;
use crate::metrics::Metrics;

/// Longest time until the API server answers. For a watch, the time until the stream starts.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call was not made, or was abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// Only the holder of the lease may write.
    #[error("the lease is not held: another operator may be writing")]
    Fenced,
    /// The API server did not answer in time.
    #[error("no answer within {TIMEOUT:?}")]
    Slow,
}

/// A client that writes only until the deadline in `until`.
pub(crate) fn fenced(config: Config, metrics: &Arc<Metrics>, until: WriteDeadline) -> Result<Client, kube::Error> {
    build(config, metrics, Some(until))
}

/// A client for the lease itself.
pub(crate) fn unfenced(config: Config, metrics: &Arc<Metrics>) -> Result<Client, kube::Error> {
    build(config, metrics, None)
}

fn build(config: Config, metrics: &Arc<Metrics>, until: Option<WriteDeadline>) -> Result<Client, kube::Error> {
    let layer = Watched { metrics: Arc::clone(metrics), until };
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

#[derive(Clone)]
struct Watched {
    metrics: Arc<Metrics>,
    until: Option<WriteDeadline>,
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
        let (mut deadline, mut late) = (now + TIMEOUT, CallError::Slow);
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
                    metrics.called(&call, api_call::class(response.status()));
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
        assert_eq!(send(None, "GET", "/api/v1/pods").await, None, "a standby may read");
    }

    #[tokio::test(start_paused = true)]
    async fn abandons_a_write_when_the_lease_ends() {
        let began = Instant::now();
        assert_eq!(send(Some(Duration::from_secs(5)), "PATCH", "/slow").await, Some(CallError::Fenced));
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(send(Some(Duration::from_secs(500)), "PATCH", "/slow").await, Some(CallError::Slow));
        assert_eq!(began.elapsed(), Duration::from_secs(5) + TIMEOUT);
    }
}
