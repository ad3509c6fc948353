//! Callbacks of librdkafka: log, errors, token refresh, and topic ids.
//!
//! When a topic is recreated, librdkafka continues at the old offset. It only logs a debug line about the changed id,
//! before any record of the new topic. [`Context::id`] takes the id from that line, so that the reader notices in
//! time.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Statistics};

use super::security::TokenSource;

/// The callbacks of one client.
#[derive(Debug, Default)]
pub struct Context {
    tokens: Option<TokenSource>,
    /// The last error that librdkafka reported, which explains a failed call.
    reason: Mutex<String>,
    ids: Mutex<HashMap<String, String>>,
    ids_version: AtomicU64,
}

impl Context {
    pub(super) fn new(tokens: Option<TokenSource>) -> Self {
        Self { tokens, ..Self::default() }
    }

    pub(super) fn tokens(&self) -> Option<&TokenSource> {
        self.tokens.as_ref()
    }

    /// The last error that librdkafka reported; empty if there was none.
    pub fn reason(&self) -> String {
        lock(&self.reason).clone()
    }

    /// Changes whenever the result of [`Context::id`] may have changed.
    pub(super) fn ids_version(&self) -> u64 {
        self.ids_version.load(Ordering::Acquire)
    }

    /// The id of the topic from which librdkafka reads; `None` while it has not changed.
    pub(super) fn id(&self, topic: &str) -> Option<String> {
        lock(&self.ids).get(topic).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Topic and new id from `Topic NAME changed id from OLD to NEW`.
fn changed_id(line: &str) -> Option<(&str, &str)> {
    let (before, ids) = line.split_once(" changed id from ")?;
    let topic = before.rsplit_once("Topic ")?.1;
    Some((topic, ids.split_once(" to ")?.1.trim()))
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        if fac == "METADATA"
            && let Some((topic, id)) = changed_id(line)
        {
            lock(&self.ids).insert(topic.to_owned(), id.to_owned());
            self.ids_version.fetch_add(1, Ordering::Release);
        }
        // Warnings repeat what `error` reports, once for each broker and attempt, so they are logged at debug level.
        if matches!(level, RDKafkaLogLevel::Debug) {
            tracing::trace!(fac, "{line}");
        } else {
            tracing::debug!(fac, "{line}");
        }
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        let mut last = lock(&self.reason);
        // "All brokers are down" is less specific than the error of a broker before it.
        if last.is_empty() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            reason.clone_into(&mut last);
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.tokens.as_ref().ok_or("no token is configured: set source.kafka.security.sasl.oauth.token")?.token()
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_topic_id_from_the_log_of_librdkafka() {
        let context = Context::default();
        let line = "[thrd:main]: Topic odin.trades changed id from AAAAAAAAAAAAAAAAAAAAAA to Zk3bXk1nQ0y8l9Yt0mXw5A";
        let before = context.ids_version();
        context.log(RDKafkaLogLevel::Debug, "METADATA", line);
        assert_eq!(context.id("odin.trades").as_deref(), Some("Zk3bXk1nQ0y8l9Yt0mXw5A"));
        assert_ne!(context.ids_version(), before);
        context.log(RDKafkaLogLevel::Debug, "METADATA", "[thrd:main]: Topic odin.trades [0] Leader 1 Epoch 0");
        assert_eq!(context.id("odin.trades").as_deref(), Some("Zk3bXk1nQ0y8l9Yt0mXw5A"));
    }
}
