//! The opening handshake (RFC 6455 §4), read strictly on both sides.
