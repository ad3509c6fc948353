//! The pod template of a part. It complies with the `restricted` Pod Security Standard, spreads over nodes and zones,
//! and has its revision as a label.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec, ProjectedVolumeSource,
    SeccompProfile, SecretProjection, TopologySpreadConstraint, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use wscluster_api::WsCluster;
use wscluster_api::spec::{CredentialOrigin, Security};

use super::labels::{REVISION, label_selector, labels};
use super::{Part, account, config, container};
use crate::hash;

/// Annotation: whether the cluster autoscaler may remove the node of the pod.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Time between the end of a drain and SIGKILL.
const MARGIN: Duration = Duration::from_secs(15);

/// The termination grace period of a pod, given the longest duration of its drain.
pub(crate) fn grace(drain: Duration) -> Duration {
    drain + MARGIN
}

/// The pod template of a part around its `container`. `drain` is the longest duration of a drain.
pub(super) fn template(cluster: &WsCluster, part: Part, container: Container, drain: Duration) -> PodTemplateSpec {
    let wanted = part.template(&cluster.spec);
    let mut pod_labels = wanted.labels.clone();
    pod_labels.extend(labels(cluster, part));
    // Better packed nodes are not worth the loss of connections.
    let safe = if part == Part::Shard { "false" } else { "true" };
    let mut annotations = BTreeMap::from([(SAFE_TO_EVICT.to_owned(), safe.to_owned())]);
    annotations.extend(wanted.annotations.clone());
    let grace = grace(drain);
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container],
            service_account_name: Some(account::name(cluster, part)),
            automount_service_account_token: Some(part == Part::Gateway),
            // Otherwise a Service called `wscluster` would set WSCLUSTER_PORT and similar variables.
            enable_service_links: Some(false),
            // `runAsUser` is not set: OpenShift assigns a user and refuses any other.
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
                ..PodSecurityContext::default()
            }),
            termination_grace_period_seconds: i64::try_from(grace.as_millis().div_ceil(1000)).ok(),
            volumes: Some(vec![volume(cluster, part)]),
            image_pull_secrets: not_empty(&wanted.image_pull_secrets),
            node_selector: Some(wanted.node_selector.clone()).filter(|s| !s.is_empty()),
            affinity: wanted.affinity.clone(),
            tolerations: not_empty(&wanted.tolerations),
            topology_spread_constraints: not_empty(&spread(cluster, part)),
            priority_class_name: wanted.priority_class_name.clone(),
            ..PodSpec::default()
        }),
    };
    // The name of the ConfigMap makes the hash depend on the manifest.
    let hashed = serde_json::to_vec(&template).expect("a template is plain data");
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(REVISION.to_owned(), hash::hex(&hashed, 10));
    template
}

/// The revision of a template built by [`template`].
pub(super) fn revision(template: &PodTemplateSpec) -> String {
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    labels.and_then(|labels| labels.get(REVISION)).cloned().unwrap_or_default()
}

fn not_empty<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    Some(items.to_vec()).filter(|items| !items.is_empty())
}

/// Spreads pods over nodes and zones if possible, unless the manifest has its own rules.
fn spread(cluster: &WsCluster, part: Part) -> Vec<TopologySpreadConstraint> {
    let wanted = part.template(&cluster.spec);
    let ours = || Some(label_selector(cluster, part));
    if wanted.affinity.is_none() && wanted.topology_spread_constraints.is_empty() {
        let over = |key: &str| TopologySpreadConstraint {
            max_skew: 1,
            topology_key: key.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: ours(),
            ..TopologySpreadConstraint::default()
        };
        return vec![over("kubernetes.io/hostname"), over("topology.kubernetes.io/zone")];
    }
    let mut constraints = wanted.topology_spread_constraints.clone();
    for constraint in &mut constraints {
        // Without a selector the constraint would match no pod.
        constraint.label_selector = constraint.label_selector.take().or_else(ours);
    }
    constraints
}

/// The volume with the manifest and, for shards, the keys of Secrets that it refers to, as `secrets/SECRET/KEY`.
fn volume(cluster: &WsCluster, part: Part) -> Volume {
    let file = |key: &str, path: String| KeyToPath { key: key.to_owned(), path, mode: None };
    let mut sources = vec![VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: config::name(cluster, part),
            items: Some(vec![file(config::FILE, config::FILE.to_owned())]),
            optional: None,
        }),
        ..VolumeProjection::default()
    }];
    if part == Part::Shard {
        sources.extend(secrets(cluster).into_iter().map(|(secret, keys)| VolumeProjection {
            secret: Some(SecretProjection {
                name: secret.to_owned(),
                items: Some(keys.into_iter().map(|key| file(key, format!("secrets/{secret}/{key}"))).collect()),
                optional: None,
            }),
            ..VolumeProjection::default()
        }));
    }
    Volume {
        name: container::CONFIG.to_owned(),
        // Root owns the files, and the user of the process is unknown. No other user exists in the container.
        projected: Some(ProjectedVolumeSource { default_mode: Some(0o444), sources: Some(sources) }),
        ..Volume::default()
    }
}

fn secrets(cluster: &WsCluster) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut secrets = BTreeMap::<_, BTreeSet<_>>::new();
    for (_, credential) in cluster.spec.source.kafka.security.iter().flat_map(Security::credentials) {
        if let Some(CredentialOrigin::Secret(secret)) = credential.origin() {
            secrets.entry(secret.name.as_str()).or_default().insert(secret.key.as_str());
        }
    }
    secrets
}
