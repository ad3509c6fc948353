//! One object: skipped where it is right already, refused where it is somebody else's, else applied by force.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;

use super::failure::{ApplyError, object};
use super::same::contains;
use super::{APPLIED, MANAGER, Target, controller};
use crate::hash;
use crate::live::Cached;

impl Target<'_> {
    /// [`Self::apply`] for an object that a cluster may be without.
    pub(super) async fn apply_some<K: Cached>(&self, wanted: Option<K>) -> Result<Option<K>, ApplyError> {
        match wanted {
            Some(wanted) => self.apply(wanted).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes the live object carry all that `wanted` has, and returns it.
    pub(super) async fn apply<K: Cached>(&self, mut wanted: K) -> Result<K, ApplyError> {
        let name = wanted.name_any();
        let built = serde_json::to_vec(&wanted).expect("an object is plain data");
        wanted.annotations_mut().insert(APPLIED.to_owned(), hash::hex(&built, 16));
        let found = self.find::<K>(&name).await?;
        let exists = found.is_some();
        if let Some(found) = found {
            if !self.owns(&*found) {
                return Err(self.taken(&*found));
            }
            if is_same(&*found, &wanted) {
                return Ok(Arc::unwrap_or_clone(found));
            }
        }
        tracing::info!(kind = %K::kind(&()), name, namespace = self.namespace(), "applying");
        let patched = match self.patch(&name, &Patch::Apply(&wanted)).await {
            // A port that was renumbered by hand is, to a list with keys, one more of the same name. Replaced as a whole, the list
            // has ours alone; where something else is wrong this is refused, too.
            Err(kube::Error::Api(status)) if status.code == 422 && exists => {
                match self.patch(&name, &Patch::Merge(&wanted)).await {
                    Ok(_) => self.patch(&name, &Patch::Apply(&wanted)).await,
                    Err(_) => Err(kube::Error::Api(status)),
                }
            }
            patched => patched,
        };
        patched.map_err(|source| ApplyError::request::<K>("apply", &name, source))
    }

    async fn patch<K: Cached>(&self, name: &str, patch: &Patch<&K>) -> Result<K, kube::Error> {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        // Only an apply can be forced.
        let parameters = if matches!(patch, Patch::Apply(_)) { parameters.force() } else { parameters };
        self.api::<K>().patch(name, &parameters, patch).await
    }

    /// The live object. The cache has only those with our labels, so the API server is asked for one that is not in it.
    async fn find<K: Cached>(&self, name: &str) -> Result<Option<Arc<K>>, ApplyError> {
        let key = ObjectRef::new(name).within(&self.namespace());
        if let Some(cached) = K::store(self.live).get(&key) {
            return Ok(Some(cached));
        }
        let found = self.api::<K>().get_opt(name).await;
        Ok(found.map_err(|source| ApplyError::request::<K>("read", name, source))?.map(Arc::new))
    }

    /// Says whose `found` is.
    fn taken<K: Cached>(&self, found: &K) -> ApplyError {
        let owner = match controller(found) {
            None => "belongs to nobody".to_owned(),
            Some(owner) if owner.kind == "WsCluster" && owner.name == self.cluster.name_any() => {
                "belongs to an earlier WsCluster of this name, whose objects are about to go".to_owned()
            }
            Some(owner) => format!("belongs to {} {}", owner.kind, owner.name),
        };
        ApplyError::NameTaken { object: object::<K>(&found.name_any()), owner }
    }

    pub(super) fn api<K: Cached>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace())
    }

    pub(super) fn namespace(&self) -> String {
        self.cluster.namespace().unwrap_or_default()
    }
}

/// Whether the live object carries all that is wanted. The annotation tells of fields that are not wanted any more.
fn is_same<K: Cached>(live: &K, wanted: &K) -> bool {
    let json = |object: &K| serde_json::to_value(object).expect("an object is plain data");
    live.annotations().get(APPLIED) == wanted.annotations().get(APPLIED) && contains(&json(live), &json(wanted))
}
