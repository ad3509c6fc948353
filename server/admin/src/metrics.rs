//! `GET /metrics` and the metrics that every process has.
//!
//! Prometheus text (version 0.0.4) unless the request prefers OpenMetrics: [`respond`]. `process_*` and
//! `wscluster_build_info`: [`register_process`].

mod accept;
mod classic;
mod process;
pub mod reference;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use self::process::{process_reference, register_process};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to `GET /metrics` with these request headers.
pub fn respond(headers: &HeaderMap, registry: &Registry) -> Response {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accept::prefers_openmetrics(accept) {
        ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
    } else {
        ([(header::CONTENT_TYPE, CLASSIC)], classic::from_openmetrics(&text)).into_response()
    }
}

/// Everything in `registry` as Prometheus text.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, registry);
    classic::from_openmetrics(&text)
}
