//! Channel templates: text with `{key}`, `{topic}` and `{header:NAME}`, and which of them may stand side by side.
//!
//! Two topics may not share a channel: the order of their records is not defined, so a position in that channel would mean
//! nothing. [`collision`] therefore finds a channel name that two entries could both produce, whatever keys and headers hold.

use std::collections::{HashMap, VecDeque};

use crate::spec::{Topic, TopicSelector};

/// What a template is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// Key of the record.
    Key,
    /// Topic of the record.
    Topic,
    /// Value of the record header with this name.
    Header(String),
}

/// A channel template that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// What is wrong with a template, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing in it.
    #[error("write text with {{key}}, {{topic}} or {{header:NAME}}, such as {{key}}.trade")]
    Empty,
    /// `{name}` is no placeholder.
    #[error("{{{0}}} is no placeholder; use {{key}}, {{topic}} or {{header:NAME}}")]
    Unknown(String),
    /// A brace without its partner.
    #[error("close every {{ with a }}, and write no brace outside {{key}}, {{topic}} and {{header:NAME}}")]
    Unbalanced,
    /// A control character.
    #[error("remove the control character {0:?}: clients could not type this channel")]
    Control(char),
}

impl Template {
    /// What it is made of.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether a record of `topic` can go to `channel`; keys and headers may hold anything, also nothing.
    pub fn makes(&self, topic: &str, channel: &str) -> bool {
        // What stands between keys and headers.
        let mut texts = vec![String::new()];
        for part in &self.0 {
            match (part, texts.last_mut()) {
                (Part::Text(text), Some(last)) => last.push_str(text),
                (Part::Topic, Some(last)) => last.push_str(topic),
                _ => texts.push(String::new()),
            }
        }
        let [first, between @ .., last] = &texts[..] else { return channel == texts.concat() };
        let Some(inner) = channel.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        // Each where it first can be: what follows has the most room then.
        between.iter().try_fold(inner, |rest, text| Some(rest.split_once(text.as_str())?.1)).is_some()
    }

    /// Whether the topic can be told from the channel name alone, so that two topics never share a channel. It can where `{topic}` is
    /// the first placeholder and a character that no topic name holds (such as `/`) ends it, or the same from the right.
    pub fn tells_topic(&self) -> bool {
        fn from_one_side<'a>(mut parts: impl Iterator<Item = &'a Part>, next: fn(&str) -> Option<char>) -> bool {
            match parts.find(|p| !matches!(p, Part::Text(_))) {
                Some(Part::Topic) => match parts.next() {
                    None => true,
                    Some(Part::Text(text)) => next(text).is_some_and(|c| !is_topic_char(c)),
                    Some(_) => false,
                },
                _ => false,
            }
        }
        from_one_side(self.0.iter(), |t| t.chars().next()) || from_one_side(self.0.iter().rev(), |t| t.chars().last())
    }
}

impl std::str::FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first == '{' {
                let end = rest.find('}').ok_or(TemplateError::Unbalanced)?;
                let (name, after) = (&rest[1..end], &rest[end + 1..]);
                parts.push(match name.strip_prefix("header:") {
                    _ if name.contains('{') => return Err(TemplateError::Unbalanced),
                    Some(header) if !header.is_empty() => Part::Header(header.to_owned()),
                    None if name == "key" => Part::Key,
                    None if name == "topic" => Part::Topic,
                    _ => return Err(TemplateError::Unknown(name.to_owned())),
                });
                rest = after;
            } else {
                let (plain, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
                if plain.contains('}') {
                    return Err(TemplateError::Unbalanced);
                }
                if let Some(c) = plain.chars().find(char::is_ascii_control) {
                    return Err(TemplateError::Control(c));
                }
                parts.push(Part::Text(plain.to_owned()));
                rest = after;
            }
        }
        if parts.is_empty() { Err(TemplateError::Empty) } else { Ok(Self(parts)) }
    }
}

