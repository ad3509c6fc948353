//! Channel names: patterns on the command line, and the mapping between a record's key and its channel.

/// Most channels of a run.
const MAX_CHANNELS: usize = 100_000;

/// A pattern, template or channel that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChannelError {
    /// Not a pattern.
    #[error("{0:?} is not a channel or pattern; write e.g. BTC.trade or K{{0..99}}.trade")]
    Pattern(String),
    /// Too many channels.
    #[error("the patterns name more than {MAX_CHANNELS} channels")]
    TooMany,
    /// Not a template with exactly one `{key}`.
    #[error("{0:?} is not a channel template with exactly one {{key}}; write e.g. {{key}}.trade")]
    Template(String),
    /// A channel that the template cannot produce.
    #[error("channel {channel:?} cannot come from a topic with the template {template:?}; check --topic NAME=TEMPLATE")]
    Mismatch {
        /// The channel.
        channel: String,
        /// The template.
        template: String,
    },
}

/// The channels that `patterns` name. A pattern may contain one range `{FIRST..LAST}`, which includes both ends.
pub(super) fn expand(patterns: &[String]) -> Result<Vec<String>, ChannelError> {
    let mut channels = Vec::new();
    for pattern in patterns {
        let bad = || ChannelError::Pattern(pattern.clone());
        if pattern.is_empty() {
            return Err(bad());
        }
        let Some((before, rest)) = pattern.split_once('{') else {
            channels.push(pattern.clone());
            continue;
        };
        let (range, after) = rest.split_once('}').ok_or_else(bad)?;
        let (first, last) = range.split_once("..").ok_or_else(bad)?;
        let (first, last): (u32, u32) = first.parse().ok().zip(last.parse().ok()).ok_or_else(bad)?;
        if first > last || after.contains(['{', '}']) {
            return Err(bad());
        }
        if (last - first) as usize >= MAX_CHANNELS - channels.len().min(MAX_CHANNELS) {
            return Err(ChannelError::TooMany);
        }
        channels.extend((first..=last).map(|n| format!("{before}{n}{after}")));
    }
    let mut unique = std::collections::HashSet::new();
    channels.retain(|channel| unique.insert(channel.clone()));
    Ok(channels)
}

/// A channel template with one `{key}`, e.g. `{key}.trade`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    before: String,
    after: String,
}

impl Template {
    /// Parses `text`; `{topic}` is replaced by `topic`.
    pub(super) fn parse(text: &str, topic: &str) -> Result<Self, ChannelError> {
        let bad = || ChannelError::Template(text.to_owned());
        let filled = text.replace("{topic}", topic);
        let (before, after) = filled.split_once("{key}").ok_or_else(bad)?;
        if before.contains(['{', '}']) || after.contains(['{', '}']) {
            return Err(bad());
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// The default template for `channel`: the key is the part before the last dot.
    pub(super) fn of_channel(channel: &str) -> Self {
        let after = channel.rfind('.').map_or("", |dot| &channel[dot..]);
        Self { before: String::new(), after: after.to_owned() }
    }

    /// The channel of a record with `key`.
    pub(super) fn channel(&self, key: &str) -> String {
        format!("{}{key}{}", self.before, self.after)
    }

    /// The key of `channel`; `None` if the template cannot produce it.
    pub(super) fn key(&self, channel: &str) -> Option<String> {
        Some(channel.strip_prefix(&self.before)?.strip_suffix(&self.after)?.to_owned())
    }

    /// Fails unless every channel has a key.
    pub(super) fn check(&self, channels: &[String]) -> Result<(), ChannelError> {
        match channels.iter().find(|channel| self.key(channel).is_none()) {
            None => Ok(()),
            Some(channel) => Err(ChannelError::Mismatch { channel: channel.clone(), template: self.channel("{key}") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str]) -> Result<Vec<String>, ChannelError> {
        expand(&patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn expands_ranges_and_drops_repetitions() {
        assert_eq!(of(&["K{8..10}.trade", "BTC", "K9.trade"]).unwrap(), ["K8.trade", "K9.trade", "K10.trade", "BTC"]);
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        for bad in ["", "K{", "K{1}", "K{1..}", "K{2..1}", "K{a..b}", "K{1..2}{3..4}"] {
            assert!(matches!(of(&[bad]), Err(ChannelError::Pattern(_))), "{bad}");
        }
        assert_eq!(of(&["K{0..4000000000}"]), Err(ChannelError::TooMany));
    }

    #[test]
    fn turns_a_template_around() {
        let template = Template::parse("{topic}/{key}.trade", "odin").unwrap();
        assert_eq!(template.channel("BTC"), "odin/BTC.trade");
        assert_eq!(template.key("odin/BTC.trade").unwrap(), "BTC");
        assert!(template.check(&["BTC.trade".to_owned()]).is_err());
        for bad in ["trade", "{key}{key}", "{key}.{header:x}", "{"] {
            assert!(Template::parse(bad, "t").is_err(), "{bad}");
        }
        assert_eq!(Template::of_channel("A.B.trade").key("A.B.trade").unwrap(), "A.B");
        assert_eq!(Template::of_channel("plain").key("plain").unwrap(), "plain");
    }
}
