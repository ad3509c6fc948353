//! Checks a value against a structural schema, as the API server does, and gives a remedy for each field.
//!
//! Supports the keywords that the schema of `WsCluster` uses. For unknown fields it suggests the most similar known
//! name. It does not evaluate CEL: the `rules` module has the same rules as code.

use serde_json::{Map, Value};

use crate::violation::Violation;

/// Remedies for fields with a pattern, by the end of their path.
const SHAPES: [(&str, &str); 12] = [
    (".brokers", "write host:port, such as kafka-0.kafka:9092, with a port from 1 to 65535"),
    (".topics.name", "use letters, digits, . _ and -, as Kafka does"),
    (".topics.channel", ""),
    (".clientId", "use letters, digits, . _ and -"),
    (".allowedOrigins", "write an origin as browsers send it: lower case, no path, such as https://example.com"),
    (".env", "write the name of an environment variable, such as KAFKA_PASSWORD"),
    (".secretRef.name", "write the name of a Secret: a-z, 0-9, - and ."),
    (".secretRef.key", "write a key of the Secret: letters, digits, - _ and ."),
    (".tokenUrl", "write the URL of the token endpoint, such as https://id.example.com/oauth/token"),
    ("Bytes", "write a whole number and an optional unit: 65536, 256Ki or 64Mi"),
    (".resources.limits", "write a quantity such as 500m or 1Gi"),
    (".resources.requests", "write a quantity such as 500m or 1Gi"),
];
const SPAN: &str = "write a whole number and a unit: 100ms, 30s, 2m or 1h";

/// Everything in `value` that `schema` does not permit. `path` is the path of `value` in messages.
pub(crate) fn check(path: &str, value: &Value, schema: &Value) -> Vec<Violation> {
    let mut walk = Walk { root: schema, root_path: path, found: Vec::new() };
    walk.node(path, value, schema);
    walk.found
}

struct Walk<'a> {
    root: &'a Value,
    root_path: &'a str,
    found: Vec<Violation>,
}

impl Walk<'_> {
    fn node(&mut self, path: &str, value: &Value, schema: &Value) {
        if schema["x-kubernetes-int-or-string"] == Value::Bool(true) {
            match value {
                Value::Number(n) if n.is_u64() || n.is_i64() => self.number(path, value, schema),
                Value::String(text) => self.text(path, text, schema),
                _ => self.wrong_type(path, value, schema),
            }
            return;
        }
        match (schema["type"].as_str(), value) {
            (Some("object"), Value::Object(fields)) => self.object(path, fields, schema),
            (Some("array"), Value::Array(items)) => self.array(path, items, schema),
            (Some("string"), Value::String(text)) => self.text(path, text, schema),
            (Some("integer"), Value::Number(n)) if n.is_u64() || n.is_i64() => self.number(path, value, schema),
            (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            _ => self.wrong_type(path, value, schema),
        }
    }

    fn object(&mut self, path: &str, fields: &Map<String, Value>, schema: &Value) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, value) in fields {
                match properties.get(name) {
                    Some(child) => self.node(&join(path, name), value, child),
                    None => self.unknown(path, name, properties),
                }
            }
        } else {
            let child = &schema["additionalProperties"];
            fields.iter().for_each(|(name, value)| self.node(&format!("{path}[{name}]"), value, child));
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                let remedy = format!("add it: {}", expected(&join(path, name), &schema["properties"][name]));
                self.found.push(Violation::new(join(path, name), "a missing value", remedy));
            }
        }
        let most = schema["maxProperties"].as_u64().filter(|most| fields.len() as u64 > *most);
        self.found.extend(
            most.map(|m| Violation::new(path, format!("{} entries", fields.len()), format!("give at most {m}"))),
        );
    }

    fn array(&mut self, path: &str, items: &[Value], schema: &Value) {
        let count = items.len() as u64;
        if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
            self.found.push(Violation::new(path, format!("a list of {count}"), format!("give at least {least}")));
        }
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
            self.found.push(Violation::new(path, format!("a list of {count}"), format!("give at most {most}")));
        }
        for (i, item) in items.iter().enumerate() {
            self.node(&format!("{path}[{i}]"), item, &schema["items"]);
        }
    }

    fn number(&mut self, path: &str, value: &Value, schema: &Value) {
        let Some(n) = value.as_f64() else { return };
        let low = schema["minimum"].as_f64().is_some_and(|least| n < least);
        let high = schema["maximum"].as_f64().is_some_and(|most| n > most);
        let int32 = schema["format"] == "int32" && value.as_i64().is_none_or(|n| i32::try_from(n).is_err());
        if low || high || int32 {
            self.found.push(Violation::new(path, value, expected(path, schema)));
        }
    }

    fn text(&mut self, path: &str, text: &str, schema: &Value) {
        let length = text.chars().count() as u64;
        if let Some(names) = schema["enum"].as_array() {
            if !names.iter().any(|n| n == text) {
                let names = names.iter().filter_map(Value::as_str).collect::<Vec<_>>();
                let remedy = nearest(text, names.iter().copied())
                    .map_or_else(|| format!("write one of {}", names.join(", ")), |n| format!("write {n}"));
                self.found.push(Violation::new(path, shown(path, &text.into()), remedy));
            }
        } else if schema["maxLength"].as_u64().is_some_and(|most| length > most) {
            let most = &schema["maxLength"];
            self.found.push(Violation::new(
                path,
                format!("a string of {length} characters"),
                format!("use at most {most}"),
            ));
        } else if schema["minLength"].as_u64().is_some_and(|least| length < least) {
            self.found.push(Violation::new(
                path,
                "an empty string",
                "write at least one character, or remove the field",
            ));
        } else if let Some(pattern) = schema["pattern"].as_str() {
            let matches = regex::Regex::new(pattern).is_ok_and(|p| p.is_match(text));
            if !matches {
                let remedy = match text.parse::<crate::channel::Template>() {
                    Err(e) if path.ends_with(".channel") => e.to_string(),
                    _ => expected(path, schema),
                };
                self.found.push(Violation::new(path, shown(path, &text.into()), remedy));
            }
        }
    }

    fn wrong_type(&mut self, path: &str, value: &Value, schema: &Value) {
        self.found.push(Violation::new(path, shown(path, value), expected(path, schema)));
    }

    fn unknown(&mut self, path: &str, name: &str, known: &Map<String, Value>) {
        let mut elsewhere = Vec::new();
        find_name(self.root_path, self.root, name, &mut elsewhere);
        let remedy = match (nearest(name, known.keys().map(String::as_str)), elsewhere.first()) {
            (Some(near), _) => format!("write {}", join(path, near)),
            (None, Some(place)) => format!("it belongs to {place}"),
            (None, None) => {
                format!(
                    "remove it; known fields are {}",
                    known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
                )
            }
        };
        self.found.push(Violation::new(join(path, name), "this unknown field", remedy));
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Paths that end in `name`, except in pod templates, where such names are too common to be helpful.
fn find_name(path: &str, schema: &Value, name: &str, out: &mut Vec<String>) {
    for (child_name, child) in schema["properties"].as_object().into_iter().flatten() {
        let child_path = join(path, child_name);
        if child_name == name {
            out.push(child_path.clone());
        }
        if child_name != "template" && child_name != "status" && child_name != "metadata" {
            find_name(&child_path, child, name, out);
        }
    }
    if schema["items"].is_object() {
        find_name(&format!("{path}[]"), &schema["items"], name, out);
    }
}

/// The candidate that is most similar to `word`, ignoring case, if at most a third of the characters differ.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distance = |c: &str| strsim::damerau_levenshtein(&lower, &c.to_lowercase());
    let (distance, best) = candidates.map(|c| (distance(c), c)).min()?;
    (distance <= (word.len() / 3).max(1)).then_some(best)
}

