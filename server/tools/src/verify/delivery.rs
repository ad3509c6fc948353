//! Checks that a record published to Kafka reaches a client on every shard, as the same message everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures_util::future::join_all;
use rand::RngExt as _;
use serde_json::{Value, json};
use wscluster_kafka::Connect;

use super::client::Client;
use super::report::Finding;
use super::target::Source;
use crate::publish::deliver::Outlet;
use crate::publish::input::Record;

/// A record with a unique key.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    key: String,
    value: String,
    /// The channel in which the record arrives.
    pub(crate) channel: String,
}

impl Probe {
    /// A record for the topic of `source`.
    pub(crate) fn new(source: &Source) -> Self {
        let nonce: u64 = rand::rng().random();
        let key = format!("wscluster-verify-{nonce:016x}");
        let value = json!({ "verify": key }).to_string();
        let channel = source.channel.replace("{topic}", &source.topic).replace("{key}", &key);
        Self { key, value, channel }
    }

    /// Whether `message` is this record. The value may be JSON, a string or base64.
    fn is(&self, message: &Value) -> bool {
        let binary = || base64::engine::general_purpose::STANDARD.encode(&self.value);
        message["channel"] == *self.channel
            && (message["data"].to_string().contains(&self.key) || message["data_base64"] == binary())
    }

    /// Publishes the record and waits for the acknowledgement of the broker. Blocks. Returns the time at which the
    /// connected producer received the record.
    fn publish(&self, source: &Source, within: Duration) -> Result<Instant, String> {
        let mut kafka = source.kafka.clone();
        // An idempotent producer first requests an id. That takes half a second, which would count as delivery time.
        kafka.properties.insert("enable.idempotence".into(), "false".into());
        let connect = Connect { spec: &kafka, brokers: &[], client: "wscluster-verify" };
        let mut outlet = Outlet::open(&connect, &source.topic, within).map_err(|error| error.to_string())?;
        let (key, value) = (Some(self.key.clone().into()), Some(self.value.clone().into()));
        let handed = Instant::now();
        outlet.send(&Record { key, value, ..Record::default() }).map_err(|error| error.to_string())?;
        outlet.close().error.map_or(Ok(handed), Err)
    }
}

/// Publishes one record and waits for it on every client. The clients must not have a subscription yet.
pub(crate) async fn check(source: &Source, clients: &mut [Client], within: Duration) -> Finding {
    let probe = Probe::new(source);
    let subscribed = join_all(clients.iter_mut().map(|client| client.subscribe(&probe.channel))).await;
    if let Some(error) = subscribed.into_iter().find_map(Result::err) {
        return Finding::failed("delivery", format!("failed to subscribe to {}: {error}", probe.channel), LOG);
    }
    let (published, to) = (probe.clone(), source.clone());
    let sent = tokio::task::spawn_blocking(move || published.publish(&to, within));
    let answers = join_all(clients.iter_mut().map(async |client| {
        let got = client.wait("message", |message| probe.is(message)).await;
        (client.shard.clone(), got, Instant::now())
    }));
    let (sent, answers) = tokio::join!(sent, answers);
    let handed = match sent.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(handed) => handed,
        Err(error) => {
            let brokers = source.kafka.brokers.join(",");
            let detail = format!("failed to publish to {} at {brokers}: {error}", source.topic);
            return Finding::failed("delivery", detail, "check --kafka, and that this machine reaches the brokers");
        }
    };
    let took = |(shard, got, at): (String, _, Instant)| (shard, got, at.saturating_duration_since(handed));
    let answers: Vec<_> = answers.into_iter().map(took).collect();
    judge(source, &answers)
}

const LOG: &str = "check the log of that shard";

type Answer = (String, Result<Value, super::client::ClientError>, Duration);

fn judge(source: &Source, answers: &[Answer]) -> Finding {
    let mut shards: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (shard, got, _) in answers {
        let (came, all) = shards.entry(shard).or_default();
        *came += u32::from(got.is_ok());
        *all += 1;
    }
    let list = shards.iter().map(|(shard, (came, all))| format!("{shard} {came}/{all}"));
    let numbers = format!("{}: {}", source.topic, list.collect::<Vec<_>>().join(", "));
    if let Some(error) = answers.iter().find_map(|(_, got, _)| got.as_ref().err()) {
        let remedy = "check checks.kafka of the shards without the record: are they connected, and to these brokers?";
        return Finding::failed("delivery", format!("{numbers}; {error}"), remedy);
    }
    let messages = answers.iter().filter_map(|(_, got, _)| got.as_ref().ok());
    let distinct: BTreeSet<String> = messages.map(Value::to_string).collect();
    if distinct.len() > 1 {
        let remedy = "every shard must send the same bytes, with the same position; report this";
        return Finding::failed("delivery", format!("{numbers}, as {} different messages", distinct.len()), remedy);
    }
    let slowest = answers.iter().map(|(.., took)| *took).max().unwrap_or_default();
    Finding::ok("delivery", format!("{numbers}, same position everywhere, slowest {} ms", slowest.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::client::ClientError;
    use crate::verify::report::Verdict;

    fn source() -> Source {
        Source {
            kafka: wscluster_api::spec::Kafka::default(),
            topic: "odin.trades".into(),
            channel: "{key}.trade".into(),
        }
    }

    #[test]
    fn recognises_its_record_in_every_form_of_value() {
        let probe = Probe::new(&source());
        assert_ne!(probe.key, Probe::new(&source()).key);
        let message = |name: &str, data: Value| json!({ "channel": probe.channel, "pos": "ab-0-1", name: data });
        let value: Value = serde_json::from_str(&probe.value).unwrap();
        assert!(probe.is(&message("data", value)));
        assert!(probe.is(&message("data", json!(probe.value))));
        let encoded = base64::engine::general_purpose::STANDARD.encode(&probe.value);
        assert!(probe.is(&message("data_base64", json!(encoded))));
        assert!(!probe.is(&message("data", json!({ "verify": "another" }))));
        assert!(!probe.is(&json!({ "channel": "BTC.trade", "data": { "verify": probe.key } })));
    }

    #[test]
    fn finds_a_shard_without_the_message_and_one_with_another() {
        let took = Duration::from_millis(5);
        let got = |shard: &str, pos: &str| (shard.to_owned(), Ok(json!({ "pos": pos })), took);
        let finding = judge(&source(), &[got("a", "1"), got("b", "1")]);
        assert_eq!(finding.detail, "odin.trades: a 1/1, b 1/1, same position everywhere, slowest 5 ms");
        assert_eq!(judge(&source(), &[got("a", "1"), got("b", "2")]).verdict, Verdict::Failed);
        let late = ("b".to_owned(), Err(ClientError::Late("b:1".into(), "message", took)), took);
        let finding = judge(&source(), &[got("a", "1"), late]);
        assert_eq!(finding.detail, "odin.trades: a 1/1, b 0/1; b:1: no message within 5ms");
    }
}
