//! Kubernetes Events: one for each transition, in the words of conditions and steps.
//!
//! Each Event is an object of its own. The client's recorder would merge Events with the same reason into the first
//! one and lose the numbers of all others. An Event that cannot be written is logged and dropped, because nothing
//! depends on it.

pub(crate) mod difference;

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::metrics::{ErrorCategory, Metrics};

/// Maximum length of a note that the API server accepts, in bytes.
const LONGEST: usize = 1_024;

/// The content of an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Whether it needs attention.
    pub(crate) is_warning: bool,
    /// The reason, in `PascalCase`.
    pub(crate) reason: Cow<'static, str>,
    pub(crate) text: String,
}

impl Note {
    pub(crate) fn normal(reason: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { is_warning: false, reason: reason.into(), text: text.into() }
    }

    pub(crate) fn warning(reason: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { is_warning: true, reason: reason.into(), text: text.into() }
    }
}

/// Writes Events.
#[derive(Clone)]
pub(crate) struct Events {
    client: Client,
    metrics: Arc<Metrics>,
    instance: String,
}

impl Events {
    /// `instance` is the name of this process in the Events.
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>, instance: impl Into<String>) -> Self {
        Self { client, metrics, instance: instance.into() }
    }

    /// Writes and logs `notes` about an object, in their order.
    pub(crate) async fn publish(&self, about: &ObjectReference, notes: Vec<Note>) {
        let api: Api<Event> = Api::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        for note in notes {
            tracing::info!(
                namespace = about.namespace,
                cluster = about.name,
                reason = &*note.reason,
                note = note.text,
                "transition"
            );
            match api.create(&PostParams::default(), &self.event(about, note)).await {
                Ok(_) => drop(self.metrics.events.inc()),
                Err(error) => {
                    self.metrics.failed(ErrorCategory::EventNotWritten);
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
            action: Some(note.reason.to_string()),
            event_time: Some(MicroTime(now)),
            note: Some(text),
            reason: Some(note.reason.into_owned()),
            regarding: Some(about.clone()),
            reporting_controller: Some("wscluster.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}
