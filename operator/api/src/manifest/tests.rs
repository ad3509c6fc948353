//! Messages for invalid manifests.

use super::*;

fn error(text: &str) -> String {
    parse(text, Path::new("cluster.yaml")).unwrap_err().to_string()
}

fn with(spec: &str) -> String {
    let head = "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: { name: prices }\nspec:\n";
    let source = "  source: { kafka: { topics: [{ name: odin.trades, channel: \"{key}.trade\" }] } }\n";
    format!("{head}{source}  {spec}\n")
}

#[test]
fn fills_in_the_defaults() {
    let cluster = parse(&with("shards: 3"), Path::new("-")).unwrap();
    assert_eq!((cluster.spec.shards, cluster.spec.capacity, cluster.spec.gateway.service.port), (3, 6_000, 8_080));
    assert_eq!(cluster.spec.source.kafka.topics[0].r#type, "price:update");
}

#[test]
fn defaults_of_the_schema_are_those_of_the_code() {
    let spec = parse(&with("paused: false"), Path::new("-")).unwrap().spec;
    let defaulted = kube::core::cel::apply_defaults(
        definition::spec_schema(),
        &json!({ "source": { "kafka": { "topics": [{ "name": "odin.trades", "channel": "{key}.trade" }] } } }),
    );
    assert_eq!(serde_json::to_value(spec).unwrap(), defaulted);
}

#[test]
fn reports_a_missing_file() {
    let message = read(Path::new("/nonexistent/cluster.yaml")).unwrap_err().to_string();
    assert!(message.starts_with("failed to read /nonexistent/cluster.yaml: No such file"), "{message}");
    assert!(message.contains("give the path of a WsCluster manifest"), "{message}");
    assert!(read(Path::new("/")).unwrap_err().to_string().contains("directory"));
}

#[test]
fn reports_a_wrong_kind_or_version() {
    let text = with("shards: 3").replace("kind: WsCluster", "kind: Deployment");
    assert_eq!(error(&text), "cluster.yaml is not a WsCluster: kind is \"Deployment\"; write kind: WsCluster");
    let text = with("shards: 3").replace("v1alpha1", "v1");
    let expected =
        "cluster.yaml is not a WsCluster: apiVersion is \"wscluster.dev/v1\"; write apiVersion: wscluster.dev/v1alpha1";
    assert_eq!(error(&text), expected);
    assert!(error("spec: {}").contains("apiVersion is missing; write apiVersion: wscluster.dev/v1alpha1"));
    assert!(error("just text").contains("the document is not a mapping"));
}

#[test]
fn requires_exactly_one_document() {
    assert!(error("# nothing\n").contains("contains no document"));
    let two = format!("apiVersion: v1\nkind: Secret\nmetadata: {{ name: kafka }}\n---\n{}", with("shards: 3"));
    assert!(error(&two).contains("contains 2 documents (Secret kafka, WsCluster prices)"), "{}", error(&two));
    assert!(parse(&format!("---\n{}---\n", with("shards: 3")), Path::new("-")).is_ok());
}

#[test]
fn reports_the_line_of_a_yaml_error() {
    let message = error("spec: [1, 2\nkind: x");
    assert!(message.starts_with("failed to parse cluster.yaml: ") && message.contains("line 2"), "{message}");
    assert!(
        error(&with("shards: 3\n  shards: 4")).contains("duplicate entry"),
        "{}",
        error(&with("shards: 3\n  shards: 4"))
    );
}

#[test]
fn names_an_unknown_field_and_the_nearest_known_one() {
    let unknown = |spec: &str| error(&with(spec)).lines().last().unwrap().trim().to_owned();
    assert_eq!(unknown("capcity: 5"), "spec.capcity: this unknown field is not allowed; write spec.capacity");
    assert_eq!(
        unknown("delivery: { MaxQueuebytes: 1Mi }"),
        "spec.delivery.MaxQueuebytes: this unknown field is not allowed; write spec.delivery.maxQueueBytes"
    );
    assert_eq!(
        unknown("brokers: [\"a:1\"]"),
        "spec.brokers: this unknown field is not allowed; it belongs to spec.source.kafka.brokers"
    );
    assert!(
        unknown("colour: red").contains("known fields are autoscale, capacity, delivery"),
        "{}",
        unknown("colour: red")
    );
    let metadata = with("shards: 3").replace("{ name: prices }", "{ name: prices, lables: {} }");
    assert!(error(&metadata).contains("metadata.lables: this unknown field is not allowed; write metadata.labels"));
}

#[test]
fn reports_the_expected_value_of_a_field() {
    let wrong = |spec: &str| error(&with(spec)).lines().last().unwrap().trim().to_owned();
    assert_eq!(wrong("shards: three"), "spec.shards: \"three\" is not allowed; write a whole number from 1 to 1000");
    assert_eq!(wrong("capacity: 0"), "spec.capacity: 0 is not allowed; write a whole number from 1 to 1000000");
    assert_eq!(
        wrong("drain: { deadline: 120 }"),
        "spec.drain.deadline: 120 is not allowed; write a whole number and a unit: 100ms, 30s, 2m or 1h"
    );
    assert_eq!(
        wrong("delivery: { slowClient: disconect }"),
        "spec.delivery.slowClient: \"disconect\" is not allowed; write disconnect"
    );
    assert!(wrong("delivery: { maxQueueBytes: lots }").contains("an optional unit: 65536, 256Ki or 64Mi"));
    let huge = error(&with("capacity: 340282366920938463463374607431768211455"));
    assert!(huge.contains("211455 is larger than any field permits") && !huge.contains("u128"), "{huge}");
    assert!(wrong("paused: \"no\"").contains("write true or false"));
    assert!(wrong("template: { shard: { resources: { limits: { cpu: [] } } } }").contains("write a quantity"));
}

#[test]
fn reports_everything_at_once() {
    let text = with("capacity: 0\n  shardz: 3\n  drain: { retryAfter: { min: 9s } }");
    // An unknown field does not hide other mistakes.
    assert!(error(&text).contains("spec.shardz") && error(&text).contains("spec.capacity"), "{}", error(&text));
    let text = with("capacity: 0\n  drain: { retryAfter: { min: 9s } }");
    assert!(
        error(&text).contains("spec.capacity") && error(&text).contains("spec.drain.retryAfter.min"),
        "{}",
        error(&text)
    );
}

#[test]
fn never_repeats_a_password() {
    let text = with("paused: false").replace(
        "kafka: {",
        "kafka: { brokers: [\"a:1\"], properties: { sasl.password: hunter2 }, \
         security: { sasl: { mechanism: PLAIN, username: gw, password: hunter2 } },",
    );
    assert!(error(&text).contains("security.sasl.password: this value (not shown)"), "{}", error(&text));
    assert!(!error(&text).contains("hunter2"), "{}", error(&text));
}

#[test]
fn shows_a_channel_that_two_topics_share() {
    let topics = "topics: [{ name: a, channel: \"{key}.trade\" }, { name: b, channel: \"BTC.{key}\" }]";
    let text = with("paused: false").replace("topics: [{ name: odin.trades, channel: \"{key}.trade\" }]", topics);
    let message = error(&text);
    assert!(message.contains("spec.source.kafka.topics[1].channel: BTC.{key} is not allowed; records of"), "{message}");
    assert!(message.contains("\"BTC.trade\""), "{message}");
}

#[test]
fn the_manifests_of_the_project_are_valid() {
    for (name, shards, topics) in [("quickstart", 3, 1), ("eight-topics", 3, 8)] {
        let path = format!("{}/../../manifests/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let spec = read(Path::new(&path)).unwrap().spec;
        assert_eq!((spec.shards, spec.capacity, spec.source.kafka.topics.len()), (shards, 6_000, topics), "{name}");
        assert!(spec.source.kafka.brokers.is_empty(), "{name} must run with the embedded broker");
    }
}
