//! Watches: every kind in one namespace or in all, each into its store, and for each event the cluster that it concerns.
//!
//! An event goes into the store before its cluster is named, so whoever reconciles sees it. After a list, all clusters are named:
//! what was deleted while a watch was away leaves no event. A `WsCluster` that cannot be read is an object like any other here.

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

use self::backoff::Soon;
use crate::build::labels;
use crate::live::{Live, Writers, live};
use crate::metrics::{Metrics, WatchName};

/// A `WsCluster`, or why it cannot be read as one.
pub type Guarded = DeserializeGuard<WsCluster>;

/// Clusters to look at.
pub type Queue = mpsc::UnboundedSender<ObjectRef<Guarded>>;

/// What is watched in one namespace, or in all.
#[derive(Clone)]
pub struct Scope {
    /// The namespace; none: all.
    pub namespace: Option<String>,
    /// The clusters.
    pub clusters: Store<Guarded>,
    /// What they consist of.
    pub live: Live,
    /// Where clusters are named.
    pub queue: Queue,
    /// Watches that have listed.
    lists: Arc<watch::Sender<usize>>,
}

impl Scope {
    /// A scope, and its watches: a future that never ends, unless a watch breaks.
    pub fn new(
        client: &Client,
        namespace: Option<String>,
        metrics: &Arc<Metrics>,
        queue: Queue,
    ) -> (Self, BoxFuture<'static, ()>) {
        let (clusters, cluster_writer) = reflector::store();
        let (live, writers) = live();
        let scope = Self { namespace, clusters, live, queue, lists: Arc::new(watch::channel(0).0) };
        let watches = scope.watches(client, metrics, cluster_writer, writers);
        (scope, watches)
    }

    /// Done after the first list of every watch. Any number of tasks may wait for it; a store of the client wakes only one.
    pub async fn listed(&self) {
        // A sender that is gone is this one.
        let _ = self.lists.subscribe().wait_for(|lists| *lists >= WATCHES).await;
    }

    /// Names every cluster there is.
    pub fn all(&self) {
        for cluster in self.clusters.state() {
            self.look(ObjectRef::from_obj(&*cluster));
        }
    }

    /// Names one of them.
    pub fn look(&self, cluster: ObjectRef<Guarded>) {
        // Nobody listens when the process ends.
        let _ = self.queue.send(cluster);
    }

    fn watches(
        &self,
        client: &Client,
        metrics: &Arc<Metrics>,
        clusters: Writer<Guarded>,
        writers: Writers,
    ) -> BoxFuture<'static, ()> {
        let Writers {
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
            let mut events = watcher(api, config).backoff(Soon::default()).boxed();
            let mut first = true;
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => event.modify(|object| object.meta_mut().managed_fields = None),
                    Err(error) => {
                        metrics.failed("watch");
                        warn!(kind, namespace = scope.namespace, %error, "watch interrupted");
                        continue;
                    }
                };
                metrics.event(&name);
                writer.apply_watcher_event(&event);
                match &event {
                    watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
                        if let Some(cluster) = concerned(object) {
                            scope.look(cluster);
                        }
                    }
                    watcher::Event::InitDone => {
                        scope.lists.send_modify(|lists| *lists += usize::from(std::mem::take(&mut first)));
                        scope.all();
                    }
                    watcher::Event::Init | watcher::Event::InitApply(_) => {}
                }
            }
        }
        .boxed()
    }
}

/// Watches of a scope: the clusters, and ten kinds of what they consist of.
const WATCHES: usize = 11;

/// What the operator made carries its label.
const OURS: &str = "app.kubernetes.io/managed-by=wscluster-operator";

/// Pods are asked for by what the selectors of their owners ask for, whatever else was done to their labels: a `StatefulSet` counts
/// those, and one that the operator did not see would be taken for one that is not there.
const PODS: &str = "app.kubernetes.io/name=wscluster,app.kubernetes.io/component in (shard,gateway)";

/// The cluster that an event concerns: the object itself, or its owner; of a pod, whose owner is a `StatefulSet` or a `ReplicaSet`,
/// the one that its label names.
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

/// Waits until every scope has listed.
pub async fn listed(scopes: &[Scope]) {
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
    fn knows_whom_an_object_concerns() {
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
    fn watches_ask_for_the_label_that_objects_get() {
        assert_eq!(OURS, format!("{}={}", labels::MANAGED_BY, labels::OPERATOR));
        let parts = format!("{} in ({},{})", labels::COMPONENT, Part::Shard, Part::Gateway);
        assert_eq!(PODS, format!("{}={},{parts}", labels::NAME, labels::SOFTWARE));
    }
}
