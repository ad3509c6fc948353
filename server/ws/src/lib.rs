//! The WebSocket codec (RFC 6455): what every part of wscluster needs to read and write the protocol, without I/O.
//!
//! - [`upgrade`]: parsers for both heads of the opening handshake, and [`upgrade::Refusal`], the list of reasons to
//!   refuse one.
//! - [`decode::Decoder`]: a strict incremental decoder of frames into messages, for servers and clients.
//! - [`frame`]: writers of frames, and masking.
//! - [`boundary::Frames`]: follows the boundaries of frames in a stream that is only relayed.
//! - [`close`]: the close codes that the codec itself uses. The table of the service is in the protocol crate.
//!
//! Limits are strict, because everything here parses bytes of strangers: nothing panics, and memory is bounded.

pub mod boundary;
pub mod close;
pub mod decode;
pub mod frame;
pub mod upgrade;
