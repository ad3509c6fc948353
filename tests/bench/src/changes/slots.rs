//! Checks twice a second, at every gateway and at the run as a whole, that no shard holds more connections than its
//! capacity.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::interval;
use wscluster_admin::client::AdminClient;

const EVERY: Duration = Duration::from_millis(500);

/// The result of the checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Slots {
    /// Shards in all answers.
    pub(super) seen: u64,
    /// Shards with more connections than their capacity.
    pub(super) over: u64,
}

impl Slots {
    /// Polls forever, starting at `front`, the admin port of a `wscluster local`.
    pub(super) async fn watch(&mut self, front: SocketAddr) {
        let mut ticks = interval(EVERY);
        loop {
            ticks.tick().await;
            let Some(whole) = ask(&front.to_string()).await else { continue };
            self.note(&whole);
            for gateway in gateways(&whole) {
                // A gateway that is ending or was just killed does not answer.
                if let Some(health) = ask(gateway).await {
                    self.note(&health);
                }
            }
        }
    }

    /// Answers that show a shard above its capacity; NaN without any answer.
    pub(super) fn overfull(&self) -> f64 {
        if self.seen == 0 { f64::NAN } else { self.over as f64 }
    }

    fn note(&mut self, health: &Value) {
        for shard in health["shards"].as_array().into_iter().flatten() {
            let (held, most) = (shard["connections"].as_u64(), shard["max_connections"].as_u64());
            if let (Some(held), Some(most)) = (held, most) {
                self.seen += 1;
                self.over += u64::from(held > most);
            }
        }
    }
}

async fn ask(admin: &str) -> Option<Value> {
    AdminClient::new(Duration::from_secs(1)).health(admin).await.ok()
}

fn gateways(health: &Value) -> impl Iterator<Item = &str> {
    let processes = health["processes"].as_array().into_iter().flatten();
    processes.filter(|process| process["part"] == "gateway").filter_map(|process| process["admin"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_answers_that_show_a_shard_over_its_capacity() {
        let mut slots = Slots::default();
        assert!(slots.overfull().is_nan());
        let shard = |held| json!({ "id": "a", "connections": held, "max_connections": 160 });
        slots.note(&json!({ "shards": [shard(160), shard(161), shard(0)], "processes": [] }));
        slots.note(&json!({ "error": "none" }));
        assert_eq!(slots, Slots { seen: 3, over: 1 });
        assert!((slots.overfull() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn asks_gateways_and_not_shards() {
        let process = |part, admin| json!({ "part": part, "admin": admin });
        let health =
            json!({ "processes": [process("shard", "a:1"), process("gateway", "b:2"), process("gateway", "c:3")] });
        assert_eq!(gateways(&health).collect::<Vec<_>>(), ["b:2", "c:3"]);
    }
}
