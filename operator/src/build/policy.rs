//! Network policies: clients may reach only gateways, gateways the shards, and the operator the admin ports.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use wscluster_api::WsCluster;

use super::container::{ADMIN_PORT, WS_PORT};
use super::labels::{label_selector, metadata};
use super::{Part, names};
use crate::settings::Settings;

/// Label that the API server sets on every namespace.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The policy of shards: gateways of the same cluster, and on the admin port the peers of [`admin`].
pub(super) fn shards(cluster: &WsCluster, settings: &Settings) -> NetworkPolicy {
    let gateways = NetworkPolicyPeer {
        pod_selector: Some(label_selector(cluster, Part::Gateway)),
        ..NetworkPolicyPeer::default()
    };
    let mut observers = admin(settings);
    if let Some(peers) = &mut observers.from {
        peers.insert(0, gateways.clone());
    }
    policy(cluster, Part::Shard, vec![rule(WS_PORT, Some(vec![gateways])), observers])
}

/// The policy of gateways: any client, and on the admin port the peers of [`admin`] and health checks of load
/// balancers.
pub(super) fn gateways(cluster: &WsCluster, settings: &Settings) -> NetworkPolicy {
    let mut observers = admin(settings);
    if let Some(peers) = &mut observers.from {
        peers.extend(settings.health_check_ranges.iter().map(|range| NetworkPolicyPeer {
            ip_block: Some(IPBlock { cidr: range.clone(), except: None }),
            ..NetworkPolicyPeer::default()
        }));
    }
    policy(cluster, Part::Gateway, vec![rule(WS_PORT, None), observers])
}

/// The peers of the admin port: the namespace of the operator, and namespaces that collect metrics.
fn admin(settings: &Settings) -> NetworkPolicyIngressRule {
    if settings.metrics_namespaces.iter().any(|n| n == "*") {
        return rule(ADMIN_PORT, None);
    }
    let mut namespaces = vec![&settings.own_namespace];
    for namespace in &settings.metrics_namespaces {
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
    }
    let peers = namespaces.into_iter().map(|namespace| NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(NAMESPACE.to_owned(), namespace.clone())])),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    });
    rule(ADMIN_PORT, Some(peers.collect()))
}

fn rule(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port.into())),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    }
}

fn policy(cluster: &WsCluster, part: Part, ingress: Vec<NetworkPolicyIngressRule>) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(cluster, part, names::part(cluster, part)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(label_selector(cluster, part)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            ..NetworkPolicySpec::default()
        }),
    }
}
