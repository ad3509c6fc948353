//! Drains that somebody else orders.

use serde_json::json;
use wscluster_admin::client::{Method, post_json};

use crate::run::{DEADLINE, Run, manifest};

#[tokio::test]
async fn takes_back_drains_that_it_did_not_order() {
    let run = Run::start(&manifest(2, 50, "  gateway: { replicas: 1 }\n"), &[]);
    for (name, admin) in
        [("prices-0", &run.ready["shards"][0]["admin"]), ("gateway-0", &run.ready["gateways"][0]["admin"])]
    {
        let admin = admin.as_str().unwrap();
        let stranger = post_json(admin, "/drain", &json!({}), DEADLINE).await.unwrap_err();
        assert_eq!(stranger.status().map(|status| status.as_u16()), Some(401));
        run.control().send(Method::POST, admin, "/drain", Some(&json!({}))).await.unwrap();
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &serde_json::Value| event["status"] != "healthy") {
            events.extend(run.events_until("status"));
        }
        let undrains = |event: &&serde_json::Value| event["name"] == name && event["action"] == "undrain";
        assert_eq!(events.iter().filter(undrains).count(), 1, "{events:?}");
        assert!(events.iter().any(|event| event["status"] == "degraded"), "{events:?}");
    }
}
