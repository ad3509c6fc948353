//! The admin port of the operator: `/livez`, `/readyz` and `/metrics`.
//!
//! `/livez` fails only if a restart could help: if a watch has not attempted to list, watch or read anything for 15
//! minutes. Every watch does so at least every 5 minutes. An unreachable API server does not fail it, because each
//! attempt to reach it counts. `/readyz` succeeds after the first list of every watch. A replica without the lease is
//! ready, too, because its caches are warm.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use futures_util::FutureExt as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wscluster_admin::metrics::reference::{self, Note, note};
use wscluster_admin::metrics::register_process;

use crate::api_call::Call;
use crate::metrics::{Metrics, WatchName};

/// Three times the interval at which an idle watch is renewed.
const STUCK_AFTER: Duration = Duration::from_mins(15);

/// The admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to listen on {address}: {source}; choose another address with --admin, or stop the process that uses it"
)]
pub struct AdminError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Serves on `address` until the process ends. `ready` becomes true after the first list of every watch.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()>, AdminError> {
    let listener = match TcpListener::bind(address).await {
        // Without IPv6 there is no such address.
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    let listener = listener.map_err(|source| AdminError { address, source })?;
    let router = routes(metrics, ready);
    Ok(wscluster_admin::serve(listener, router).map(drop))
}

fn routes(metrics: Arc<Metrics>, ready: watch::Receiver<bool>) -> Router {
    let mut registry = Registry::default();
    register_process(&mut registry, env!("CARGO_PKG_VERSION"), "");
    register(&metrics, &mut registry);
    let registry = Arc::new(registry);
    Router::new()
        .route("/livez", get(move || async move { alive(&metrics) }))
        .route(
            "/readyz",
            get(move || async move {
                if *ready.borrow() {
                    (StatusCode::OK, "ok\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "starting: not every watch has listed yet\n")
                }
            }),
        )
        .route(
            "/metrics",
            get(move |headers: HeaderMap| async move { wscluster_admin::metrics::respond(&headers, &registry) }),
        )
}

fn register(metrics: &Arc<Metrics>, registry: &mut Registry) {
    let prefixed = registry.sub_registry_with_prefix("wscluster_operator");
    metrics.register(prefixed);
    prefixed.register_collector(Box::new(WatchAges(Arc::clone(metrics))));
}

/// The rows of `docs/metrics.md` for the operator, or which of them do not fit the code.
pub(crate) fn metrics_reference() -> Result<String, String> {
    let metrics = Arc::new(Metrics::new());
    // Families whose labels are open have no series, and so no text, before their first event.
    metrics.clusters(None, 0);
    metrics.called(&Call { verb: "", kind: "", namespace: None }, "");
    let mut registry = Registry::default();
    register(&metrics, &mut registry);
    reference::table(&registry, NOTES)
}

const fn labelled(name: &'static str, labels: &'static [&'static str], question: &'static str) -> Note {
    Note { name, question, labels }
}

const NOTES: &[Note] = &[
    note("wscluster_operator_leader", "Which replica acts?"),
    labelled("wscluster_operator_clusters", &["namespace"], "How many clusters does the operator see?"),
    note("wscluster_operator_reconciles_total", "Does the operator work, and how often?"),
    note("wscluster_operator_reconcile_duration_seconds", "How long does a cluster wait for its turn to end?"),
    note("wscluster_operator_errors_total", "What fails? The categories are reasons of the Degraded condition."),
    labelled(
        "wscluster_operator_api_requests_total",
        &["verb", "kind", "answer"],
        "How much does the operator ask of the API server, and what is refused?",
    ),
    note("wscluster_operator_health_requests_total", "Can the operator reach the shards?"),
    note("wscluster_operator_drain_requests_total", "Do shards accept drains?"),
    note("wscluster_operator_evict_requests_total", "Do shards accept rebalancing?"),
    note("wscluster_operator_status_writes_total", "How often does the state of clusters change?"),
    note("wscluster_operator_events_total", "How many Events are written?"),
    labelled("wscluster_operator_watch_age_seconds", &["kind", "namespace"], "Is a cache out of date?"),
];

fn alive(metrics: &Metrics) -> (StatusCode, String) {
    let stuck = metrics.stuck(STUCK_AFTER);
    if stuck.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let names: Vec<_> = stuck.iter().map(name).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: the watch of {}\n", names.join(", ")))
}

fn name((kind, namespace): &WatchName) -> String {
    namespace.as_ref().map_or_else(|| (*kind).to_owned(), |namespace| format!("{kind} in {namespace}"))
}

#[derive(Debug)]
struct WatchAges(Arc<Metrics>);

impl Collector for WatchAges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Time since the last answer of the API server on a watch";
        let mut ages = encoder.encode_descriptor("watch_age", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for ((kind, namespace), age) in self.0.ages() {
            let labels = [("kind", kind), ("namespace", namespace.as_deref().unwrap_or_default())];
            ages.encode_family(&labels)?.encode_gauge(&age.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(metrics: &Arc<Metrics>, ready: bool, path: &str) -> (StatusCode, String) {
        let (_, ready) = watch::channel(ready);
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let answer = routes(Arc::clone(metrics), ready).oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn watched() -> Arc<Metrics> {
        let metrics = Arc::new(Metrics::new());
        metrics.watches(("pods", Some("shop".to_owned())));
        metrics
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_api_server_is_no_reason_to_restart() {
        let metrics = watched();
        let call = Call { verb: "watch", kind: "pods", namespace: Some("shop".to_owned()) };
        for _ in 0..100 {
            advance(Duration::from_mins(1)).await;
            metrics.began(&call);
            metrics.called(&call, "error");
        }
        assert_eq!(ask(&metrics, true, "/livez").await.0, StatusCode::OK);
        let (_, text) = ask(&metrics, true, "/metrics").await;
        assert!(
            text.contains("wscluster_operator_watch_age_seconds{kind=\"pods\",namespace=\"shop\"} 6000.0"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_without_any_attempt_is_a_reason_to_restart() {
        let metrics = watched();
        advance(STUCK_AFTER).await;
        assert_eq!(ask(&metrics, true, "/livez").await.0, StatusCode::OK);
        advance(Duration::from_secs(1)).await;
        // The watch of another namespace does not count for this one.
        metrics.began(&Call { verb: "watch", kind: "pods", namespace: None });
        let (status, text) = ask(&metrics, true, "/livez").await;
        assert_eq!((status, &*text), (StatusCode::SERVICE_UNAVAILABLE, "stuck: the watch of pods in shop\n"));
    }

    #[tokio::test]
    async fn is_ready_after_the_first_lists() {
        assert_eq!(ask(&watched(), false, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(&watched(), true, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn counts_requests_by_verb_kind_and_answer() {
        let metrics = watched();
        metrics
            .called(&Call { verb: "patch", kind: "wsclusters/status", namespace: Some("shop".to_owned()) }, "conflict");
        let (_, text) = ask(&metrics, true, "/metrics").await;
        let line =
            "wscluster_operator_api_requests_total{verb=\"patch\",kind=\"wsclusters/status\",answer=\"conflict\"} 1";
        assert!(text.contains(line), "{text}");
    }

    #[tokio::test]
    async fn series_exist_before_the_first_event() {
        let (_, text) = ask(&watched(), true, "/metrics").await;
        for line in [
            concat!("wscluster_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\",revision=\"\"} 1"),
            "wscluster_operator_errors_total{category=\"NameTaken\"} 0",
            "wscluster_operator_drain_requests_total{outcome=\"failed\"} 0",
            "wscluster_operator_health_requests_total{outcome=\"answered\"} 0",
            "wscluster_operator_reconcile_duration_seconds_count 0",
            "wscluster_operator_leader 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
