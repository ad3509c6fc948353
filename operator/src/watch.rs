//! Watches every kind in one namespace or in all. Each event updates a cache and queues the cluster that it concerns.
//!
//! The cache is updated before the cluster is queued, so the reconcile sees the event. After a list, all clusters are
//! queued, because deletions during an interruption leave no event. A malformed `WsCluster` is handled like any other
//! object here.

mod backoff;

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt as _, StreamExt as _};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tracing::warn;
use wscluster_api::WsCluster;

use self::backoff::WatchBackoff;
use crate::build::labels;
use crate::caches::{CacheWriters, Caches, caches};
use crate::metrics::{ErrorCategory, Metrics, WatchName};

/// A `WsCluster`, or the error if the object cannot be parsed as one.
pub(crate) type Guarded = DeserializeGuard<WsCluster>;

/// The queue of clusters to reconcile.
pub(crate) type Queue = mpsc::UnboundedSender<ObjectRef<Guarded>>;

/// The watches of one namespace, or of all.
#[derive(Clone)]
pub(crate) struct Scope {
    /// The namespace; `None` for all.
    pub(crate) namespace: Option<String>,
    pub(crate) clusters: Store<Guarded>,
    /// The objects of the clusters.
    pub(crate) caches: Caches,
    pub(crate) queue: Queue,
    /// Number of watches that have listed.
    lists: Arc<watch::Sender<usize>>,
}

impl Scope {
    /// A scope, and a future that runs its watches. The future never completes unless a watch breaks.
    pub(crate) fn new(
        client: &Client,
        namespace: Option<String>,
        metrics: &Arc<Metrics>,
        queue: Queue,
    ) -> (Self, BoxFuture<'static, ()>) {
        let (clusters, cluster_writer) = reflector::store();
        let (caches, writers) = caches();
        let scope = Self { namespace, clusters, caches, queue, lists: Arc::new(watch::channel(0).0) };
        let watches = scope.watches(client, metrics, cluster_writer, writers);
        (scope, watches)
    }

    /// Waits for the first list of every watch. Unlike `Store::wait_until_ready`, any number of tasks may wait.
    pub(crate) async fn listed(&self) {
        let _ = self.lists.subscribe().wait_for(|lists| *lists >= WATCHES).await;
    }

    /// Queues every cluster.
    pub(crate) fn queue_all(&self) {
        for cluster in self.clusters.state() {
            self.queue(ObjectRef::from_obj(&*cluster));
        }
    }

    /// Queues a cluster.
    pub(crate) fn queue(&self, cluster: ObjectRef<Guarded>) {
        // The receiver is gone only while the process ends.
        let _ = self.queue.send(cluster);
    }

    fn watches(
        &self,
        client: &Client,
        metrics: &Arc<Metrics>,
        clusters: Writer<Guarded>,
        writers: CacheWriters,
    ) -> BoxFuture<'static, ()> {
        let CacheWriters {
            stateful_sets,
            deployments,
            pods,
            services,
            service_accounts,
            roles,
            role_bindings,
            config_maps,
            budgets,
            policies,
        } = writers;
        let all: [_; WATCHES] = [
            self.follow(client, metrics, "wsclusters", clusters, ""),
            self.follow(client, metrics, "statefulsets", stateful_sets, OURS),
            self.follow(client, metrics, "deployments", deployments, OURS),
            self.follow(client, metrics, "pods", pods, PODS),
            self.follow(client, metrics, "services", services, OURS),
            self.follow(client, metrics, "serviceaccounts", service_accounts, OURS),
            self.follow(client, metrics, "roles", roles, OURS),
            self.follow(client, metrics, "rolebindings", role_bindings, OURS),
            self.follow(client, metrics, "configmaps", config_maps, OURS),
            self.follow(client, metrics, "poddisruptionbudgets", budgets, OURS),
            self.follow(client, metrics, "networkpolicies", policies, OURS),
        ];
        futures_util::future::select_all(all).map(|_| ()).boxed()
    }

    fn follow<K>(
        &self,
        client: &Client,
        metrics: &Arc<Metrics>,
        kind: &'static str,
        mut writer: Writer<K>,
        labels: &str,
    ) -> BoxFuture<'static, ()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K: Send + Sync + 'static,
    {
        let api: Api<K> = match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let (scope, metrics) = (self.clone(), Arc::clone(metrics));
        let name: WatchName = (kind, self.namespace.clone());
        metrics.watches(name.clone());
        let config = watcher::Config::default().labels(labels);
        async move {
            let mut events = watcher(api, config).backoff(WatchBackoff::default()).boxed();
            let mut first = true;
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => event.modify(|object| object.meta_mut().managed_fields = None),
                    Err(error) => {
                        metrics.failed(ErrorCategory::WatchInterrupted);
                        warn!(kind, namespace = scope.namespace, %error, "watch interrupted");
                        continue;
                    }
                };
                metrics.event(&name);
                writer.apply_watcher_event(&event);
                match &event {
                    watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
                        if let Some(cluster) = concerned(object) {
                            scope.queue(cluster);
                        }
                    }
                    watcher::Event::InitDone => {
                        scope.lists.send_modify(|lists| *lists += usize::from(std::mem::take(&mut first)));
                        scope.queue_all();
                    }
                    watcher::Event::Init | watcher::Event::InitApply(_) => {}
                }
            }
        }
        .boxed()
    }
}

