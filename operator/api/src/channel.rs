//! Channel templates: text with `{key}`, `{topic}` and `{header:NAME}`.
//!
//! Two topics must not share a channel: the order of their records is undefined, so a position in the channel would be
//! meaningless. [`collision`] finds a channel name that two entries could both produce, for any keys and headers.

use std::collections::{HashMap, VecDeque};

use crate::spec::{Topic, TopicSelector};

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// The key of the record.
    Key,
    /// The topic of the record.
    Topic,
    /// The value of the record header with this name.
    Header(String),
}

/// A parsed channel template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// Why a template is invalid, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is empty.
    #[error("write text with {{key}}, {{topic}} or {{header:NAME}}, such as {{key}}.trade")]
    Empty,
    /// `{name}` is not a placeholder.
    #[error("{{{0}}} is not a placeholder; use {{key}}, {{topic}} or {{header:NAME}}")]
    Unknown(String),
    /// A brace is not closed or not opened.
    #[error("close every {{ with a }}, and use braces only in {{key}}, {{topic}} and {{header:NAME}}")]
    Unbalanced,
    /// The template contains a control character.
    #[error("remove the control character {0:?}")]
    Control(char),
}

impl Template {
    /// The parts of the template, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether a record of `topic` can be published to `channel`. Keys and headers may have any value, including none.
    pub fn makes(&self, topic: &str, channel: &str) -> bool {
        // The literal texts between keys and headers.
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
        // Match each text at its first position: that leaves the most room for the rest.
        between.iter().try_fold(inner, |rest, text| Some(rest.split_once(text.as_str())?.1)).is_some()
    }

    /// Whether the channel name alone determines the topic, so that two topics never share a channel. This is the case
    /// if `{topic}` is the first placeholder and either ends the template or is followed by a character that no topic
    /// name contains, such as `/`. It is also the case if `{topic}` is the last placeholder and either begins the
    /// template or is preceded by such a character.
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

/// A channel that records of both entries could be published to. `None` if there is none, or if a template is invalid.
pub fn collision(a: &Topic, b: &Topic) -> Option<String> {
    let (left, right): (Template, Template) = (a.channel.parse().ok()?, b.channel.parse().ok()?);
    if left == right && left.tells_topic() {
        return None;
    }
    shared(&symbols(&left, a.selector()), &symbols(&right, b.selector()))
}

/// A set of characters at one position of a channel name.
#[derive(Clone, Copy, PartialEq)]
enum Set {
    Just(char),
    Topic,
    Any,
}

/// One position of a channel name, or any number of them.
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

/// The channel names of a template as a sequence of symbols. Keys and headers may have any value, including none.
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

/// The shortest text that both sequences match: a breadth-first search over pairs of positions.
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
