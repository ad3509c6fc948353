//! The `ConfigMap` with the manifest of a part, which its pods read.
//!
//! Its name contains a hash of its content, so that a restarted pod reads the manifest of its own revision.

use k8s_openapi::api::core::v1::{ConfigMap, PodSpec};
use wscluster_api::WsCluster;

use super::labels::metadata;
use super::{Part, names};
use crate::hash;

/// Key of the manifest, and its file name in the pod.
pub(super) const FILE: &str = "cluster.yaml";

/// Name of the `ConfigMap`.
pub(crate) fn name(cluster: &WsCluster, part: Part) -> String {
    name_for(cluster, part, &part.manifest(cluster))
}

fn name_for(cluster: &WsCluster, part: Part, manifest: &str) -> String {
    format!("{}-{}", names::part(cluster, part), hash::hex(manifest.as_bytes(), 10))
}

/// Names of the `ConfigMap`s that a pod reads.
pub(crate) fn read_by(pod: &PodSpec) -> impl Iterator<Item = &str> {
    let projected = pod.volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|projected| projected.sources.iter().flatten());
    sources.filter_map(|source| source.config_map.as_ref()).map(|config| config.name.as_str())
}

pub(super) fn config_map(cluster: &WsCluster, part: Part) -> ConfigMap {
    let manifest = part.manifest(cluster);
    ConfigMap {
        metadata: metadata(cluster, part, name_for(cluster, part, &manifest)),
        data: Some([(FILE.to_owned(), manifest)].into()),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::full;
    use super::*;

    #[test]
    fn contains_no_values_of_environment_variables() {
        let full = full();
        let secret = full.spec.template.shard.env.iter().find_map(|e| e.value.clone()).unwrap();
        for part in Part::ALL {
            assert!(!part.manifest(&full).contains(&secret));
        }
    }
}
