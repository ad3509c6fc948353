//! Rules of the source: which topics may be combined, what the embedded broker supports, and which librdkafka
//! properties are refused.

use super::Rule;
use crate::channel::{self, Template};
use crate::spec::{Topic, TopicSelector};
use crate::violation::Violation;

/// Refused librdkafka properties, because the shard sets them or the manifest has a field for them, with the remedy.
/// A name that ends in `.` or `_` is a prefix.
const DENIED: [(&str, &str); 26] = [
    ("bootstrap.servers", "use source.kafka.brokers"),
    ("metadata.broker.list", "use source.kafka.brokers"),
    ("client.id", "use source.kafka.clientId"),
    ("client.rack", "use source.kafka.rack"),
    ("security.protocol", "use source.kafka.security"),
    ("sasl.", "use source.kafka.security.sasl"),
    ("ssl.", "use source.kafka.security.tls"),
    ("ssl_", "use source.kafka.security.tls"),
    ("enable.sasl.", "use source.kafka.security.sasl"),
    ("enable.ssl.", "use source.kafka.security.tls"),
    ("group.", "remove it: every shard reads every partition, without a consumer group"),
    ("partition.assignment.strategy", "remove it: every shard reads every partition, without a consumer group"),
    ("session.timeout.ms", "remove it: every shard reads every partition, without a consumer group"),
    ("heartbeat.interval.ms", "remove it: every shard reads every partition, without a consumer group"),
    ("max.poll.interval.ms", "remove it: every shard reads every partition, without a consumer group"),
    ("enable.auto.commit", "remove it: shards keep no offsets in Kafka"),
    ("auto.commit.", "remove it: shards keep no offsets in Kafka"),
    ("auto.commit.enable", "remove it: shards keep no offsets in Kafka"),
    ("enable.auto.offset.store", "remove it: shards keep no offsets in Kafka"),
    ("offset.store.", "remove it: shards keep no offsets in Kafka"),
    ("auto.offset.reset", "remove it: source.kafka.history determines how far back a shard reads"),
    ("isolation.level", "remove it: shards read committed records only, so that every client gets the same"),
    ("enable.partition.eof", "remove it: shards would treat each end of a partition as an error"),
    ("statistics.interval.ms", "remove it: statistics are not read; the lag of a shard is in its /health and /metrics"),
    ("plugin.library.paths", "remove it: shards do not load plugins"),
    ("test.mock.", "remove it: leave source.kafka.brokers empty for the embedded broker"),
];

/// A regular expression that matches exactly the templates for which [`Template::tells_topic`] is true.
const TELLS_TOPIC: &str = r"^[^{}]*\\{topic\\}([^A-Za-z0-9._{-].*)?$|^(.*[^A-Za-z0-9._}-])?\\{topic\\}[^{}]*$";

fn denied(property: &str) -> Option<&'static str> {
    let is = |name: &str| property == name || (name.ends_with(['.', '_']) && property.starts_with(name));
    DENIED.into_iter().find(|(name, _)| is(name)).map(|(_, remedy)| remedy)
}

fn denied_cel() -> String {
    let test = |(name, _): (&str, _)| {
        if name.ends_with(['.', '_']) { format!("k.startsWith('{name}')") } else { format!("k == '{name}'") }
    };
    format!("self.all(k, !({}))", DENIED.into_iter().map(test).collect::<Vec<_>>().join(" || "))
}

