//! The `WsCluster` custom resource: types, defaults, schema and rules.
//!
//! The crate is light: it has no client and no runtime. The operator, `wscluster local`, the shard and the gateway
//! read a manifest through the same types, so it means the same everywhere.
//!
//! - [`WsCluster`] with [`spec`] and [`status`]: the resource, with the default of every field.
//! - [`manifest::read`] and [`manifest::parse`]: read a manifest as users write it, and report all of its mistakes.
//! - [`validate::violations`]: every rule of the schema and of CEL, for use without an API server.
//! - [`definition()`]: the custom resource definition to install.
//! - [`channel`]: channel templates of topics. [`units`]: durations and sizes as text.
//! - [`Part`]: shard or gateway, and the fields of the manifest that each of them reads.
//!
//! Deserialization ignores unknown fields, as Kubernetes requires: an operator must work with a newer definition.
//! [`manifest`] is strict and reports them.

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
mod violation;

pub use cluster::{WsCluster, WsClusterSpec};
pub use definition::definition;
pub use difference::differences;
pub use part::Part;
