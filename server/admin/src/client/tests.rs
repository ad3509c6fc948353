use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use axum::Router;
use axum::routing::{get as on_get, post as on_post};

use super::*;

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
async fn posts_json_and_reports_a_refusal() {
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

#[tokio::test]
async fn keeps_its_connection_and_sends_its_headers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let accepted = Arc::clone(&connections);
    let echo = async |headers: axum::http::HeaderMap| axum::Json(headers["x-name"].to_str().unwrap().to_owned());
    let routes = Router::new().route("/health", on_get(echo));
    let listener = axum::serve::ListenerExt::tap_io(listener, move |_| {
        accepted.fetch_add(1, SeqCst);
    });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let name = HeaderValue::from_static("gateway-1");
    let client = AdminClient::new(LONG).header(HeaderName::from_static("x-name"), name);
    for _ in 0..3 {
        assert_eq!(client.health::<String>(address).await.unwrap(), "gateway-1");
    }
    assert_eq!(connections.load(SeqCst), 1);
    let error = client.health::<u32>(address).await.unwrap_err().to_string();
    assert!(error.contains("answered 200 OK with JSON of another shape"), "{error}");
}

#[tokio::test]
async fn refuses_an_answer_above_its_limit() {
    let address = server(Router::new().route("/health", on_get(async || "x".repeat(100)))).await;
    assert!(AdminClient::new(LONG).max_body(100).get(&address, "/health").await.is_ok());
    let error = AdminClient::new(LONG).max_body(99).get(&address, "/health").await.unwrap_err().to_string();
    assert!(error.contains("limit"), "{error}");
}

#[tokio::test]
async fn gives_the_io_error_of_a_failed_connect() {
    let error = AdminClient::new(LONG).get("127.0.0.1:1", "/health").await.unwrap_err();
    assert_eq!(error.io_error().map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused), "{error}");
}
