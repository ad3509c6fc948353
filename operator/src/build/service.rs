//! The Services: a headless one for the discovery of shards, and the one that clients connect to.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use wscluster_api::WsCluster;
use wscluster_api::spec::ServiceType;

use super::container::{ADMIN, ADMIN_PORT, WS, WS_PORT};
use super::labels::{metadata, selector};
use super::{Part, names};

/// The headless Service of the shards. Gateways read their addresses and balance by themselves. It includes shards
/// that are not ready, because gateways still need the load of draining shards.
pub(super) fn shards(cluster: &WsCluster) -> Service {
    Service {
        metadata: metadata(cluster, Part::Shard, names::shard_service(cluster)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector(cluster, Part::Shard)),
            ports: Some(vec![port(WS, WS_PORT), port(ADMIN, ADMIN_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The Service that clients connect to. It omits the admin port, which must not be reachable through a load balancer.
pub(super) fn gateways(cluster: &WsCluster) -> Service {
    let wanted = &cluster.spec.gateway.service;
    let mut metadata = metadata(cluster, Part::Gateway, names::part(cluster, Part::Gateway));
    metadata.annotations = Some(wanted.annotations.clone()).filter(|a| !a.is_empty());
    let kind = match wanted.r#type {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            selector: Some(selector(cluster, Part::Gateway)),
            ports: Some(vec![port(WS, wanted.port)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
