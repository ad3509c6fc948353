//! The subcommands for a running cluster. Each module has the arguments of its subcommand and a `run` that returns the
//! exit code.
//!
//! - [`tail`] prints the messages of channels.
//! - [`publish`] writes records to Kafka.
//! - [`verify`] checks a deployment from outside: as an admin client, a WebSocket client and a producer.
//! - [`top`] shows the shards of a cluster, refreshed like top(1).
//!
//! `tail` and `verify` connect with `wscluster-client`; `verify` and `top` read `/health` with `wscluster-admin`.

pub mod publish;
pub mod tail;
pub mod top;
pub mod verify;