/// A value for a message: truncated, and hidden in fields where users may have written a password.
fn shown(path: &str, value: &Value) -> String {
    if path.contains(".security.") && value.is_string() && !path.ends_with(".mechanism") {
        return "this value (not shown)".to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The remedy for a value of the wrong type, range or shape.
fn expected(path: &str, schema: &Value) -> String {
    let field: String = {
        let mut depth = 0;
        let outside = |c: &char| {
            depth += i32::from(*c == '[');
            let keep = depth == 0;
            depth -= i32::from(*c == ']');
            keep
        };
        path.chars().filter(outside).collect()
    };
    if schema["pattern"].as_str().is_some_and(|p| p.contains("(ms|s|m|h)")) {
        return SPAN.to_owned();
    }
    if let Some((_, remedy)) = SHAPES.iter().find(|(end, remedy)| field.ends_with(end) && !remedy.is_empty())
        && (schema["pattern"].is_string() || schema["x-kubernetes-int-or-string"].is_boolean())
    {
        return (*remedy).to_owned();
    }
    if let Some(names) = schema["enum"].as_array() {
        return format!("write one of {}", names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
    }
    match schema["type"].as_str() {
        Some("integer") => match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
            (Some(least), Some(most)) => format!("write a whole number from {least} to {most}"),
            (Some(least), None) => format!("write a whole number, {least} or more"),
            _ => "write a whole number".to_owned(),
        },
        Some("boolean") => "write true or false".to_owned(),
        Some("string") => match schema["pattern"].as_str() {
            Some(pattern) if !field.ends_with(".channel") => format!("write text that matches {pattern}"),
            _ if field.ends_with(".channel") => {
                "write text with {key}, {topic} or {header:NAME}, such as {key}.trade".to_owned()
            }
            _ => "write text".to_owned(),
        },
        Some("array") => "write a list".to_owned(),
        Some("object") => match schema["properties"].as_object() {
            Some(known) => {
                format!("write a mapping with {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
            None => "write a mapping of names to text".to_owned(),
        },
        _ => "see the documentation of this field (docs/fields.md)".to_owned(),
    }
}
