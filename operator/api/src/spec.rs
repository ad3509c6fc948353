//! The parts of a spec, one module a part of the system. Every field has the default that is written here.

mod delivery;
mod gateway;
mod operations;
mod source;
mod template;

pub use delivery::{Delivery, SlowClient};
pub use gateway::{Gateway, GatewayLimits, GatewayService, Queue, ServiceType};
pub use operations::{Autoscale, Drain, RetryAfter};
pub use source::{History, Kafka, Source, Topic};
pub use template::{PodTemplate, Template};
