//! Ten random edits of a specification within a minute; equal seeds give equal edits.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::stage::Stage;
use crate::error::Result;

/// Time between two edits.
type Edit = (Duration, &'static str, Value);

/// Makes the ten edits and waits until the run matches the last one.
pub(super) async fn happen(stage: &mut Stage, seed: u64) -> Result<()> {
    let mut due = Instant::now();
    for (pause, place, value) in edits(seed) {
        due += pause;
        sleep_until(due).await;
        stage.edit(&[(place, value)]).await?;
    }
    stage.event("applied").await.map(drop)
}

/// Ten edits, each of which changes something.
fn edits(seed: u64) -> Vec<Edit> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut shards, mut gateways) = (3, 2);
    let mut edit = |round: u32| {
        let pause = Duration::from_millis(rng.random_range(3_000..6_000));
        let (place, value) = match rng.random_range(0..6) {
            0 | 1 => {
                // Two to five, but not the current number.
                shards = 2 + (shards - 2 + rng.random_range(1..4)) % 4;
                ("/shards", json!(shards))
            }
            2 => ("/delivery/maxSubscriptions", json!(100 + round)),
            3 => ("/template/shard/env", json!([{ "name": "ROUND", "value": round.to_string() }])),
            4 => ("/gateway/queue", json!({ "timeout": format!("{}s", 6 + round) })),
            _ => {
                gateways = 5 - gateways;
                ("/gateway/replicas", json!(gateways))
            }
        };
        (pause, place, value)
    };
    (0..10).map(&mut edit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_the_same_for_the_same_seed_and_each_changes_something() {
        assert_eq!(edits(1), edits(1));
        assert_ne!(edits(1), edits(2));
        for seed in 0..100 {
            let edits = edits(seed);
            let whole: Duration = edits.iter().map(|(pause, ..)| *pause).sum();
            assert!(edits.len() == 10 && whole < Duration::from_mins(1), "{whole:?}");
            let mut last = std::collections::BTreeMap::from([("/shards", json!(3)), ("/gateway/replicas", json!(2))]);
            for (_, place, value) in edits {
                if place == "/shards" {
                    assert!((2..=5).contains(&value.as_u64().unwrap()), "{value}");
                }
                assert_ne!(last.insert(place, value.clone()), Some(value), "seed {seed}: {place}");
            }
        }
    }
}
