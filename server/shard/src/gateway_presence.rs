//! Which gateways send clients here: those that asked for this shard's health a moment ago. The operator begins no drain before every
//! gateway knows the shards that are to take the clients.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A gateway asks twice a second; one poll may fail.
const LATELY: Duration = Duration::from_secs(3);
/// Names that are remembered, as anybody may send one.
const MOST: usize = 1_000;

/// The gateways that asked lately.
#[derive(Debug, Default)]
pub(super) struct Gateways(Mutex<HashMap<String, Instant>>);

impl Gateways {
    /// `name` asked now.
    pub(super) fn asked(&self, name: &str) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = asked.get_mut(name) {
            *at = Instant::now();
        } else if asked.len() < MOST {
            asked.insert(name.to_owned(), Instant::now());
        }
    }

    /// How many asked lately.
    pub(super) fn count(&self) -> u32 {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, at| at.elapsed() < LATELY);
        asked.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_gateways_that_asked_lately() {
        let gateways = Gateways::default();
        gateways.asked("a");
        gateways.asked("b");
        advance(Duration::from_secs(2)).await;
        gateways.asked("a");
        assert_eq!(gateways.count(), 2);
        advance(Duration::from_secs(2)).await;
        assert_eq!(gateways.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn remembers_no_more_than_so_many() {
        let gateways = Gateways::default();
        (0..2 * MOST).for_each(|name| gateways.asked(&name.to_string()));
        assert_eq!(gateways.count() as usize, MOST);
    }
}
