//! What the operator remembers about one cluster between two reconciles. All of it may be lost: the next reconcile
//! recovers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use tokio::time::Instant;
use wscluster_api::WsCluster;
use wscluster_api::status::WsClusterStatus;
use wscluster_plan::{Autoscaler, RebalanceRounds, Reconnecting};

use super::backoff::Backoff;
use crate::events::Note;
use crate::observe::{MissingPods, ObservedCluster};
use crate::status::{Status, Subjects};

/// Shortest interval between writes of a status in which only numbers changed.
const NUMBERS: Duration = Duration::from_secs(10);
/// The same Event is published again only after this time. An earlier repetition is due to an outdated cache.
const REPEAT: Duration = Duration::from_secs(10);

/// The memory of one cluster.
#[derive(Debug, Default)]
pub(super) struct Memory {
    uid: String,
    /// For applying objects.
    pub(super) backoff: Backoff,
    /// For writing the status.
    pub(super) writing: Backoff,
    pub(super) missing: MissingPods,
    pub(super) reconnecting: Option<(Duration, Reconnecting)>,
    pub(super) autoscaler: Autoscaler,
    pub(super) rounds: RebalanceRounds,
    written: Option<Written>,
    /// The `StatefulSet` as last applied.
    applied: Option<Arc<StatefulSet>>,
    published: HashMap<Cow<'static, str>, (String, Instant)>,
    /// Generation and error of a malformed object, once its status contains the error.
    pub(super) malformed: Option<(Option<i64>, String)>,
}

#[derive(Debug)]
struct Written {
    /// Version of the cached object when the status was written.
    based_on: Option<String>,
    status: Status,
    at: Instant,
}

impl Memory {
    /// Forgets everything if the cluster is another object with the same name.
    pub(super) fn reset_unless(&mut self, uid: &str) {
        if self.uid != uid {
            *self = Self { uid: uid.to_owned(), ..Self::default() };
        }
    }

    /// The current status: the cached one, or the one written since if the cache is outdated.
    pub(super) fn status(&self, cluster: &WsCluster) -> WsClusterStatus {
        match self.newer(cluster) {
            Some(status) => status.object.clone(),
            None => cluster.status.clone().unwrap_or_default(),
        }
    }

    /// What the messages of the last written status are about. `None` if this process has not written one since it
    /// leads.
    pub(super) fn subjects(&self) -> Subjects {
        self.written.as_ref().map(|written| written.status.subjects.clone())
    }

    fn newer(&self, cluster: &WsCluster) -> Option<&Status> {
        let written = self.written.as_ref()?;
        (written.based_on == cluster.metadata.resource_version).then_some(&written.status)
    }

    /// Replaces the observed `StatefulSet` by the applied one if that is newer. The cache is outdated for a while
    /// after an outage of the API server, and a plan based on it would undo what the last one did.
    pub(super) fn prefer_applied(&self, observed: &mut ObservedCluster) {
        let version = |set: &StatefulSet| (set.metadata.uid.clone(), set.metadata.generation);
        if let (Some(applied), Some(cached)) = (&self.applied, &observed.stateful_set) {
            let ((uid, new), (cached_uid, old)) = (version(applied), version(cached));
            if uid == cached_uid && new > old {
                observed.stateful_set = Some(Arc::clone(applied));
            }
        }
    }

    /// Records that `set` was applied.
    pub(super) fn applied(&mut self, set: &Arc<StatefulSet>) {
        self.applied = Some(Arc::clone(set));
    }

    /// Time until a status in which only numbers changed may be written.
    pub(super) fn numbers_due(&self) -> Duration {
        self.written.as_ref().map_or(Duration::ZERO, |written| NUMBERS.saturating_sub(written.at.elapsed()))
    }

    /// Records that `status` was written.
    pub(super) fn wrote(&mut self, cluster: &WsCluster, status: Status) {
        self.writing.succeeded();
        let based_on = cluster.metadata.resource_version.clone();
        self.written = Some(Written { based_on, status, at: Instant::now() });
    }

    /// Those of `notes` that were not published just before.
    pub(super) fn unpublished(&mut self, notes: Vec<Note>) -> Vec<Note> {
        let now = Instant::now();
        self.published.retain(|_, (_, at)| at.elapsed() < REPEAT);
        let is_new = |note: &Note| {
            let before = self.published.insert(note.reason.clone(), (note.text.clone(), now));
            before.is_none_or(|(text, _)| text != note.text)
        };
        notes.into_iter().filter(is_new).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outdated_cache_does_not_hide_a_written_status() {
        let mut cluster: WsCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "wscluster.dev/v1alpha1", "kind": "WsCluster", "metadata": { "name": "a", "resourceVersion": "7" },
            "spec": { "source": { "kafka": { "topics": [] } } } }))
        .unwrap();
        let mut memory = Memory::default();
        let written = WsClusterStatus { shards: Some(3), ..WsClusterStatus::default() };
        memory.wrote(&cluster, Status { object: written.clone(), subjects: Vec::new() });
        assert_eq!(memory.status(&cluster), written);
        cluster.metadata.resource_version = Some("8".to_owned());
        assert_eq!(memory.status(&cluster), WsClusterStatus::default(), "somebody else may have written");
    }

    #[test]
    fn an_outdated_cache_does_not_hide_an_applied_object() {
        let set = |generation: i64, uid: &str| {
            let set = serde_json::json!({ "metadata": { "uid": uid, "generation": generation } });
            Arc::new(serde_json::from_value::<StatefulSet>(set).unwrap())
        };
        let known = |cached: Arc<StatefulSet>| {
            let mut memory = Memory::default();
            memory.applied(&set(3, "u"));
            let mut observed = ObservedCluster { stateful_set: Some(cached), ..ObservedCluster::default() };
            memory.prefer_applied(&mut observed);
            observed.stateful_set.unwrap().metadata.generation
        };
        assert_eq!(known(set(2, "u")), Some(3));
        assert_eq!(known(set(4, "u")), Some(4), "somebody else has changed it since");
        assert_eq!(known(set(1, "another")), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_is_not_published_twice_in_a_row() {
        let mut memory = Memory::default();
        let note = || vec![Note::normal("Scaled", "3 to 5")];
        assert_eq!(memory.unpublished(note()).len(), 1);
        assert_eq!(memory.unpublished(note()).len(), 0);
        assert_eq!(memory.unpublished(vec![Note::normal("Scaled", "5 to 3")]).len(), 1);
        assert_eq!(memory.unpublished(note()).len(), 1);
        advance(REPEAT).await;
        assert_eq!(memory.unpublished(note()).len(), 1);
    }
}
