//! The 101 and the 503, both with the current load of this shard.

use wscluster_api::spec::RetryAfter;
use wscluster_runtime::drain::hint_ms;
use wscluster_ws::upgrade::Unavailable;

use crate::shared::NoSlot;
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

/// `503 Service Unavailable`: the gateway tries another shard, and a direct client retries after the hint.
pub(super) fn unavailable(reason: NoSlot, slots: &Slots, retry_after: &RetryAfter) -> Vec<u8> {
    let why = if reason == NoSlot::FdLimit { slots.fds().shortage() } else { reason.as_str().to_owned() };
    let (message, load) = (format!("this shard takes no connection: {why}"), load(slots));
    let fields = &[("X-Wscluster-Load", &*load)];
    Unavailable { reason: reason.as_str(), message: Some(&message), retry_after_ms: hint_ms(retry_after), fields }
        .answer()
}

fn load(slots: &Slots) -> String {
    format!("{}/{}", slots.used(), slots.capacity())
}
