//! The spec of a `WsCluster`: one module per part of the system, with the default of every field.
//!
//! Doc comments of fields become the descriptions of the custom resource definition (`kubectl explain`) and
//! `docs/fields.md`.

mod delivery;
mod gateway;
mod operations;
mod security;
mod source;
mod template;
mod topic;

pub use delivery::{Delivery, SlowClient};
pub use gateway::{Gateway, GatewayLimits, GatewayService, Queue, ServiceType};
pub use operations::{Autoscale, Drain, Rebalance, RetryAfter, Rollout, ScaleDown, ScaleUp};
pub(crate) use security::CREDENTIALS;
pub use security::{Credential, CredentialOrigin, OAuth, OAuthClient, Sasl, SaslMechanism, SecretRef, Security, Tls};
pub use source::{History, Kafka, Rack, Source};
pub use template::{ImagePullPolicy, PodTemplate, Template};
pub use topic::{RecordOptions, Tombstones, Topic, TopicSelector, ValueFormat};
