//! Coalescing: records that are due together leave in one write.

use wscluster_api::units::Span;

use super::*;

#[tokio::test]
async fn records_that_arrive_together_leave_in_one_write() {
    let mut rig = Rig::start(1, |_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = rig.connect().await;
        client.subscribe(&["a", "b"]).await;
        clients.push(client);
    }
    until("acks counted", || rig.metric("wscluster_shard_deliveries_total") == 20.0).await;
    let writes = rig.metric("wscluster_shard_socket_writes_total");
    let records = (0..10).map(|number| rig.record(if number % 2 == 0 { "a" } else { "b" }, &json!(number))).collect();
    rig.feed(Update::Records(records)).await;
    for client in &mut clients {
        for number in 0..10 {
            assert_eq!(client.json().await["data"], number);
        }
    }
    until("deliveries counted", || rig.metric("wscluster_shard_deliveries_total") == 220.0).await;
    assert_eq!(rig.metric("wscluster_shard_socket_writes_total") - writes, 20.0);
}

#[tokio::test]
async fn waits_for_more_records_with_coalesce() {
    let mut rig = Rig::start(1, |settings| settings.delivery.coalesce = Span::millis(500)).await;
    let mut client = rig.connect().await;
    client.subscribe(&["a"]).await;
    until("the ack counted", || rig.metric("wscluster_shard_socket_writes_total") == 1.0).await;
    for number in 0..5 {
        rig.publish("a", json!(number)).await;
    }
    for number in 0..5 {
        assert_eq!(client.json().await["data"], number);
    }
    until("deliveries counted", || rig.metric("wscluster_shard_deliveries_total") == 6.0).await;
    assert_eq!(rig.metric("wscluster_shard_socket_writes_total"), 2.0);
}
