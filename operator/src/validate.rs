//! Validates that a cluster can run on Kubernetes: all rules of the manifest, and rules that only matter here.
//!
//! The API server refuses most violations already. This catches objects that were stored under an older definition,
//! or that only work with `wscluster local`.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::EnvVar;
use wscluster_api::WsCluster;
use wscluster_api::spec::{CredentialOrigin, Security};
use wscluster_api::validate::{Violation, violations_of};

use crate::build::{Part, labels, reserved_env};
use crate::settings::Settings;

/// Maximum length of the value of a label, and of its key after a slash.
const LABEL: usize = 63;

/// All violations of `cluster`; empty if it can be built.
pub(crate) fn validate(cluster: &WsCluster, settings: &Settings) -> Vec<Violation> {
    let mut found = violations_of(cluster);
    if cluster.spec.source.kafka.brokers.is_empty() {
        let remedy = "give host:port of a Kafka broker: the embedded broker exists only in `wscluster local`";
        found.push(violation("spec.source.kafka.brokers", "an empty list", remedy));
    }
    for part in Part::ALL {
        let template = part.template(&cluster.spec);
        let path = format!("spec.template.{part}");
        environment(&path, &template.env, reserved_env(part), &mut found);
        pod_labels(&path, &template.labels, &mut found);
    }
    variables(cluster, &mut found);
    found.extend(deadline(cluster, settings));
    found
}

fn violation(field: impl Into<String>, value: impl fmt::Display, remedy: impl Into<String>) -> Violation {
    Violation { field: field.into(), value: value.to_string(), remedy: remedy.into() }
}

/// Environment variables that the operator sets, or that are given twice.
fn environment(path: &str, env: &[EnvVar], ours: &[&str], found: &mut Vec<Violation>) {
    for (i, variable) in env.iter().enumerate() {
        let remedy = if ours.contains(&variable.name.as_str()) {
            "remove it: the operator sets it"
        } else if env[..i].iter().any(|earlier| earlier.name == variable.name) {
            "give each variable once"
        } else {
            continue;
        };
        found.push(violation(format!("{path}.env[{i}].name"), &variable.name, remedy));
    }
}

/// Labels that the operator sets, or that Kubernetes refuses.
fn pod_labels(path: &str, labels: &BTreeMap<String, String>, found: &mut Vec<Violation>) {
    for (key, value) in labels {
        let field = format!("{path}.labels[{key}]");
        if labels::OURS.contains(&key.as_str()) {
            found.push(violation(field, value, "remove it: the operator sets it"));
        } else if !is_label_key(key) {
            let remedy = format!("write an optional DNS name and /, then at most {LABEL} letters, digits, - _ and .");
            found.push(violation(field, "this key", remedy));
        } else if !value.is_empty() && !is_label_text(value) {
            let remedy = format!("write at most {LABEL} letters, digits, - _ and ., a letter or digit first and last");
            found.push(violation(field, value, remedy));
        }
    }
}

fn is_label_key(key: &str) -> bool {
    let dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    match key.split_once('/') {
        Some((prefix, name)) => (1..=253).contains(&prefix.len()) && prefix.chars().all(dns) && is_label_text(name),
        None => is_label_text(key),
    }
}

fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= LABEL
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Environment variables that a shard must read but does not have. Such a shard could not start.
fn variables(cluster: &WsCluster, found: &mut Vec<Violation>) {
    let kafka = &cluster.spec.source.kafka;
    let credentials =
        kafka.security.iter().flat_map(Security::credentials).filter_map(|(path, c)| match c.origin()? {
            CredentialOrigin::Env(name) => Some((path, name)),
            CredentialOrigin::Secret(_) | CredentialOrigin::File(_) => None,
        });
    let rack = kafka.rack.iter().filter_map(|rack| Some(("spec.source.kafka.rack", rack.env.as_deref()?)));
    for (path, name) in credentials.chain(rack) {
        if !cluster.spec.template.shard.env.iter().any(|variable| variable.name == name) {
            found.push(violation(format!("{path}.env"), name, "add this variable to spec.template.shard.env"));
        }
    }
}

