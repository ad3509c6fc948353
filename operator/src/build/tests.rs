//! Snapshots of all objects, and properties that hold for every cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use serde_json::Value;
use wscluster_api::WsCluster;
use wscluster_api::spec::{Rebalance, ServiceType};
use wscluster_api::units::{Size, Span};

use super::fixtures::{FOLDER, cluster, full, objects, settings};
use super::*;

const DECIDED: Decided = Decided { replicas: 3, partition: 0 };

/// Environment variable that rewrites the snapshots.
const UPDATE: &str = "UPDATE_SNAPSHOTS";

fn snapshot(name: &str, cluster: &WsCluster, settings: &Settings, decided: Decided) {
    let mut built = String::new();
    for object in objects(&build(cluster, settings, decided)) {
        built += &format!("---\n{}", serde_yaml::to_string(&object).unwrap());
    }
    let file = format!("{FOLDER}/{name}.objects.yaml");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, &built).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    for (line, (built, committed)) in built.lines().zip(committed.lines()).enumerate() {
        assert_eq!(built, committed, "{file}:{}; if this is meant, run the test with {UPDATE}=1", line + 1);
    }
    assert_eq!(
        built.len(),
        committed.len(),
        "{file} has more or fewer lines; if this is meant, run the test with {UPDATE}=1"
    );
}

#[test]
fn builds_what_is_committed_for_the_least_cluster() {
    snapshot("least", &cluster(), &settings(), Decided { replicas: 1, partition: 0 });
}

#[test]
fn builds_what_is_committed_for_a_full_cluster() {
    let settings = Settings {
        image_pull_policy: Some("IfNotPresent".to_owned()),
        metrics_namespaces: vec!["monitoring".to_owned(), "wscluster-system".to_owned()],
        health_check_ranges: vec!["35.191.0.0/16".to_owned()],
        ..settings()
    };
    snapshot("full", &full(), &settings, Decided { replicas: 4, partition: 2 });
}

/// Paths at which two builds differ, such as `StatefulSet prices/spec/replicas`; without what is inside objects only
/// one has.
fn differences(a: &Resources<Prepared>, b: &Resources<Prepared>) -> BTreeSet<String> {
    fn walk(path: &str, a: &Value, b: &Value, found: &mut BTreeSet<String>) {
        match (a, b) {
            (Value::Object(left), Value::Object(right)) => {
                for key in left.keys().chain(right.keys()) {
                    walk(&format!("{path}/{key}"), &a[key], &b[key], found);
                }
            }
            _ if a == b => {}
            _ => {
                found.insert(path.to_owned());
            }
        }
    }
    let by_name = |resources| {
        let named =
            |o: Value| (format!("{} {}", o["kind"].as_str().unwrap(), o["metadata"]["name"].as_str().unwrap()), o);
        objects(resources).into_iter().map(named).collect::<BTreeMap<_, _>>()
    };
    let (a, b) = (by_name(a), by_name(b));
    let mut found = BTreeSet::new();
    for name in a.keys().chain(b.keys()) {
        match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) => walk(name, a, b, &mut found),
            _ => {
                found.insert(name.clone());
            }
        }
    }
    found
}

fn changed(change: impl FnOnce(&mut WsCluster)) -> BTreeSet<String> {
    let (before, mut after) = (full(), full());
    change(&mut after);
    differences(&build(&before, &settings(), DECIDED), &build(&after, &settings(), DECIDED))
}

#[test]
fn scaling_changes_replicas_alone() {
    let with = |decided| build(&full(), &settings(), decided);
    let differ = |from, to| differences(&with(from), &with(to));
    let seven = Decided { replicas: 7, ..DECIDED };
    assert_eq!(differ(DECIDED, seven), ["StatefulSet prices/spec/replicas".to_owned()].into());
    let one = Decided { replicas: 1, ..DECIDED };
    let expected = ["StatefulSet prices/spec/replicas", "PodDisruptionBudget prices-shard"].map(str::to_owned);
    assert_eq!(differ(DECIDED, one), expected.into());
    let held = Decided { partition: 2, ..DECIDED };
    assert_eq!(
        differ(DECIDED, held),
        ["StatefulSet prices/spec/updateStrategy/rollingUpdate/partition".to_owned()].into()
    );
}

