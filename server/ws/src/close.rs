//! Close codes of RFC 6455 that the codec itself needs. The codes of the service are in `wscluster_protocol::close`.

/// The purpose of the connection is fulfilled (RFC 6455 §7.4.1).
pub const NORMAL: u16 = 1000;
/// The peer violated the protocol (RFC 6455 §7.4.1).
pub const PROTOCOL_ERROR: u16 = 1002;
/// Stands for a Close frame without a code; never on the wire (RFC 6455 §7.4.1).
pub const NO_STATUS: u16 = 1005;
/// Stands for a connection that ended without a Close frame; never on the wire (RFC 6455 §7.4.1).
pub const ABNORMAL: u16 = 1006;
/// A text message that is not UTF-8 (RFC 6455 §7.4.1).
pub const INVALID_PAYLOAD: u16 = 1007;
/// A message above the size limit (RFC 6455 §7.4.1).
pub const MESSAGE_TOO_BIG: u16 = 1009;

/// Whether a peer may send `code` in a Close frame (RFC 6455 §7.4.1, §7.4.2 and the IANA registry).
pub const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registered_and_private_codes_may_be_sent() {
        for code in [NORMAL, PROTOCOL_ERROR, INVALID_PAYLOAD, MESSAGE_TOO_BIG, 1012, 1014, 3000, 4999] {
            assert!(is_sendable(code), "{code}");
        }
        for code in [0, 999, 1004, NO_STATUS, ABNORMAL, 1015, 1016, 2999, 5000] {
            assert!(!is_sendable(code), "{code}");
        }
    }
}