/// A channel that records of both entries could go to; none when that cannot happen, or when a template is not legal.
pub fn collision(a: &Topic, b: &Topic) -> Option<String> {
    let (left, right): (Template, Template) = (a.channel.parse().ok()?, b.channel.parse().ok()?);
    if left == right && left.tells_topic() {
        return None;
    }
    shared(&symbols(&left, a.selector()), &symbols(&right, b.selector()))
}

/// A set of characters, at one place of a channel name.
#[derive(Clone, Copy, PartialEq)]
enum Set {
    Just(char),
    Topic,
    Any,
}

/// One place of a channel name, or any number of them.
#[derive(Clone, Copy, PartialEq)]
enum Symbol {
    One(Set),
    Many(Set),
}

fn is_topic_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl Set {
    /// A character of both sets.
    fn common(self, other: Self) -> Option<char> {
        match (self, other) {
            (Self::Just(c), Self::Just(d)) => (c == d).then_some(c),
            (Self::Just(c), Self::Topic) | (Self::Topic, Self::Just(c)) => is_topic_char(c).then_some(c),
            (Self::Just(c), Self::Any) | (Self::Any, Self::Just(c)) => Some(c),
            (Self::Topic | Self::Any, Self::Topic | Self::Any) => Some('x'),
        }
    }
}

/// The channel names of a template as a sequence of symbols. Keys and headers may hold anything, also nothing.
fn symbols(template: &Template, selector: TopicSelector<'_>) -> Vec<Symbol> {
    let mut out = Vec::new();
    let text = |out: &mut Vec<Symbol>, t: &str| out.extend(t.chars().map(|c| Symbol::One(Set::Just(c))));
    for part in template.parts() {
        match (part, selector) {
            (Part::Text(t), _) => text(&mut out, t),
            (Part::Topic, TopicSelector::Name(name)) => text(&mut out, name),
            (Part::Topic, TopicSelector::Pattern(_)) => out.extend([Symbol::One(Set::Topic), Symbol::Many(Set::Topic)]),
            (Part::Key | Part::Header(_), _) => out.push(Symbol::Many(Set::Any)),
        }
    }
    out
}

/// The shortest text that both sequences match: a breadth-first walk over pairs of places.
fn shared(a: &[Symbol], b: &[Symbol]) -> Option<String> {
    type Place = (usize, usize);
    let mut came_from: HashMap<Place, (Place, Option<char>)> = HashMap::new();
    let mut queue = VecDeque::from([(0, 0)]);
    while let Some(place @ (i, j)) = queue.pop_front() {
        if place == (a.len(), b.len()) {
            let mut text = Vec::new();
            let mut at = place;
            while at != (0, 0) {
                let (before, c) = came_from[&at];
                text.extend(c);
                at = before;
            }
            return Some(text.into_iter().rev().collect());
        }
        let mut steps: Vec<(Place, Option<char>)> = Vec::new();
        if let Some(Symbol::Many(_)) = a.get(i) {
            steps.push(((i + 1, j), None));
        }
        if let Some(Symbol::Many(_)) = b.get(j) {
            steps.push(((i, j + 1), None));
        }
        match (a.get(i), b.get(j)) {
            (Some(Symbol::One(x)), Some(Symbol::One(y))) => {
                steps.extend(x.common(*y).map(|c| ((i + 1, j + 1), Some(c))));
            }
            (Some(Symbol::Many(x)), Some(Symbol::One(y))) => steps.extend(x.common(*y).map(|c| ((i, j + 1), Some(c)))),
            (Some(Symbol::One(x)), Some(Symbol::Many(y))) => steps.extend(x.common(*y).map(|c| ((i + 1, j), Some(c)))),
            _ => {}
        }
        for (next, c) in steps {
            if next != (0, 0) && !came_from.contains_key(&next) {
                came_from.insert(next, (place, c));
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
