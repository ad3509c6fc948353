//! Delivery: records of any Kafka producer reach WebSocket clients through the gateway.

use serde_json::json;

use crate::run::{Client, Run, manifest};

#[tokio::test]
async fn record_reaches_a_client_on_every_shard_as_the_same_message() {
    let run = Run::start(&manifest(3, 10, ""), &[]);
    let mut clients = vec![run.client().await];
    for shard in run.ready["shards"].as_array().unwrap() {
        clients.push(Client::open(shard["ws"].as_str().unwrap()).await);
    }
    for client in &mut clients {
        let ack = client.subscribe(json!({ "channels": ["BTC.trade", "ETH.trade"] })).await;
        assert_eq!(ack["count"], 2);
    }
    run.publish("ETH", &json!({ "price": 3400.5 }));
    let mut messages = Vec::new();
    for client in &mut clients {
        messages.push(client.message(|message| message["channel"].is_string()).await);
    }
    assert_eq!(messages[0]["channel"], "ETH.trade");
    assert_eq!(messages[0]["data"], json!({ "price": 3400.5 }));
    assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
}

#[tokio::test]
async fn demo_publishes_at_once() {
    let run = Run::start(&manifest(1, 10, ""), &["--demo"]);
    let mut client = run.client().await;
    client.subscribe(json!({ "channels": ["BTC.trade", "ETH.trade"] })).await;
    let trade = client.message(|message| message["channel"].is_string()).await;
    assert!(trade["data"]["price"].as_f64().unwrap() > 0.0, "{trade}");
    assert_eq!(trade["channel"], format!("{}.trade", trade["data"]["symbol"].as_str().unwrap()));
}

#[tokio::test]
async fn health_sums_the_shards() {
    let run = Run::start(&manifest(2, 10, ""), &[]);
    let _clients = [run.client().await, run.client().await, run.client().await];
    let end = std::time::Instant::now() + crate::run::DEADLINE;
    let health = loop {
        let health = run.health().await;
        if health["checks"]["capacity"]["current"] == 3 {
            break health;
        }
        assert!(std::time::Instant::now() < end, "{health}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["checks"]["capacity"]["max"], 20);
    let shards = health["shards"].as_array().unwrap();
    assert_eq!(shards.iter().map(|shard| shard["connections"].as_u64().unwrap()).sum::<u64>(), 3);
}
