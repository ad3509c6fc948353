//! The parts of a running cluster, and the fields of the manifest that each of them reads.
//!
//! A part is started with those fields only, so that an edit of any other field does not replace its processes.

use std::fmt;

use kube::Resource as _;
use serde_json::{Value, json};

use crate::spec::PodTemplate;
use crate::units::Span;
use crate::{WsCluster, WsClusterSpec};

/// A kind of process in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Holds connections.
    Shard,
    /// Routes upgrades.
    Gateway,
}

impl Part {
    /// Both parts.
    pub const ALL: [Self; 2] = [Self::Shard, Self::Gateway];

    /// The fields of `spec` that this part reads, each including its subfields.
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Shard => &[
                "capacity",
                "source",
                "delivery",
                "drain",
                "gateway/allowedOrigins",
                "gateway/limits/headTimeout",
                "gateway/limits/maxHeadBytes",
                "gateway/limits/maxHeaders",
                "template/shard/workers",
            ],
            Self::Gateway => &[
                "delivery/pongTimeout",
                "drain",
                "gateway/allowedOrigins",
                "gateway/limits",
                "gateway/queue",
                "template/gateway/workers",
            ],
        }
    }

    /// The settings of its pods.
    pub fn template(self, spec: &WsClusterSpec) -> &PodTemplate {
        match self {
            Self::Shard => &spec.template.shard,
            Self::Gateway => &spec.template.gateway,
        }
    }

    /// A manifest with only the fields that this part reads, as YAML.
    pub fn manifest(self, cluster: &WsCluster) -> String {
        let all = serde_json::to_value(&cluster.spec).expect("a spec is plain data");
        let mut spec = json!({});
        for field in self.fields() {
            copy(&all, field, &mut spec);
        }
        if self == Self::Gateway {
            // A rule compares pongTimeout with it. This value satisfies the rule, and an edit restarts no gateway.
            spec["delivery"]["pingInterval"] = json!(Span::secs(1));
            // A gateway does not read `source`, but the field is required.
            spec["source"]["kafka"]["topics"] = json!([{ "name": "unused", "channel": "unused" }]);
        }
        let document = json!({
            "apiVersion": WsCluster::api_version(&()),
            "kind": WsCluster::kind(&()),
            "metadata": { "name": cluster.metadata.name },
            "spec": spec,
        });
        serde_yaml::to_string(&document).expect("a manifest is plain data")
    }
}

/// Copies the value at `field`, if there is one.
fn copy(from: &Value, field: &str, to: &mut Value) {
    if let Some(value) = from.pointer(&format!("/{field}")) {
        *field.split('/').fold(to, |at, step| &mut at[step]) = value.clone();
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shard => "shard",
            Self::Gateway => "gateway",
        })
    }
}