/// A drain deadline within the drain lag: gateways would spend it waiting, and then close all clients at once.
fn deadline(cluster: &WsCluster, settings: &Settings) -> Option<Violation> {
    let (deadline, lag) = (cluster.spec.drain.deadline, settings.drain_lag);
    let is_too_short = !deadline.0.is_zero() && deadline.0 <= lag.0;
    let remedy = format!(
        "make it longer than {lag}, the time that gateways wait for load balancers (--drain-lag of the operator, \
         network.drainLag of the chart), or 0s to close all connections at once"
    );
    is_too_short.then(|| violation("spec.drain.deadline", deadline, remedy))
}

#[cfg(test)]
mod tests {
    use wscluster_api::units::Span;

    use super::*;
    use crate::build::fixtures::{cluster, full, settings};

    /// Refused fields of the smallest cluster after `change`.
    fn refused(change: impl FnOnce(&mut WsCluster)) -> Vec<String> {
        let mut cluster = cluster();
        change(&mut cluster);
        validate(&cluster, &settings()).into_iter().map(|v| v.field).collect()
    }

    fn variable(name: &str) -> EnvVar {
        EnvVar { name: name.to_owned(), ..EnvVar::default() }
    }

    #[test]
    fn accepts_clusters_that_can_run() {
        for cluster in [cluster(), full()] {
            assert_eq!(validate(&cluster, &settings()), []);
        }
    }

    #[test]
    fn repeats_the_rules_of_the_manifest() {
        assert_eq!(refused(|c| c.spec.capacity = 0), ["spec.capacity"]);
        assert_eq!(refused(|c| c.metadata.name = Some("p".repeat(41))), ["metadata.name"]);
    }

    #[test]
    fn refuses_the_embedded_broker() {
        assert_eq!(refused(|c| c.spec.source.kafka.brokers.clear()), ["spec.source.kafka.brokers"]);
    }

    #[test]
    fn refuses_reserved_and_duplicate_variables() {
        let shard = |names: &[&str]| names.iter().map(|name| variable(name)).collect::<Vec<_>>();
        assert_eq!(refused(|c| c.spec.template.shard.env = shard(&["A", "B"])), [""; 0]);
        assert_eq!(
            refused(|c| c.spec.template.shard.env = shard(&["A", "B", "A"])),
            ["spec.template.shard.env[2].name"]
        );
        assert_eq!(
            refused(|c| c.spec.template.gateway.env = shard(&["WSCLUSTER_DRAIN_LAG", "WSCLUSTER_NAME"])),
            ["spec.template.gateway.env[0].name"]
        );
    }

    #[test]
    fn refuses_reserved_and_invalid_labels() {
        let labels = |key: &str, value: &str| {
            let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            refused(|c| c.spec.template.shard.labels = labels).len()
        };
        for (key, value) in [("team", "prices"), ("example.com/team", ""), ("a", &"v".repeat(63))] {
            assert_eq!(labels(key, value), 0, "{key}: {value}");
        }
        for (key, value) in [
            ("app.kubernetes.io/instance", "other"),
            ("wscluster.dev/revision", "x"),
            ("a", &"v".repeat(64)),
            ("a", "-v"),
            ("a", "v w"),
            ("", "v"),
            ("/team", "v"),
            ("Example.com/team", "v"),
            ("example.com/", "v"),
        ] {
            assert_eq!(labels(key, value), 1, "{key}: {value}");
        }
    }

    #[test]
    fn refuses_a_deadline_within_the_drain_lag() {
        let deadline = |span| refused(|c| c.spec.drain.deadline = span);
        let lag = settings().drain_lag;
        for short in [Span::millis(1), Span::secs(9), lag] {
            assert_eq!(deadline(short), ["spec.drain.deadline"], "{short}");
        }
        for good in [Span::secs(0), Span(lag.0 + std::time::Duration::from_millis(1))] {
            assert_eq!(deadline(good), [""; 0], "{good}");
        }
    }

    #[test]
    fn refuses_missing_variables_that_a_shard_reads() {
        let change = |given: &'static str| {
            move |c: &mut WsCluster| {
                let rack = wscluster_api::spec::Rack { env: Some("ZONE".to_owned()), value: None };
                c.spec.source.kafka.rack = Some(rack);
                c.spec.template.shard.env = vec![variable(given)];
            }
        };
        assert_eq!(refused(change("RACK")), ["spec.source.kafka.rack.env"]);
        assert_eq!(refused(change("ZONE")), [""; 0]);
    }
}
