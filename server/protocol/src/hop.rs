//! The hop between gateway and shard: how much a request grows on it, so that a head at the gateway's limit fits the shard's.

use wscluster_api::spec::GatewayLimits;
use wscluster_ws::upgrade::HeadLimits;

// RFC 7239 §7.1 keeps the older field for this use; proxies around us all read it.
/// Name of the field that carries the client's address, as it is written.
pub const FORWARDED_FOR: &str = "X-Forwarded-For: ";

/// The longest address that the field may carry.
pub const LONGEST_ADDRESS: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

/// What a request grows by on the way to the shard, at most: one field, with the longest address.
const ADDED: HeadLimits = HeadLimits { max_bytes: FORWARDED_FOR.len() + LONGEST_ADDRESS.len() + 2, max_headers: 1 };

/// Limits of a request's head at the gateway.
pub fn gateway_head_limits(limits: &GatewayLimits) -> HeadLimits {
    HeadLimits {
        max_bytes: usize::try_from(limits.max_head_bytes.0).unwrap_or(usize::MAX),
        max_headers: limits.max_headers as usize,
    }
}

/// Limits of a request's head at a shard: those of the gateway, and what the gateway adds.
pub fn shard_head_limits(limits: &GatewayLimits) -> HeadLimits {
    gateway_head_limits(limits).with_room(ADDED)
}
