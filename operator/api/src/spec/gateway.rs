//! The gateways: how many there are, how clients reach them, and what they accept. They do not authenticate clients
//! yet.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// The gateways. They route each WebSocket upgrade to a shard with a free slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// Number of gateways.
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: u32,
    /// How clients reach the gateways.
    pub service: GatewayService,
    /// Where upgrades wait while no shard has a free slot.
    pub queue: Queue,
    /// Permitted values of the `Origin` header (RFC 6454), such as `https://example.com`. If empty, every origin is
    /// permitted. Requests without the header are permitted: only browsers send it.
    #[schemars(
        length(max = 256),
        inner(length(max = 512), regex(pattern = r"^(null|[a-z][a-z0-9+.-]*://[^\s/A-Z]+)$"))
    )]
    pub allowed_origins: Vec<String>,
    /// Size and time limits of a WebSocket handshake.
    pub limits: GatewayLimits,
}

/// The Service in front of the gateways. `wscluster local` listens on its `port`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayService {
    /// Type of the Kubernetes Service.
    pub r#type: ServiceType,
    /// Port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Annotations of the Service, for example for a cloud load balancer.
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// Type of the Kubernetes Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable only inside the Kubernetes cluster.
    #[default]
    ClusterIP,
    /// Reachable on a port of every node.
    NodePort,
    /// Reachable through a cloud load balancer.
    LoadBalancer,
}

/// A bounded queue, served first in, first out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Queue {
    /// Upgrades that may wait in one gateway. With 0, an upgrade is refused with 503 as soon as all shards are full.
    #[schemars(range(max = 1_000_000))]
    pub max_waiting: u32,
    /// How long an upgrade waits for a free slot before it is refused with 503.
    pub timeout: Span,
}

/// Size and time limits of a WebSocket handshake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayLimits {
    /// Largest upgrade request: request line and headers. A larger one is refused with 431.
    pub max_head_bytes: Size,
    /// Header fields that an upgrade request may have. More are refused with 431.
    #[schemars(range(min = 8, max = 256))]
    pub max_headers: u32,
    /// How long a client may take to send its upgrade request before it is refused with 408.
    pub head_timeout: Span,
    /// How long an admission may take, including all attempts on shards but not the time in the queue.
    pub handshake_timeout: Span,
    /// How long one shard may take to accept a connection and answer the upgrade before the gateway tries another
    /// shard.
    pub shard_timeout: Span,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            replicas: 2,
            service: GatewayService::default(),
            queue: Queue::default(),
            allowed_origins: Vec::new(),
            limits: GatewayLimits::default(),
        }
    }
}

impl Default for GatewayService {
    fn default() -> Self {
        Self { r#type: ServiceType::default(), port: 8080, annotations: BTreeMap::new() }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { max_waiting: 1_024, timeout: Span::secs(5) }
    }
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            max_head_bytes: Size(16 << 10),
            max_headers: 100,
            head_timeout: Span::secs(10),
            handshake_timeout: Span::secs(10),
            shard_timeout: Span::secs(2),
        }
    }
}