#[test]
fn what_no_process_reads_rolls_none() {
    assert_eq!(changed(|c| c.spec.shards = 9), [].into());
    assert_eq!(changed(|c| c.spec.paused = true), [].into());
    assert_eq!(changed(|c| c.spec.autoscale = None), [].into());
    assert_eq!(changed(|c| c.spec.rebalance = Some(Rebalance::default())), [].into());
    assert_eq!(changed(|c| c.spec.rollout.max_in_motion = 5), [].into());
    let replicas = ["Deployment prices-gateway/spec/replicas".to_owned()];
    assert_eq!(changed(|c| c.spec.gateway.replicas = 5), replicas.into());
    let service = ["Service prices-gateway/spec/type".to_owned()];
    assert_eq!(changed(|c| c.spec.gateway.service.r#type = ServiceType::NodePort), service.into());
    let annotations = ["Service prices-gateway/metadata/annotations".to_owned()];
    assert_eq!(changed(|c| c.spec.gateway.service.annotations.clear()), annotations.into());
}

#[test]
fn what_a_part_reads_rolls_that_part_and_no_other() {
    let rolls = |change: fn(&mut WsCluster)| {
        let paths = changed(change);
        ["StatefulSet prices", "Deployment prices-gateway"]
            .map(|owner| paths.contains(&format!("{owner}/spec/template/metadata/labels/{}", labels::REVISION)))
    };
    let [shards, gateways, both] = [[true, false], [false, true], [true, true]];
    assert_eq!(rolls(|c| c.spec.capacity = 1), shards);
    assert_eq!(rolls(|c| c.spec.source.kafka.brokers = vec!["other:9092".to_owned()]), shards);
    assert_eq!(rolls(|c| c.spec.delivery.max_queue_bytes = Size(4096)), shards);
    assert_eq!(rolls(|c| c.spec.template.shard.workers = None), shards);
    assert_eq!(rolls(|c| c.spec.template.shard.image = None), shards);
    assert_eq!(rolls(|c| c.spec.template.shard.env.clear()), shards);
    assert_eq!(rolls(|c| c.spec.gateway.queue.max_waiting = 1), gateways);
    assert_eq!(rolls(|c| c.spec.gateway.limits.shard_timeout = Span::secs(9)), gateways);
    assert_eq!(rolls(|c| c.spec.template.gateway.workers = None), gateways);
    assert_eq!(rolls(|c| c.spec.gateway.allowed_origins.clear()), both);
    assert_eq!(rolls(|c| c.spec.drain.deadline = Span::secs(9)), both);
}

#[test]
fn pods_read_the_manifest_that_their_revision_was_made_for() {
    let built = |cluster: &WsCluster| {
        let built = build(cluster, &settings(), DECIDED);
        let pods = [built.shards.spec.unwrap().template, built.gateways.spec.unwrap().template];
        let read = pods.map(|pod| config::read_by(&pod.spec.unwrap()).map(str::to_owned).collect::<Vec<_>>());
        (read, [built.shard_config, built.gateway_config].map(|config| vec![config.metadata.name.unwrap()]))
    };
    let mut newer = full();
    newer.spec.capacity = 7;
    let ((read, there), (read_by_newer, newer)) = (built(&full()), built(&newer));
    assert_eq!((&read, &read_by_newer), (&there, &newer));
    assert_ne!(there[0], newer[0], "another content has another name");
    assert_eq!(there[1], newer[1], "gateways do not read the capacity");
}

#[test]
fn the_next_gateway_stops_after_the_one_before_has_moved_its_clients() {
    let gateways = |capacity, shards, gateways| {
        let mut cluster = cluster();
        (cluster.spec.capacity, cluster.spec.gateway.replicas) = (capacity, gateways);
        build(&cluster, &settings(), Decided { replicas: shards, partition: 0 }).gateways.spec.unwrap()
    };
    // 1.5 s, then 100 connections per second, at most until the drain deadline of 120 s less the drain lag of 15 s.
    for (capacity, shards, replicas, seconds) in [
        (6_000, 1, 2, 32),
        (6_000, 3, 2, 92),
        (6_000, 12, 2, 105),
        (6_000, 1, 1, 62),
        // The second of three gateways also holds a third of the clients of the first.
        (6_000, 1, 3, 29),
        (1, 1, 2, 2),
    ] {
        let spec = gateways(capacity, shards, replicas);
        assert_eq!(spec.min_ready_seconds, Some(seconds), "{capacity} {shards} {replicas}");
        assert!(spec.progress_deadline_seconds > spec.min_ready_seconds, "the API server refuses it");
    }
    assert_eq!(gateways(6_000, 1, 2).template, gateways(6_000, 3, 2).template, "more shards roll no gateway");
}

#[test]
fn a_process_that_hangs_is_not_given_the_time_of_a_drain() {
    let built = build(&cluster(), &settings(), DECIDED);
    let pods = [built.shards.spec.unwrap().template, built.gateways.spec.unwrap().template];
    for pod in pods.map(|template| template.spec.unwrap()) {
        let hangs = pod.containers[0].liveness_probe.as_ref().unwrap().termination_grace_period_seconds.unwrap();
        assert!(hangs <= 10 && pod.termination_grace_period_seconds.unwrap() > 100, "{hangs}");
    }
}

#[test]
fn pods_run_as_any_user_that_the_cluster_gives_them() {
    let built = build(&full(), &settings(), DECIDED);
    let pods = [built.shards.spec.unwrap().template, built.gateways.spec.unwrap().template];
    for pod in pods.map(|template| template.spec.unwrap()) {
        let security = pod.security_context.unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        assert_eq!((security.run_as_user, security.run_as_group, security.fs_group), (None, None, None));
        for volume in pod.volumes.unwrap() {
            assert_eq!(volume.projected.unwrap().default_mode, Some(0o444), "whoever it is can read {}", volume.name);
        }
    }
}

#[test]
fn the_revision_is_that_of_the_pods() {
    for cluster in [cluster(), full()] {
        let built = build(&cluster, &settings(), DECIDED);
        let labels = built.shards.spec.unwrap().template.metadata.unwrap().labels.unwrap();
        let revision = shard_revision(&cluster, &settings());
        assert_eq!(labels[labels::REVISION], revision);
        assert!(revision.len() == 10 && revision.bytes().all(|b| b.is_ascii_hexdigit()), "{revision}");
    }
}

#[test]
fn the_admin_ports_open_to_all_only_when_asked_to() {
    let open = |namespaces: &[&str]| {
        let settings =
            Settings { metrics_namespaces: namespaces.iter().map(|&n| n.to_owned()).collect(), ..settings() };
        let built = build(&cluster(), &settings, DECIDED);
        [built.shard_policy, built.gateway_policy].map(|policy| {
            let rules = policy.spec.unwrap().ingress.unwrap();
            rules.iter().any(|rule| {
                let admin = IntOrString::Int(container::ADMIN_PORT.into());
                rule.from.is_none() && rule.ports.iter().flatten().any(|port| port.port.as_ref() == Some(&admin))
            })
        })
    };
    assert_eq!(open(&[]), [false, false]);
    assert_eq!(open(&["monitoring"]), [false, false]);
    assert_eq!(open(&["*"]), [true, true]);
}

/// The texts whose length Kubernetes limits: the name of an object, and the label values of the object and of its pods.
fn bounded(object: &Value) -> impl Iterator<Item = String> {
    let labels = ["/metadata/labels", "/spec/template/metadata/labels"];
    let values = labels.into_iter().filter_map(|at| object.pointer(at)?.as_object()).flat_map(|labels| labels.values());
    values.chain([&object["metadata"]["name"]]).map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>().into_iter()
}

fn any_cluster() -> impl Strategy<Value = (WsCluster, Decided)> {
    let decided = (1..=1000_u32, 0..=1000_u32).prop_map(|(replicas, partition)| Decided { replicas, partition });
    let labels = proptest::collection::btree_map("[a-z]{1,9}", "[a-z]{0,9}", 0..3);
    ("[a-z]([-a-z0-9]{0,38}[a-z0-9])?", any::<bool>(), 1..=1000_u32, 1..=1_000_000_u32, labels, decided).prop_map(
        |(name, rich, gateways, capacity, labels, decided)| {
            let mut cluster = if rich { full() } else { cluster() };
            cluster.metadata.name = Some(name);
            cluster.spec.capacity = capacity;
            cluster.spec.gateway.replicas = gateways;
            cluster.spec.template.shard.labels = labels;
            (cluster, decided)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_selector_finds_pods_that_are_built((cluster, decided) in any_cluster()) {
        let built = build(&cluster, &settings(), decided);
        let all = objects(&built);
        let pods: Vec<_> = all.iter().filter_map(|o| o.pointer("/spec/template/metadata/labels")?.as_object()).collect();
        prop_assert_eq!(pods.len(), 2);
        let selectors = ["/spec/selector/matchLabels", "/spec/podSelector/matchLabels", "/spec/selector"];
        let mut found = 0;
        for object in &all {
            let Some(selector) = selectors.iter().find_map(|at| object.pointer(at)?.as_object()) else { continue };
            found += 1;
            let matching = pods.iter().filter(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
            prop_assert_eq!(matching.count(), 1, "{}", object);
        }
        let budgets = [&built.shard_budget, &built.gateway_budget].into_iter().flatten().count();
        prop_assert_eq!(found, 6 + budgets);
    }

    #[test]
    fn every_budget_lets_a_pod_go_and_keeps_another((cluster, decided) in any_cluster()) {
        let built = build(&cluster, &settings(), decided);
        for (budget, replicas) in
            [(built.shard_budget, decided.replicas), (built.gateway_budget, cluster.spec.gateway.replicas)]
        {
            let unavailable = budget.map(|b| b.spec.unwrap().max_unavailable.unwrap());
            prop_assert_eq!(unavailable, (replicas > 1).then_some(IntOrString::Int(1)));
        }
    }

    #[test]
    fn every_name_and_label_fits((cluster, decided) in any_cluster()) {
        for object in objects(&build(&cluster, &settings(), decided)) {
            for text in bounded(&object) {
                prop_assert!(text.len() <= 63, "{}", text);
            }
        }
        // The label with the name of the last pod, and the one with the revision of the StatefulSet.
        for suffix in ["-999", "-0123456789"] {
            prop_assert!((names::cluster(&cluster) + suffix).len() <= 63);
        }
    }

    #[test]
    fn every_object_belongs_to_the_cluster((cluster, decided) in any_cluster()) {
        for object in objects(&build(&cluster, &settings(), decided)) {
            prop_assert_eq!(object["metadata"]["ownerReferences"][0]["uid"].as_str(), cluster.metadata.uid.as_deref());
            prop_assert_eq!(&object["metadata"]["namespace"], "market");
            prop_assert_eq!(&object["metadata"]["labels"][labels::MANAGED_BY], labels::OPERATOR);
        }
    }

    #[test]
    fn the_same_cluster_is_built_the_same((cluster, decided) in any_cluster()) {
        let once = objects(&build(&cluster, &settings(), decided));
        prop_assert_eq!(once, objects(&build(&cluster.clone(), &settings(), decided)));
    }
}