/// Number of watches per scope: one for the clusters, and one for each cached kind.
const WATCHES: usize = 11;

/// Selects the objects that the operator has created.
const OURS: &str = "app.kubernetes.io/managed-by=wscluster-operator";

/// Selects pods by the labels in the selectors of their owners, so that the operator sees exactly the pods that a
/// `StatefulSet` counts, even if somebody has removed other labels. A pod that it did not see would be treated as
/// missing.
const PODS: &str = "app.kubernetes.io/name=wscluster,app.kubernetes.io/component in (shard,gateway)";

/// The cluster that an event concerns: the object itself, or its owner. For pods, whose owner is a `StatefulSet` or
/// `ReplicaSet`, the cluster in their label.
fn concerned<K: Resource<DynamicType = ()>>(object: &K) -> Option<ObjectRef<Guarded>> {
    let namespace = object.namespace()?;
    if K::kind(&()) == WsCluster::kind(&()) {
        return Some(ObjectRef::new(&object.name_any()).within(&namespace));
    }
    let owned = object.meta().owner_references.iter().flatten().find_map(|owner| {
        (owner.controller == Some(true)).then(|| ObjectRef::from_owner_ref(Some(&namespace), owner, ())).flatten()
    });
    let named = || object.labels().get(labels::INSTANCE).map(|name| ObjectRef::new(name).within(&namespace));
    owned.or_else(named)
}

/// Waits for the first lists of all scopes.
pub(crate) async fn listed(scopes: &[Scope]) {
    join_all(scopes.iter().map(Scope::listed)).await;
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;

    use super::*;
    use crate::build::Part;

    fn owner(kind: &str, name: &str) -> serde_json::Value {
        let version = if kind == "WsCluster" { "wscluster.dev/v1alpha1" } else { "apps/v1" };
        json!({ "apiVersion": version, "kind": kind, "name": name, "uid": "u", "controller": true })
    }

    #[test]
    fn finds_the_cluster_of_an_object() {
        let named = |name: &str| Some(ObjectRef::<Guarded>::new(name).within("shop"));
        let config: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "a-shard", "namespace": "shop",
            "labels": { "app.kubernetes.io/instance": "other" }, "ownerReferences": [owner("WsCluster", "a")] } }))
        .unwrap();
        assert_eq!(concerned(&config), named("a"));
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "a-0", "namespace": "shop",
            "labels": { "app.kubernetes.io/instance": "a" }, "ownerReferences": [owner("StatefulSet", "a")] } }))
        .unwrap();
        assert_eq!(concerned(&pod), named("a"));
        let malformed: Guarded =
            serde_json::from_value(json!({ "metadata": { "name": "m", "namespace": "shop" }, "spec": 7 })).unwrap();
        assert!(malformed.0.is_err());
        assert_eq!(concerned(&malformed), named("m"));
    }

    #[test]
    fn watches_select_by_the_labels_that_objects_get() {
        assert_eq!(OURS, format!("{}={}", labels::MANAGED_BY, labels::OPERATOR));
        let parts = format!("{} in ({},{})", labels::COMPONENT, Part::Shard, Part::Gateway);
        assert_eq!(PODS, format!("{}={},{parts}", labels::NAME, labels::SOFTWARE));
    }
}
