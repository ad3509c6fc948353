//! The Events of an apply: why pods are replaced, by the first field that differs, and changes of replicas.

use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use kube::runtime::reflector::ObjectRef;
use wscluster_api::WsCluster;
use wscluster_plan::{Action, Plan};

use crate::build::{Prepared, Resources, config, labels, names};
use crate::caches::Caches;
use crate::events::{Note, difference};
use crate::observe::ObservedCluster;

/// The Events for the changes from the observed to the wanted objects. Objects that do not exist yet have none.
pub(super) fn rollout_notes(
    cluster: &WsCluster,
    observed: &ObservedCluster,
    caches: &Caches,
    plan: &Plan,
    wanted: &Resources<Prepared>,
) -> Vec<Note> {
    let mut notes = Vec::new();
    let config = |template: &PodTemplateSpec| {
        let name = config::read_by(template.spec.as_ref()?).next()?;
        caches.config_maps.get(&ObjectRef::new(name).within(&names::namespace(cluster)))
    };
    let there = observed.stateful_set.as_ref().and_then(|set| set.spec.as_ref());
    if let (Some(there), Some(new)) = (there, &wanted.shards.spec) {
        let config = config(&there.template);
        let replaced = (&there.template, config.as_deref(), &new.template, &wanted.shard_config);
        notes.extend(rollout("ShardRollout", "shards", replaced));
        notes.extend(scaled(cluster, plan, there.replicas.unwrap_or(1), new.replicas.unwrap_or(1)));
    }
    let there = observed.deployment.as_ref().and_then(|deployment| deployment.spec.as_ref());
    if let (Some(there), Some(new)) = (there, &wanted.gateways.spec) {
        let config = config(&there.template);
        let replaced = (&there.template, config.as_deref(), &new.template, &wanted.gateway_config);
        notes.extend(rollout("GatewayRollout", "gateways", replaced));
        let (before, after) = (there.replicas.unwrap_or(1), new.replicas.unwrap_or(1));
        if before != after {
            notes.push(Note::normal("GatewaysScaled", format!("{before} gateways become {after}")));
        }
    }
    notes
}

/// Current template and configuration, wanted template and configuration.
type Replaced<'a> = (&'a PodTemplateSpec, Option<&'a ConfigMap>, &'a PodTemplateSpec, &'a ConfigMap);

fn rollout(reason: &'static str, what: &str, (there, config, wanted, new_config): Replaced<'_>) -> Option<Note> {
    let (before, after) = (revision(there), revision(wanted));
    if before == after {
        return None;
    }
    let why = difference::of_template((there, config), (wanted, new_config));
    Some(Note::normal(reason, format!("{what} change from revision {before} to {after} because of {why}")))
}

fn revision(template: &PodTemplateSpec) -> &str {
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    labels.and_then(|labels| labels.get(labels::REVISION)).map_or("none", String::as_str)
}

fn scaled(cluster: &WsCluster, plan: &Plan, before: i32, after: i32) -> Option<Note> {
    if before == after {
        return None;
    }
    let name = names::cluster(cluster);
    let mut text = format!("{before} shards become {after}");
    for step in plan.steps.iter().filter(|step| step.action == Action::Remove) {
        text += &format!("; {name}-{} {}", step.ordinal, step.reason);
    }
    Some(Note::normal("ShardsScaled", text))
}
