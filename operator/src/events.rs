//! Events: one for each transition, with its numbers, in the words that conditions and steps use.
//!
//! Each is an object of its own. The client's recorder would fold those of one reason into the first one's text, and the numbers of
//! all others would be lost. An Event that cannot be written is logged and forgotten: it is a courtesy, not a state.

pub mod difference;
pub mod transitions;

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::metrics::Metrics;

/// Longest note that an API server takes, in bytes.
const LONGEST: usize = 1_024;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether a person should look.
    pub warns: bool,
    /// One word, in `PascalCase`.
    pub reason: &'static str,
    /// What happened.
    pub text: String,
}

impl Note {
    /// Nothing to worry about.
    pub fn normal(reason: &'static str, text: impl Into<String>) -> Self {
        Self { warns: false, reason, text: text.into() }
    }

    /// A person should look.
    pub fn warning(reason: &'static str, text: impl Into<String>) -> Self {
        Self { warns: true, reason, text: text.into() }
    }
}

/// Writes Events.
#[derive(Clone)]
pub struct Events {
    client: Client,
    metrics: Arc<Metrics>,
    instance: String,
}

impl Events {
    /// In the name of this process.
    pub fn new(client: Client, metrics: Arc<Metrics>, instance: impl Into<String>) -> Self {
        Self { client, metrics, instance: instance.into() }
    }

    /// Tells all of `notes` about an object, in their order.
    pub async fn tell(&self, about: &ObjectReference, notes: Vec<Note>) {
        let api: Api<Event> = Api::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        for note in notes {
            tracing::info!(
                namespace = about.namespace,
                cluster = about.name,
                reason = note.reason,
                note = note.text,
                "transition"
            );
            match api.create(&PostParams::default(), &self.event(about, note)).await {
                Ok(_) => drop(self.metrics.events.inc()),
                Err(error) => {
                    self.metrics.failed("event");
                    tracing::warn!(%error, "event not written");
                }
            }
        }
    }

    fn event(&self, about: &ObjectReference, note: Note) -> Event {
        let now = Timestamp::now();
        let name = about.name.clone().unwrap_or_default();
        let mut text = note.text;
        if text.len() > LONGEST {
            let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST - '…'.len_utf8()).last();
            text.truncate(end.unwrap_or(0));
            text.push('…');
        }
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: about.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(note.reason.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(text),
            reason: Some(note.reason.to_owned()),
            regarding: Some(about.clone()),
            reporting_controller: Some("wscluster.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.warns { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}
