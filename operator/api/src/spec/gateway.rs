//! The front door: how many gateways, how they are reached, and what they accept.
//!
//! Who a client is (tokens, single sign-on) is not decided here yet: a `gateway.auth` will say so when it exists.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// The gateways, which route each upgrade to a shard with a free slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// Gateway processes.
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: u32,
    /// How clients reach the gateways.
    pub service: GatewayService,
    /// Where an upgrade waits when no shard has a slot.
    pub queue: Queue,
    /// `Origin` values that browsers may send (RFC 6454), e.g. `https://example.com`; empty: any.
    #[schemars(
        length(max = 256),
        inner(length(max = 512), regex(pattern = r"^(null|[a-z][a-z0-9+.-]*://[^\s/A-Z]+)$"))
    )]
    pub allowed_origins: Vec<String>,
    /// Size and time limits of a handshake.
    pub limits: GatewayLimits,
}

/// The Service in front of the gateways; `port` is also where `wscluster local` listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayService {
    /// Kubernetes Service type.
    pub r#type: ServiceType,
    /// Port that clients connect to.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Annotations for the cloud's load balancer.
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// Kubernetes Service type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIP,
    /// Reachable on a port of every node.
    NodePort,
    /// Reachable through the cloud's load balancer.
    LoadBalancer,
}

/// A bounded queue, served in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Queue {
    /// Upgrades that may wait in one gateway; 0 refuses at once.
    #[schemars(range(max = 1_000_000))]
    pub max_waiting: u32,
    /// How long one may wait for a slot.
    pub timeout: Span,
}

/// Size and time limits of a handshake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayLimits {
    /// Bytes of an upgrade request, request line and headers together (431 above).
    pub max_head_bytes: Size,
    /// Header fields of an upgrade request (431 above).
    #[schemars(range(min = 8, max = 256))]
    pub max_headers: u32,
    /// Time a client has to send its upgrade request (408 after).
    pub head_timeout: Span,
    /// Time for the whole admission: every dial and every retry, without the queue.
    pub handshake_timeout: Span,
    /// Time one shard has to take a dial and answer an upgrade before another is tried.
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
