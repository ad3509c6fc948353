//! Templates and collisions, by example and by property.

use proptest::prelude::*;

use super::*;

fn named(name: &str, channel: &str) -> Topic {
    Topic::named(name, channel)
}

fn matching(pattern: &str, channel: &str) -> Topic {
    Topic { pattern: Some(pattern.to_owned()), ..Topic::named("", channel) }
}

#[test]
fn reads_text_and_every_placeholder() {
    let template: Template = "a.{key}/{topic}{header:event type}".parse().unwrap();
    let header = Part::Header("event type".into());
    assert_eq!(template.parts(), [Part::Text("a.".into()), Part::Key, Part::Text("/".into()), Part::Topic, header]);
}

#[test]
fn refuses_invalid_templates() {
    let error = |text: &str| text.parse::<Template>().unwrap_err();
    assert_eq!(error(""), TemplateError::Empty);
    assert_eq!(error("{Key}"), TemplateError::Unknown("Key".into()));
    assert_eq!(error("{header:}"), TemplateError::Unknown("header:".into()));
    for unbalanced in ["{key", "key}", "{{key}}", "a{key}}", "{header:a{key}"] {
        assert_eq!(error(unbalanced), TemplateError::Unbalanced, "{unbalanced}");
    }
    assert_eq!(error("a\n{key}"), TemplateError::Control('\n'));
}

#[test]
fn decides_which_channels_a_template_can_produce() {
    let makes = |template: &str, channel: &str| template.parse::<Template>().unwrap().makes("odin.a", channel);
    for (template, channel) in [
        ("all", "all"),
        ("{topic}", "odin.a"),
        ("{key}.trade", "BTC.trade"),
        ("{key}.trade", ".trade"),
        ("{key}.trade", "a.trade.trade"),
        ("{topic}/{key}", "odin.a/x"),
        ("x.{key}.{topic}.{header:y}.z", "x..odin.a..z"),
        ("{key}{header:y}", ""),
        ("{key}-{header:y}-{key}", "1-2-3-4"),
    ] {
        assert!(makes(template, channel), "{template} and {channel}");
    }
    for (template, channel) in [
        ("all", "every"),
        ("{topic}", "odin.b"),
        ("{key}.trade", "BTC.trades"),
        ("{topic}/{key}", "odin.ab/x"),
        // A literal text must not match twice.
        ("a{key}a", "a"),
        ("{key}-{header:y}-{key}", "1-2"),
        ("x.{key}.z", "x.z"),
    ] {
        assert!(!makes(template, channel), "{template} and {channel}");
    }
}

proptest! {
    #[test]
    fn can_produce_every_concatenation_of_its_parts(
        parts in prop::collection::vec((0..4_u8, "[ab.]{0,3}"), 1..6), channel in "[ab.]{0,9}",
    ) {
        let (mut template, mut made, mut pattern) = (String::new(), String::new(), String::new());
        for (kind, text) in &parts {
            let (part, says, matches) = match kind {
                0 => ("{key}".to_owned(), text.as_str(), ".*".to_owned()),
                1 => ("{header:h}".to_owned(), text.as_str(), ".*".to_owned()),
                2 => ("{topic}".to_owned(), "a.b", "a[.]b".to_owned()),
                _ => (text.clone(), text.as_str(), text.replace('.', "[.]")),
            };
            template += &part;
            made += says;
            pattern += &matches;
        }
        let Ok(template) = template.parse::<Template>() else { return Ok(()) };
        prop_assert!(template.makes("a.b", &made));
        let matches = regex::Regex::new(&format!("^{pattern}$")).unwrap().is_match(&channel);
        prop_assert_eq!(template.makes("a.b", &channel), matches, "{:?} and {}", template, channel);
    }
}

#[test]
fn finds_a_channel_that_two_topics_share() {
    let shared = |a: &str, b: &str| collision(&named("odin.a", a), &named("odin.b", b));
    assert_eq!(shared("{key}.trade", "{key}.trade").as_deref(), Some(".trade"));
    assert_eq!(shared("{key}.trade", "BTC.{key}").as_deref(), Some("BTC.trade"));
    assert_eq!(shared("{key}", "all").as_deref(), Some("all"));
    assert_eq!(shared("all", "all").as_deref(), Some("all"));
    assert_eq!(shared("{key}.b", "x.{key}.{header:y}").as_deref(), Some("x..b"));
    // A key may contain the separator: `odin.a.` + `odin.b` matches both.
    assert_eq!(shared("{topic}.{key}", "{key}.{topic}").as_deref(), Some("odin.a.odin.b"));
}

