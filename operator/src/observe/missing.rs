//! Finds out why pods of a `StatefulSet` are missing. Its controller reports that only in Events.
//!
//! Events are listed only while pods are missing, after the few seconds that the controller needs, and then at most
//! every 15 seconds.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::time::Instant;

use super::ObservedCluster;

const PATIENCE: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_secs(15);

/// Remembers since when pods are missing, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct MissingPods {
    since: Option<Instant>,
    asked: Option<Instant>,
    why: Option<String>,
}

impl MissingPods {
    /// Records an observation. Returns whether it is time to list Events.
    pub(crate) fn note(&mut self, observed: &ObservedCluster) -> bool {
        if observed.replicas().is_none_or(|replicas| observed.shards.len() >= replicas as usize) {
            *self = Self::default();
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        since.elapsed() >= PATIENCE && self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY)
    }

    /// Records the result of listing Events.
    pub(crate) fn answered(&mut self, why: Option<String>) {
        self.asked = Some(Instant::now());
        self.why = why;
    }

    /// The last known reason.
    pub(crate) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// When to observe again, while pods are missing.
    pub(crate) fn look_again(&self) -> Option<Duration> {
        self.since.map(|_| if self.asked.is_some() { ASK_EVERY } else { PATIENCE })
    }
}

/// The last reason why the controller of the observed `StatefulSet` could not create pods.
pub(crate) async fn refusal(client: &Client, observed: &ObservedCluster) -> Result<Option<String>, kube::Error> {
    let Some(set) = &observed.stateful_set else { return Ok(None) };
    let api: Api<Event> = Api::namespaced(client.clone(), &set.namespace().unwrap_or_default());
    let fields = format!("involvedObject.uid={},reason=FailedCreate", set.uid().unwrap_or_default());
    let events = api.list(&ListParams::default().fields(&fields)).await?;
    Ok(events.items.iter().max_by_key(|event| last_seen(event)).and_then(|event| event.message.as_deref()).map(why))
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    series.max(last).max(event.event_time.as_ref().map(|time| time.0))
}

/// The part after `failed error:` in messages such as
/// `create Pod prices-0 in StatefulSet prices failed error: pods "prices-0" is forbidden: exceeded quota: …`.
fn why(message: &str) -> String {
    message.split_once("failed error: ").map_or(message, |(_, why)| why).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio::time::advance;

    use super::*;

    fn wanted(replicas: u32) -> ObservedCluster {
        let set = json!({ "metadata": {}, "spec": { "replicas": replicas, "selector": {}, "serviceName": "s", "template": {} } });
        ObservedCluster {
            stateful_set: Some(Arc::new(serde_json::from_value(set).unwrap())),
            ..ObservedCluster::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_events_when_pods_have_been_missing_for_a_while_and_then_rarely() {
        let mut missing = MissingPods::default();
        assert!(!missing.note(&wanted(1)));
        advance(Duration::from_secs(3)).await;
        assert!(missing.note(&wanted(1)));
        missing.answered(Some("quota".to_owned()));
        advance(Duration::from_secs(14)).await;
        assert!(!missing.note(&wanted(1)));
        assert_eq!(missing.why(), Some("quota"));
        advance(Duration::from_secs(1)).await;
        assert!(missing.note(&wanted(1)));
        assert!(!missing.note(&wanted(0)), "no pod is missing any more");
        assert_eq!((missing.why(), missing.look_again()), (None, None));
    }

    #[test]
    fn keeps_the_reason_of_the_api_server() {
        let text = "create Pod p-0 in StatefulSet p failed error: pods \"p-0\" is forbidden: exceeded quota: q, limited: pods=2";
        assert_eq!(why(text), "pods \"p-0\" is forbidden: exceeded quota: q, limited: pods=2");
        assert_eq!(why("no pods for you."), "no pods for you");
    }
}
