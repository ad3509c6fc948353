//! Commands for `WsCluster` manifests. They need no cluster and no broker.
//!
//! - [`init`]: write a commented manifest to start from.
//! - [`validate`]: check manifests and list every error.

pub mod init;
pub mod validate;
