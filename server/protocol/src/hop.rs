//! What a gateway adds to a request on the way to a shard, so that a head at the gateway's limit fits the shard's
//! limit.

use wscluster_api::spec::GatewayLimits;
use wscluster_ws::upgrade::HeadLimits;

/// Name of the header field with the client's address, as the gateway writes it. RFC 7239 §7.1 keeps this older field
/// for this use, and common proxies read it.
pub const FORWARDED_FOR: &str = "X-Forwarded-For: ";

/// Longest address that the field can hold.
pub const LONGEST_ADDRESS: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

/// The most that a gateway adds: one field with the longest address.
const ADDED: HeadLimits = HeadLimits { max_bytes: FORWARDED_FOR.len() + LONGEST_ADDRESS.len() + 2, max_headers: 1 };

/// Limits of a request's head at the gateway.
pub fn gateway_head_limits(limits: &GatewayLimits) -> HeadLimits {
    HeadLimits {
        max_bytes: usize::try_from(limits.max_head_bytes.0).unwrap_or(usize::MAX),
        max_headers: limits.max_headers as usize,
    }
}

/// Limits of a request's head at a shard: the gateway's limits plus what the gateway adds.
pub fn shard_head_limits(limits: &GatewayLimits) -> HeadLimits {
    gateway_head_limits(limits).with_room(ADDED)
}
