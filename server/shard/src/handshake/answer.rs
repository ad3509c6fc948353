//! The answers that depend on this shard: the 101 and the 503, both with its live load.

use serde_json::json;
use wscluster_api::spec::RetryAfter;
use wscluster_runtime::drain::hint_ms;
use wscluster_ws::upgrade::write_answer;

use crate::shared::FD_LIMIT;
use crate::slots::Slots;

/// `101 Switching Protocols` (RFC 6455 §4.2.2).
pub(super) fn switching(accept: &str, protocol: Option<&str>, slots: &Slots) -> Vec<u8> {
    let protocol = protocol.map_or_else(String::new, |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}X-Wscluster-Load: {}\r\n\r\n",
        load(slots)
    )
    .into_bytes()
}

/// `503 Service Unavailable`: the gateway tries elsewhere, a direct client comes back after the hint.
pub(super) fn unavailable(reason: &'static str, slots: &Slots, retry_after: &RetryAfter) -> Vec<u8> {
    let hint = hint_ms(retry_after);
    let why = if reason == FD_LIMIT { slots.fds().shortage() } else { reason.to_owned() };
    let body = json!({
        "error": "unavailable", "reason": reason, "retry_after_ms": hint,
        "message": format!("this shard takes no connection: {why}"),
    });
    let seconds = hint.div_ceil(1_000).max(1).to_string();
    let mut answer = Vec::with_capacity(256);
    let fields = [("X-Wscluster-Load", &*load(slots)), ("X-Wscluster-Reason", reason), ("Retry-After", &*seconds)];
    write_answer(&mut answer, 503, &fields, &body);
    answer
}

fn load(slots: &Slots) -> String {
    format!("{}/{}", slots.used(), slots.capacity())
}
