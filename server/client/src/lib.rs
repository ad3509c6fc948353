//! The client side of `docs/protocol.md`, used by `wscluster tail`, `verify` and `load` and by the benches.
//!
//! - [`Client`] subscribes to channels and keeps their positions. It reports gaps, reconnects as the server asks, and
//!   resumes with `since`.
//! - [`Connection`] is one WebSocket without resumption: text messages in both directions. It answers pings.
//! - [`handshake`] is the upgrade alone, for callers that need their own read loop.
//! - [`Retry`] and [`ReconnectPolicy`] decide when a client reconnects: what a close code, `Retry-After` or
//!   `retry_after_ms` asks for, then full jitter.
//! - [`Message`] is what a shard sends; [`Positions`] is where a client stands in its channels.
//!
//! Only `ws://`: TLS ends at the ingress.

mod connection;
mod endpoint;
pub mod handshake;
mod message;
mod positions;
mod reconnect;
mod resume;

pub use connection::{Connection, ConnectionError, Incoming};
pub use endpoint::{Endpoint, EndpointError};
pub use message::{Message, Record, SubscriptionAck, subscribe};
pub use positions::{Link, Positions};
pub use reconnect::{ReconnectPolicy, Retry};
pub use resume::{Client, ClientError, Config, Disconnect, Event};
