//! The parts of a spec, one module a part of the system. Every field has the default that is written here.

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
