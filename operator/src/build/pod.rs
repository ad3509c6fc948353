//! The pod of a part: restricted as Kubernetes' Pod Security Standards ask for, spread over nodes and zones, and marked with its
//! revision.

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

/// Whether the autoscaler of nodes may take the pod's node away.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// What is left between the end of a drain and the kill.
const MARGIN: Duration = Duration::from_secs(15);

/// The time that a pod has to end, where a drain may take so long.
pub(crate) fn grace(drain: Duration) -> Duration {
    drain + MARGIN
}

/// The pod of a part around its `container`. `drain` is how long it may take to end.
pub(super) fn template(cluster: &WsCluster, part: Part, container: Container, drain: Duration) -> PodTemplateSpec {
    let wanted = part.template(&cluster.spec);
    let mut pod_labels = wanted.labels.clone();
    pod_labels.extend(labels(cluster, part));
    // A shard holds connections that a better packed node is not worth; the operator moves them when it must be.
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
            // A Service called `wscluster` would otherwise set WSCLUSTER_PORT and the like.
            enable_service_links: Some(false),
            // The user is that of the image, or the one that the cluster gives, as OpenShift does, which refuses any other.
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
    // With the manifest in it, by the name of its ConfigMap.
    let hashed = serde_json::to_vec(&template).expect("a template is plain data");
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(REVISION.to_owned(), hash::hex(&hashed, 10));
    template
}

/// The revision of a template that [`template`] made.
pub(super) fn revision(template: &PodTemplateSpec) -> String {
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    labels.and_then(|labels| labels.get(REVISION)).cloned().unwrap_or_default()
}

fn not_empty<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    Some(items.to_vec()).filter(|items| !items.is_empty())
}

/// As evenly over nodes and zones as there is room, unless the manifest has rules of its own.
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
        // Without a selector it would count no pod at all.
        constraint.label_selector = constraint.label_selector.take().or_else(ours);
    }
    constraints
}

/// The manifest, and for shards the keys of Secrets that it names, as `secrets/SECRET/KEY`.
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
        // Root owns the files, and the user is not known here. Nobody else is in the container.
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
