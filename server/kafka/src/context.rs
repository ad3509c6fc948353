//! What librdkafka calls back: its log, its errors, its wish for a new token, and the topic ids it reads by.
//!
//! librdkafka keeps reading at the old offset when a topic was recreated (its own source says so). It does say, in a debug
//! line of its metadata, that the id changed, and that line comes before any record of the new topic: [`Context::id`] is
//! how the reader notices in time.

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
    /// The last error that librdkafka told, to explain a call that fails.
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

    /// The last error that librdkafka told; empty when it told none.
    pub fn reason(&self) -> String {
        lock(&self.reason).clone()
    }

    /// Changes whenever an answer of [`Context::id`] may have changed.
    pub(super) fn ids_version(&self) -> u64 {
        self.ids_version.load(Ordering::Acquire)
    }

    /// The id of the topic from which librdkafka reads, as far as it told.
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
        // Its warnings are what `error` tells, in other words and once a broker and attempt: for those who look for them.
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
        // That all are down follows from what was told of each, and says less.
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
    fn reads_the_id_that_librdkafka_reads_by() {
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
