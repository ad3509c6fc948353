//! The service accounts of the pods: shards have no permissions; gateways may watch the addresses of shards.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use wscluster_api::WsCluster;

use super::labels::metadata;
use super::{Part, names};

/// The service account of a part; `None` if the manifest names one.
pub(super) fn account(cluster: &WsCluster, part: Part) -> Option<ServiceAccount> {
    part.template(&cluster.spec).service_account_name.is_none().then(|| ServiceAccount {
        metadata: metadata(cluster, part, names::part(cluster, part)),
        // Pods that need a token mount it explicitly.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}

/// Name of the service account of the pods of a part.
pub(super) fn name(cluster: &WsCluster, part: Part) -> String {
    part.template(&cluster.spec).service_account_name.clone().unwrap_or_else(|| names::part(cluster, part))
}

/// The permissions of gateways: list and watch `EndpointSlices`. RBAC cannot restrict a watch to a label.
pub(super) fn role(cluster: &WsCluster) -> Role {
    let list = |items: &[&str]| items.iter().map(|&i| i.to_owned()).collect::<Vec<_>>();
    Role {
        metadata: metadata(cluster, Part::Gateway, names::part(cluster, Part::Gateway)),
        rules: Some(vec![PolicyRule {
            api_groups: Some(list(&["discovery.k8s.io"])),
            resources: Some(list(&["endpointslices"])),
            verbs: list(&["list", "watch"]),
            ..PolicyRule::default()
        }]),
    }
}

/// Grants the role to the gateways.
pub(super) fn role_binding(cluster: &WsCluster) -> RoleBinding {
    RoleBinding {
        metadata: metadata(cluster, Part::Gateway, names::part(cluster, Part::Gateway)),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: names::part(cluster, Part::Gateway),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: name(cluster, Part::Gateway),
            namespace: cluster.metadata.namespace.clone(),
            ..Subject::default()
        }]),
    }
}