pub(super) fn rules() -> impl Iterator<Item = Rule> {
    let topics = "spec.source.kafka.topics";
    let topic = "spec.source.kafka.topics[]";
    [
        Rule::new(
            topic,
            "has(self.name) != has(self.pattern)",
            "exactly one of name and pattern must be given",
            each_topic(|at, topic| {
                let value = match (topic.name.is_empty(), topic.pattern.is_some()) {
                    (false, true) => "both name and pattern",
                    (true, false) => "neither name nor pattern",
                    _ => return None,
                };
                Some(Violation::new(at, value, "give name for one topic, or pattern for all that match"))
            }),
        ),
        Rule::new(
            topic,
            "!has(self.name) || !(self.name in ['.', '..'])",
            "name must not be . or .., which Kafka does not allow",
            each_topic(|at, topic| {
                let remedy = "Kafka does not allow this name";
                matches!(topic.name.as_str(), "." | "..").then(|| Violation::new(format!("{at}.name"), &topic.name, remedy))
            }),
        ),
        Rule::new(
            topic,
            // Evaluating the expression is the test: one that does not compile is an error.
            "!has(self.pattern) || 'x'.matches(self.pattern) in [true, false]",
            "pattern must be a regular expression (RE2)",
            each_topic(|at, topic| {
                let error = regex::Regex::new(topic.pattern.as_ref()?).err()?;
                let reason = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let remedy = format!("write a regular expression such as odin\\..* ({reason})");
                Some(Violation::new(format!("{at}.pattern"), topic.pattern.as_ref()?, remedy))
            }),
        ),
        Rule::new(
            topic,
            format!("!has(self.pattern) || self.channel.matches('{TELLS_TOPIC}')"),
            "channel must keep the topics of a pattern apart: use {topic} followed by /, such as {topic}/{key}",
            each_topic(|at, topic| {
                let template: Template = topic.channel.parse().ok()?;
                let wrong = topic.pattern.is_some() && !template.tells_topic();
                let remedy = "two topics of the pattern could share a channel: use {topic} followed by /, such as {topic}/{key}";
                wrong.then(|| Violation::new(format!("{at}.channel"), &topic.channel, remedy))
            }),
        ),
        Rule::new(
            topics,
            "self.all(t, !has(t.name) || self.exists_one(u, has(u.name) && u.name == t.name))",
            "topics must not name a topic twice",
            each_pair(|(first, a), (at, b)| {
                let same = !a.name.is_empty() && a.name == b.name;
                let remedy = format!("give each topic once; {first} has the same name");
                same.then(|| Violation::new(format!("{at}.name"), &b.name, remedy))
            }),
        ),
        Rule::new(
            topics,
            "self.all(t, t.channel.contains('{topic}') || self.exists_one(u, u.channel == t.channel))",
            "topics must not share a channel: give each topic its own text, or use {topic}, such as {topic}/{key}",
            each_pair(|(first, a), (at, b)| {
                let same_topic = !a.name.is_empty() && a.name == b.name;
                let shared = channel::collision(a, b).filter(|_| !same_topic)?;
                let remedy = format!(
                    "records of {first} ({}) could have the same channel, such as {shared:?}; give each topic its own text, or use \
                     {{topic}} followed by /, such as {{topic}}/{{key}}",
                    a.channel
                );
                Some(Violation::new(format!("{at}.channel"), &b.channel, remedy))
            }),
        ),
        Rule::new(
            "spec.source.kafka",
            "size(self.brokers) > 0 || self.topics.all(t, !has(t.pattern))",
            "topics must have a name, not a pattern, if brokers is empty: the embedded broker creates topics by name",
            |spec, found| {
                let kafka = &spec.source.kafka;
                for (i, topic) in kafka.topics.iter().enumerate().filter(|_| kafka.brokers.is_empty()) {
                    if let TopicSelector::Pattern(pattern) = topic.selector() {
                        let remedy = "give name, because the embedded broker creates topics by name, or give source.kafka.brokers";
                        found.push(Violation::new(format!("spec.source.kafka.topics[{i}].pattern"), pattern, remedy));
                    }
                }
            },
        ),
        Rule::new(
            "spec.source.kafka",
            "size(self.brokers) > 0 || !has(self.security)",
            "security requires brokers: the embedded broker supports neither TLS nor SASL",
            |spec, found| {
                if spec.source.kafka.brokers.is_empty() && spec.source.kafka.security.is_some() {
                    let remedy = "give source.kafka.brokers, or remove security: the embedded broker supports neither TLS nor SASL";
                    found.push(Violation::new("spec.source.kafka.security", "security without brokers", remedy));
                }
            },
        ),
        Rule::new(
            "spec.source.kafka.rack",
            "has(self.value) != has(self.env)",
            "exactly one of value and env must be given",
            |spec, found| {
                if spec.source.kafka.rack.as_ref().is_some_and(|r| r.value.is_some() == r.env.is_some()) {
                    let remedy = "give value for a fixed rack, or env for the variable that contains it";
                    found.push(Violation::new("spec.source.kafka.rack", "not exactly one of value and env", remedy));
                }
            },
        ),
        Rule::new(
            "spec.source.kafka.properties",
            denied_cel(),
            "properties must not contain what shards set themselves or what source.kafka has fields for: brokers, clientId, rack, security",
            |spec, found| {
                for property in spec.source.kafka.properties.keys() {
                    if let Some(remedy) = denied(property) {
                        // The message omits the value, which may be a password.
                        found.push(Violation::new(format!("spec.source.kafka.properties[{property}]"), "this property", remedy));
                    }
                }
            },
        ),
    ]
    .into_iter()
}

/// Runs `check` for each topic, with its path.
fn each_topic(
    check: impl Fn(&str, &Topic) -> Option<Violation> + Send + Sync + 'static,
) -> impl Fn(&crate::WsClusterSpec, &mut Vec<Violation>) + Send + Sync + 'static {
    move |spec, found| {
        let topics = spec.source.kafka.topics.iter().enumerate();
        found.extend(topics.filter_map(|(i, topic)| check(&path(i), topic)));
    }
}

/// Runs `check` for each pair of topics, with their paths, the earlier one first.
fn each_pair(
    check: impl Fn((String, &Topic), (String, &Topic)) -> Option<Violation> + Send + Sync + 'static,
) -> impl Fn(&crate::WsClusterSpec, &mut Vec<Violation>) + Send + Sync + 'static {
    move |spec, found| {
        let topics = &spec.source.kafka.topics;
        for (j, later) in topics.iter().enumerate() {
            // Report only the first conflict of each entry.
            found.extend(
                topics[..j].iter().enumerate().find_map(|(i, earlier)| check((path(i), earlier), (path(j), later))),
            );
        }
    }
}

fn path(index: usize) -> String {
    format!("spec.source.kafka.topics[{index}]")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cel_and_code_agree_which_templates_determine_their_topic(
            parts in prop::collection::vec(prop_oneof!["[a./ -]", Just("{key}".into()), Just("{topic}".into()), Just("{header:h}".into())], 1..6),
        ) {
            let text = parts.concat();
            let in_cel = regex::Regex::new(&TELLS_TOPIC.replace(r"\\", r"\")).unwrap().is_match(&text);
            prop_assert_eq!(in_cel, text.parse::<Template>().unwrap().tells_topic(), "{}", text);
        }
    }

    #[test]
    fn denies_by_name_and_by_prefix() {
        for name in [
            "group.id",
            "group.instance.id",
            "ssl.ca.location",
            "sasl.password",
            "enable.auto.commit",
            "client.id",
            "isolation.level",
        ] {
            assert!(denied(name).is_some(), "{name}");
        }
        for name in ["fetch.wait.max.ms", "debug", "client.dns.lookup", "groups", "socket.timeout.ms"] {
            assert!(denied(name).is_none(), "{name}");
        }
    }
}
