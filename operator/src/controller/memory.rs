//! What the operator remembers of one cluster between two looks. All of it can be lost: the next look finds it out again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use tokio::time::Instant;
use wscluster_api::WsCluster;
use wscluster_api::status::WsClusterStatus;
use wscluster_plan::{Autoscaler, Reconnecting, Rounds};

use super::backoff::Backoff;
use crate::events::Note;
use crate::observe::{Missing, Observed};

/// Statuses in which only numbers moved are written no more often.
const COUNTS: Duration = Duration::from_secs(10);
/// The same thing is told again only after this long: until then it is a cache that was late.
const TOLD: Duration = Duration::from_secs(10);

/// What is remembered of one cluster.
#[derive(Debug, Default)]
pub(super) struct Memory {
    uid: String,
    /// Of applying.
    pub(super) backoff: Backoff,
    /// Of writing the status.
    pub(super) writing: Backoff,
    pub(super) missing: Missing,
    pub(super) reconnecting: Option<(Duration, Reconnecting)>,
    pub(super) autoscaler: Autoscaler,
    pub(super) rounds: Rounds,
    written: Option<Written>,
    /// The `StatefulSet` as it was last applied.
    applied: Option<Arc<StatefulSet>>,
    told: HashMap<&'static str, (String, Instant)>,
    /// The error of an object that cannot be read, once its status tells it.
    pub(super) malformed: Option<(Option<i64>, String)>,
}

#[derive(Debug)]
struct Written {
    /// Version of the object that was in the cache when the status was written.
    based_on: Option<String>,
    status: WsClusterStatus,
    at: Instant,
}

impl Memory {
    /// Of another object of the same name, everything is forgotten.
    pub(super) fn meet(&mut self, uid: &str) {
        if self.uid != uid {
            *self = Self { uid: uid.to_owned(), ..Self::default() };
        }
    }

    /// The status as it is now: the cached one, or the one that was written since, where the cache is late.
    pub(super) fn status(&self, cluster: &WsCluster) -> WsClusterStatus {
        match &self.written {
            Some(written) if written.based_on == cluster.metadata.resource_version => written.status.clone(),
            _ => cluster.status.clone().unwrap_or_default(),
        }
    }

    /// Puts the `StatefulSet` that was applied in the place of an older one, where the cache is late: as when the API server is back and the
    /// watch is not, and a plan would take back what the last one did.
    pub(super) fn know(&self, observed: &mut Observed) {
        let version = |set: &StatefulSet| (set.metadata.uid.clone(), set.metadata.generation);
        if let (Some(applied), Some(cached)) = (&self.applied, &observed.stateful_set) {
            let ((uid, new), (cached_uid, old)) = (version(applied), version(cached));
            if uid == cached_uid && new > old {
                observed.stateful_set = Some(Arc::clone(applied));
            }
        }
    }

    /// `set` was applied.
    pub(super) fn applied(&mut self, set: &Arc<StatefulSet>) {
        self.applied = Some(Arc::clone(set));
    }

    /// The time until mere counts may be written.
    pub(super) fn counts_due(&self) -> Duration {
        self.written.as_ref().map_or(Duration::ZERO, |written| COUNTS.saturating_sub(written.at.elapsed()))
    }

    /// `status` was written.
    pub(super) fn wrote(&mut self, cluster: &WsCluster, status: &WsClusterStatus) {
        self.writing.succeeded();
        let based_on = cluster.metadata.resource_version.clone();
        self.written = Some(Written { based_on, status: status.clone(), at: Instant::now() });
    }

    /// Those of `notes` that were not told just now.
    pub(super) fn not_told_yet(&mut self, notes: Vec<Note>) -> Vec<Note> {
        let now = Instant::now();
        self.told.retain(|_, (_, at)| at.elapsed() < TOLD);
        let is_new = |note: &Note| {
            let before = self.told.insert(note.reason, (note.text.clone(), now));
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
    async fn a_late_cache_does_not_hide_what_was_written() {
        let mut cluster: WsCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "wscluster.dev/v1alpha1", "kind": "WsCluster", "metadata": { "name": "a", "resourceVersion": "7" },
            "spec": { "source": { "kafka": { "topics": [] } } } }))
        .unwrap();
        let mut memory = Memory::default();
        let written = WsClusterStatus { shards: Some(3), ..WsClusterStatus::default() };
        memory.wrote(&cluster, &written);
        assert_eq!(memory.status(&cluster), written);
        cluster.metadata.resource_version = Some("8".to_owned());
        assert_eq!(memory.status(&cluster), WsClusterStatus::default(), "somebody else may have written");
    }

    #[test]
    fn a_late_cache_does_not_hide_what_was_applied() {
        let set = |generation: i64, uid: &str| {
            let set = serde_json::json!({ "metadata": { "uid": uid, "generation": generation } });
            Arc::new(serde_json::from_value::<StatefulSet>(set).unwrap())
        };
        let known = |cached: Arc<StatefulSet>| {
            let mut memory = Memory::default();
            memory.applied(&set(3, "u"));
            let mut observed = Observed { stateful_set: Some(cached), ..Observed::default() };
            memory.know(&mut observed);
            observed.stateful_set.unwrap().metadata.generation
        };
        assert_eq!(known(set(2, "u")), Some(3));
        assert_eq!(known(set(4, "u")), Some(4), "somebody else has changed it since");
        assert_eq!(known(set(1, "another")), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_not_told_twice_in_a_row() {
        let mut memory = Memory::default();
        let note = || vec![Note::normal("Scaled", "3 to 5")];
        assert_eq!(memory.not_told_yet(note()).len(), 1);
        assert_eq!(memory.not_told_yet(note()).len(), 0);
        assert_eq!(memory.not_told_yet(vec![Note::normal("Scaled", "5 to 3")]).len(), 1);
        assert_eq!(memory.not_told_yet(note()).len(), 1);
        advance(TOLD).await;
        assert_eq!(memory.not_told_yet(note()).len(), 1);
    }
}
