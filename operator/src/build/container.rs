//! The container of a pod: ports, probes, environment, security context and resources.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, Probe, ResourceRequirements, SecurityContext,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use wscluster_api::WsCluster;
use wscluster_api::spec::ImagePullPolicy;

use super::Part;
use crate::settings::Settings;

/// Name of the WebSocket port.
pub(super) const WS: &str = "ws";
/// The port that the processes listen on by default.
pub(super) const WS_PORT: u16 = 8080;
/// Name of the admin port.
pub(super) const ADMIN: &str = "admin";
pub(super) const ADMIN_PORT: u16 = 9090;
/// Name of the volume with the manifest and credentials.
pub(super) const CONFIG: &str = "config";
/// Mount path of that volume.
const CONFIG_PATH: &str = "/etc/wscluster";
/// Grace period in seconds after a failed liveness probe. A dedicated thread answers that probe, so after a minute
/// without an answer the whole process hangs: it would not drain, and its clients would hang as long as it exists.
const STUCK_GRACE: i64 = 5;

/// The container of a part. `args` follow the path of the manifest; `env` precedes the variables of the manifest.
pub(super) fn container(
    cluster: &WsCluster,
    settings: &Settings,
    part: Part,
    args: &[&str],
    mut env: Vec<EnvVar>,
) -> Container {
    let wanted = part.template(&cluster.spec);
    let (command, path) = (part.to_string(), format!("{CONFIG_PATH}/{}", super::config::FILE));
    let args = [command.as_str(), "-f", &path].into_iter().chain(args.iter().copied());
    env.extend(wanted.env.iter().cloned());
    let pull_policy = wanted.image_pull_policy.map(|policy| match policy {
        ImagePullPolicy::Always => "Always".to_owned(),
        ImagePullPolicy::IfNotPresent => "IfNotPresent".to_owned(),
        ImagePullPolicy::Never => "Never".to_owned(),
    });
    Container {
        name: part.to_string(),
        image: Some(wanted.image.clone().unwrap_or_else(|| settings.image.clone())),
        image_pull_policy: pull_policy.or_else(|| settings.image_pull_policy.clone()),
        args: Some(args.map(str::to_owned).collect()),
        env: Some(env),
        ports: Some(vec![port(WS, WS_PORT), port(ADMIN, ADMIN_PORT)]),
        // Liveness is patient, because a restart drops every connection. Readiness is quick in both directions.
        liveness_probe: Some(Probe { termination_grace_period_seconds: Some(STUCK_GRACE), ..probe("/livez", 10, 6) }),
        readiness_probe: Some(probe("/readyz", 2, 3)),
        resources: Some(wanted.resources.clone().unwrap_or_else(|| resources(cluster, part))),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: CONFIG.to_owned(),
            mount_path: CONFIG_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Default resource requests. There are no limits: a shard above a memory limit would be killed with all of its
/// connections.
fn resources(cluster: &WsCluster, part: Part) -> ResourceRequirements {
    const MEBI: u64 = 1 << 20;
    /// Memory of a connection with a partly used queue.
    const CONNECTION: u64 = 16 << 10;
    let memory = match part {
        Part::Shard => {
            let history = cluster.spec.source.kafka.history.max_bytes.0;
            64 * MEBI + history + CONNECTION * u64::from(cluster.spec.capacity)
        }
        Part::Gateway => 128 * MEBI,
    };
    let requests = [("cpu", "250m".to_owned()), ("memory", format!("{}Mi", memory.div_ceil(MEBI)))];
    let requests = requests.map(|(name, amount)| (name.to_owned(), Quantity(amount)));
    ResourceRequirements { requests: Some(requests.into()), ..ResourceRequirements::default() }
}
