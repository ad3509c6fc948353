//! Applies one object: skips it if it is up to date, fails if it belongs to somebody else, and otherwise forces the
//! apply.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;

use super::contains::contains;
use super::failure::{ApplyError, object};
use super::{APPLIED, ApplyTarget, MANAGER, controller};
use crate::caches::Cached;
use crate::hash;

impl ApplyTarget<'_> {
    /// [`Self::apply`] for an optional object.
    pub(super) async fn apply_some<K: Cached>(&self, wanted: Option<K>) -> Result<Option<K>, ApplyError> {
        match wanted {
            Some(wanted) => self.apply(wanted).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes the live object contain all fields of `wanted`, and returns it.
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
            // If somebody has changed the number of a port, an apply would add a second port with the same name,
            // because the number is the key of the list. A merge patch replaces the whole list. If something else is
            // wrong, it is refused, too.
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
        let parameters = if matches!(patch, Patch::Apply(_)) { parameters.force() } else { parameters };
        self.api::<K>().patch(name, &parameters, patch).await
    }

    /// The live object. The cache contains only objects with our labels, so others are read from the API server.
    async fn find<K: Cached>(&self, name: &str) -> Result<Option<Arc<K>>, ApplyError> {
        let key = ObjectRef::new(name).within(&self.namespace());
        if let Some(cached) = K::store(self.caches).get(&key) {
            return Ok(Some(cached));
        }
        let found = self.api::<K>().get_opt(name).await;
        Ok(found.map_err(|source| ApplyError::request::<K>("read", name, source))?.map(Arc::new))
    }

    /// The error for an object that belongs to somebody else.
    fn taken<K: Cached>(&self, found: &K) -> ApplyError {
        let owner = match controller(found) {
            None => "has no owner".to_owned(),
            Some(owner) if owner.kind == "WsCluster" && owner.name == self.cluster.name_any() => {
                "belongs to a deleted WsCluster with the same name, whose objects are about to be deleted".to_owned()
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

/// Whether the live object contains everything that is wanted. The annotation reveals fields that are no longer
/// wanted.
fn is_same<K: Cached>(live: &K, wanted: &K) -> bool {
    let json = |object: &K| serde_json::to_value(object).expect("an object is plain data");
    live.annotations().get(APPLIED) == wanted.annotations().get(APPLIED) && contains(&json(live), &json(wanted))
}
