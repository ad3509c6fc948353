//! Small HTTP/1.1 client for admin ports: one request a connection, bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

/// An answer is at most this long.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("failed to {method} http://{address}{path}: {reason}")]
pub struct CallError {
    method: Method,
    address: String,
    path: String,
    reason: String,
}

/// `GET path` at `address` (`host:port`): status and body.
pub async fn get(address: &str, path: &str, within: Duration) -> Result<(StatusCode, Bytes), CallError> {
    call(Method::GET, address, path, None, within).await
}

/// `GET path` at `address`, a JSON value whatever the status.
pub async fn get_json(address: &str, path: &str, within: Duration) -> Result<serde_json::Value, CallError> {
    let (status, body) = get(address, path, within).await?;
    serde_json::from_slice(&body).map_err(|error| CallError {
        method: Method::GET,
        address: address.to_owned(),
        path: path.to_owned(),
        reason: format!("answered {status} with no JSON: {error}"),
    })
}

/// `POST path` at `address` with a JSON body; an error unless the status is 2xx.
pub async fn post_json(
    address: &str,
    path: &str,
    body: &serde_json::Value,
    within: Duration,
) -> Result<Bytes, CallError> {
    succeed(Method::POST, address, path, Some(body.to_string()), within).await
}

/// `PUT path`, as [`post_json`].
pub async fn put_json(
    address: &str,
    path: &str,
    body: &serde_json::Value,
    within: Duration,
) -> Result<Bytes, CallError> {
    succeed(Method::PUT, address, path, Some(body.to_string()), within).await
}

/// `DELETE path` at `address`; an error unless the status is 2xx.
pub async fn delete(address: &str, path: &str, within: Duration) -> Result<Bytes, CallError> {
    succeed(Method::DELETE, address, path, None, within).await
}

async fn succeed(
    method: Method,
    address: &str,
    path: &str,
    body: Option<String>,
    within: Duration,
) -> Result<Bytes, CallError> {
    let (status, answer) = call(method.clone(), address, path, body, within).await?;
    if status.is_success() {
        return Ok(answer);
    }
    let reason = format!("answered {status}: {}", String::from_utf8_lossy(&answer).trim());
    Err(CallError { method, address: address.to_owned(), path: path.to_owned(), reason })
}

async fn call(
    method: Method,
    address: &str,
    path: &str,
    body: Option<String>,
    within: Duration,
) -> Result<(StatusCode, Bytes), CallError> {
    let answer = tokio::time::timeout(within, exchange(&method, address, path, body)).await;
    let failed = |reason| CallError { method: method.clone(), address: address.into(), path: path.into(), reason };
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {within:?}"))),
    }
}

async fn exchange(
    method: &Method,
    address: &str,
    path: &str,
    body: Option<String>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, address);
    let request = match body {
        Some(body) => request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)))?,
        None => request.body(Full::default())?,
    };
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::routing::{get as on_get, post as on_post};

    use super::{delete, get, get_json, post_json};

    const LONG: Duration = Duration::from_secs(20);

    async fn server(routes: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    #[tokio::test]
    async fn reads_json_whatever_the_status() {
        let routes = Router::new()
            .route("/health", on_get(async || (axum::http::StatusCode::SERVICE_UNAVAILABLE, r#"{"healthy":false}"#)))
            .route("/text", on_get(async || "hello"));
        let address = server(routes).await;
        assert_eq!(get_json(&address, "/health", LONG).await.unwrap()["healthy"], false);
        let error = get_json(&address, "/text", LONG).await.unwrap_err().to_string();
        assert!(error.contains("answered 200 OK with no JSON"), "{error}");
    }

    #[tokio::test]
    async fn posts_json_and_tells_a_refusal() {
        let routes = Router::new().route("/drain", on_post(async |body: String| body));
        let address = server(routes).await;
        let body = serde_json::json!({ "evictRate": 5 });
        assert_eq!(post_json(&address, "/drain", &body, LONG).await.unwrap(), body.to_string());
        let error = delete(&address, "/drain", LONG).await.unwrap_err().to_string();
        assert!(error.contains("DELETE") && error.contains("405 Method Not Allowed"), "{error}");
        let error = post_json(&address, "/nothing", &body, LONG).await.unwrap_err().to_string();
        assert!(error.contains("answered 404 Not Found"), "{error}");
    }

    #[tokio::test]
    async fn gives_up_on_a_server_that_does_not_answer() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let error = get(&address, "/health", Duration::from_millis(50)).await.unwrap_err().to_string();
        assert!(error.contains("no answer within 50ms"), "{error}");
    }

    #[tokio::test]
    async fn names_the_address_nobody_listens_on() {
        let error = get("127.0.0.1:1", "/health", LONG).await.unwrap_err().to_string();
        assert!(error.contains("failed to GET http://127.0.0.1:1/health: Connection refused"), "{error}");
    }
}
