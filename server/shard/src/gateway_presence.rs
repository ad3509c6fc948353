//! The gateways that send clients to this shard: those that polled its health within the last seconds. The operator
//! begins no drain before every gateway has found the shards that will take the clients.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A gateway polls twice a second; some polls may fail.
const PRESENT: Duration = Duration::from_secs(3);
/// Names that are remembered: bounded, because any client of the admin port can send one.
const MOST: usize = 1_000;

/// The gateways that polled within [`PRESENT`], with the time of the last poll.
#[derive(Debug, Default)]
pub(super) struct GatewayPresence(Mutex<HashMap<String, Instant>>);

impl GatewayPresence {
    /// Counts a poll of the gateway `name`.
    pub(super) fn polled(&self, name: &str) {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = polls.get_mut(name) {
            *at = Instant::now();
        } else if polls.len() < MOST {
            polls.insert(name.to_owned(), Instant::now());
        }
    }

    /// The number of gateways that polled within [`PRESENT`].
    pub(super) fn count(&self) -> u32 {
        let mut polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polls.retain(|_, at| at.elapsed() < PRESENT);
        polls.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_gateways_that_polled_within_the_last_seconds() {
        let gateways = GatewayPresence::default();
        gateways.polled("a");
        gateways.polled("b");
        advance(Duration::from_secs(2)).await;
        gateways.polled("a");
        assert_eq!(gateways.count(), 2);
        advance(Duration::from_secs(2)).await;
        assert_eq!(gateways.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn remembers_a_bounded_number_of_gateways() {
        let gateways = GatewayPresence::default();
        (0..2 * MOST).for_each(|name| gateways.polled(&name.to_string()));
        assert_eq!(gateways.count() as usize, MOST);
    }
}
