//! The `WsCluster` custom resource: its types, defaults, schema and rules.
//!
//! A light crate: no client, no runtime. The operator, `wscluster local`, the shard and the gateway
//! all read the same types, so a manifest means the same everywhere. Types and defaults live in
//! [`spec`] and [`status`], units in [`units`]; [`validate`] repeats every schema and CEL rule for
//! people who have no API server at hand.
//!
//! The types ignore fields they do not know, as Kubernetes asks for: an operator that is older than the definition must go on
//! working. [`manifest`] is strict, and names them.

pub mod channel;
mod cluster;
mod definition;
mod difference;
pub mod manifest;
mod part;
mod rules;
mod schema;
pub mod spec;
pub mod status;
pub mod units;
pub mod validate;

pub use cluster::{WsCluster, WsClusterSpec};
pub use definition::definition;
pub use difference::differences;
pub use part::Part;