#[test]
fn accepts_topics_whose_channels_differ() {
    for (a, b) in [
        ("{key}.trade", "{key}.liquidity"),
        ("{topic}/{key}", "{topic}/{key}"),
        ("{topic}.{key}", "{topic}.{key}"),
        ("all", "every"),
        ("a.{key}.x", "b.{key}.x"),
    ] {
        assert_eq!(collision(&named("odin.a", a), &named("odin.b", b)), None, "{a} and {b}");
    }
    // One name is a prefix of the other: only a separator that no name contains keeps them apart.
    assert!(collision(&named("odin", "{topic}.{key}"), &named("odin.a", "{topic}.{key}")).is_some());
    assert!(collision(&named("odin", "{topic}/{key}"), &named("odin.a", "{topic}/{key}")).is_none());
}

#[test]
fn treats_the_topic_of_a_pattern_as_any_name() {
    let all = matching("odin\\..*", "{topic}/{key}");
    assert_eq!(collision(&all, &named("odin.a", "{topic}/{key}")), None);
    assert_eq!(collision(&all, &named("odin.a", "odin.a:{key}")), None);
    assert!(collision(&all, &named("other", "{key}.trade")).is_some());
    assert_eq!(collision(&all, &named("other", "/{key}")), None, "a topic name is never empty");
}

#[test]
fn decides_when_a_channel_determines_its_topic() {
    let tells = |text: &str| text.parse::<Template>().unwrap().tells_topic();
    for yes in
        ["{topic}", "x.{topic}", "{topic}/{key}", "{key}:{topic}", "a-{topic} {key}{header:h}", "{key}/{topic}.x"]
    {
        assert!(tells(yes), "{yes}");
    }
    for no in ["{key}", "all", "{topic}.{key}", "{topic}{key}", "{key}{topic}", "{key}.{topic}", "{key}/{topic}/{key}"]
    {
        assert!(!tells(no), "{no}");
    }
}

/// Templates over a small alphabet, so that coincidences happen.
fn any_template() -> impl Strategy<Value = String> {
    let part =
        prop_oneof!["[ab./]{1,2}", Just("{key}".to_owned()), Just("{topic}".to_owned()), Just("{header:h}".to_owned())];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat())
}

fn expand(channel: &str, topic: &str, key: &str, header: &str) -> String {
    channel.replace("{key}", key).replace("{topic}", topic).replace("{header:h}", header)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_two_records_share_a_channel_unless_a_collision_was_found(
        left in any_template(), right in any_template(),
        keys in prop::array::uniform4("[ab./]{0,3}"), topics in prop::array::uniform2("[ab.]{1,2}"),
    ) {
        prop_assume!(topics[0] != topics[1]);
        let found = collision(&named(&topics[0], &left), &named(&topics[1], &right));
        let one = expand(&left, &topics[0], &keys[0], &keys[1]);
        let other = expand(&right, &topics[1], &keys[2], &keys[3]);
        prop_assert!(one != other || found.is_some(), "{left} and {right} of {topics:?} both make {one}");
    }

    #[test]
    fn topics_of_a_pattern_share_no_channel_that_tells_them(
        text in "[ab./]{0,2}", rest in any_template(), from_right: bool,
        keys in prop::array::uniform4("[ab./]{0,3}"), topics in prop::array::uniform2("[ab.]{1,2}"),
    ) {
        prop_assume!(topics[0] != topics[1]);
        let template = if from_right { format!("{rest}/{{topic}}{text}") } else { format!("{text}{{topic}}/{rest}") };
        prop_assert!(template.parse::<Template>().unwrap().tells_topic());
        let one = expand(&template, &topics[0], &keys[0], &keys[1]);
        prop_assert_ne!(one, expand(&template, &topics[1], &keys[2], &keys[3]));
    }
}
