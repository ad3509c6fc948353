//! Finds an example in the manifest: a topic to publish to, and the channels of its records.

use wscluster_api::spec::Topic;

use super::demo::SYMBOLS;

/// A topic to publish to, and the channels of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) topic: String,
    /// The record key that leads to the first channel.
    pub(crate) key: &'static str,
    /// The channels of the demo's symbols; a single one if the channel does not depend on the key.
    pub(crate) channels: Vec<String>,
}

/// The first topic that has a name and whose channel needs no header; `None` if there is no such topic.
pub(crate) fn sample(topics: &[Topic]) -> Option<Sample> {
    let plain = |topic: &&Topic| !topic.name.is_empty() && !topic.channel.contains("{header:");
    let topic = topics.iter().find(plain)?;
    let channel = |key: &str| topic.channel.replace("{topic}", &topic.name).replace("{key}", key);
    let mut channels: Vec<String> = SYMBOLS.iter().map(|(key, _)| channel(key)).collect();
    channels.dedup();
    Some(Sample { topic: topic.name.clone(), key: SYMBOLS[0].0, channels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_channel_template() {
        let found = sample(&[Topic::named("odin.trades", "{topic}/{key}.trade")]).unwrap();
        assert_eq!(found.channels[..2], ["odin.trades/BTC.trade", "odin.trades/ETH.trade"]);
        assert_eq!(sample(&[Topic::named("news", "all")]).unwrap().channels, ["all"]);
    }

    #[test]
    fn skips_topics_without_a_name_or_with_a_header_in_the_channel() {
        let pattern = Topic { pattern: Some("odin\\..*".into()), channel: "{key}".into(), ..Topic::default() };
        let header = Topic::named("a", "{header:tenant}.{key}");
        assert_eq!(sample(&[pattern.clone(), header.clone()]), None);
        assert_eq!(sample(&[pattern, header, Topic::named("b", "{key}")]).unwrap().topic, "b");
    }
}
