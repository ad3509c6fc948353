//! Publishes random trades, so that a new installation has messages to show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rand::RngExt as _;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;

/// Keys of the records, and their first prices.
pub(crate) const SYMBOLS: [(&str, f64); 6] =
    [("BTC", 97_000.0), ("ETH", 3_400.0), ("SOL", 190.0), ("XRP", 1.4), ("DOGE", 0.4), ("ICP", 10.0)];

/// Trades per second, all symbols together.
pub(crate) const RATE: f64 = 20.0;

/// Publishes trades until it is dropped.
#[derive(Debug)]
pub(crate) struct Demo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why the demo could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("failed to start the demo's producer: {0}")]
    Producer(#[from] rdkafka::error::KafkaError),
    #[error("failed to start the demo's thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Demo {
    /// Publishes trades to `topic` at `brokers`.
    pub(crate) fn start(brokers: &str, topic: &str) -> Result<Self, DemoError> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("linger.ms", "0")
            // The partitioner of the Java client: records with the same key go to the same partition, whichever
            // client writes them.
            .set("partitioner", "murmur2_random")
            .create()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (Arc::clone(&stop), topic.to_owned());
        let thread = thread::Builder::new().name("demo".into()).spawn(move || {
            let mut market = Market::default();
            while !stopped.load(Ordering::Relaxed) {
                let (key, value) = market.trade();
                if let Err((error, _)) = producer.send(BaseRecord::to(&topic).key(key).payload(&value)) {
                    tracing::warn!(%error, "failed to publish a demo trade");
                }
                producer.poll(Duration::ZERO);
                thread::sleep(Market::pause());
            }
            let _ = producer.flush(Duration::from_millis(500));
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It checks the flag at every trade.
            let _ = thread.join();
        }
    }
}

/// Prices on a random walk.
#[derive(Debug)]
struct Market {
    prices: [f64; SYMBOLS.len()],
    trades: u64,
}

impl Default for Market {
    fn default() -> Self {
        Self { prices: SYMBOLS.map(|(_, price)| price), trades: 0 }
    }
}

impl Market {
    /// Key and value of the next trade.
    fn trade(&mut self) -> (&'static str, String) {
        let mut rng = rand::rng();
        // The first symbols trade most.
        let at = rng.random_range(0..SYMBOLS.len()).min(rng.random_range(0..SYMBOLS.len()));
        let price = &mut self.prices[at];
        *price *= 1.0 + rng.random_range(-0.001..0.001);
        self.trades += 1;
        let digits = 10f64.powi((5 - price.log10() as i32).max(2));
        let trade = json!({
            "symbol": SYMBOLS[at].0,
            "price": (*price * digits).round() / digits,
            "amount": (rng.random_range(10.0..5_000.0) / *price * 1e4_f64).round() / 1e4,
            "side": if rng.random_bool(0.5) { "buy" } else { "sell" },
            "id": self.trades,
        });
        (SYMBOLS[at].0, trade.to_string())
    }

    /// Random time until the next trade.
    fn pause() -> Duration {
        Duration::from_secs_f64(rand::rng().random_range(0.2..1.8) / RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trades_stay_plausible() {
        let mut market = Market::default();
        let mut seen = std::collections::BTreeSet::new();
        for id in 1..=5_000u64 {
            let (key, value) = market.trade();
            let trade: serde_json::Value = serde_json::from_str(&value).unwrap();
            let start = SYMBOLS.iter().find(|(symbol, _)| *symbol == key).unwrap().1;
            let price = trade["price"].as_f64().unwrap();
            assert!(price > start / 3.0 && price < start * 3.0, "{value}");
            assert!(trade["amount"].as_f64().unwrap() > 0.0, "{value}");
            assert_eq!((trade["symbol"].as_str(), trade["id"].as_u64()), (Some(key), Some(id)));
            seen.insert(key);
        }
        assert_eq!(seen.len(), SYMBOLS.len());
    }
}
