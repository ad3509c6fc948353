//! Compares both forms of every rule on the specs in `tests/cases.yaml`.

use std::collections::BTreeSet;
use std::path::Path;

use kube::core::cel::Validator;
use serde::Deserialize;
use serde_json::Value;

use crate::manifest::{self, ManifestError};
use crate::{WsClusterSpec, definition, rules};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    base: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    spec: Value,
    #[serde(default)]
    refused: Vec<String>,
    #[serde(default)]
    here: bool,
}

fn table() -> Table {
    serde_yaml::from_str(include_str!("../../tests/cases.yaml")).unwrap()
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = Value::Object(serde_json::Map::new());
            }
            for (name, value) in fields {
                if value.is_null() {
                    into.as_object_mut().unwrap().remove(name);
                } else {
                    merge(&mut into[name.as_str()], value);
                }
            }
        }
        _ => *into = patch.clone(),
    }
}

impl Table {
    fn object(&self, case: &Case) -> Value {
        let mut object = self.base.clone();
        merge(&mut object["spec"], &case.spec);
        object
    }
}

/// Texts of the CEL rules that `object` breaks.
fn broken_in_cel(object: &Value) -> BTreeSet<String> {
    let errors = Validator::new().validate(definition::schema(), object, None).err();
    errors.into_iter().flat_map(kube::core::cel::ValidationErrors::into_vec).map(|e| e.rule).collect()
}

/// Texts of the CEL rules whose code finds a violation in `spec`.
fn broken_in_code(spec: &WsClusterSpec) -> BTreeSet<String> {
    let breaks = |rule: &rules::Rule| {
        let mut found = Vec::new();
        rule.check(spec, &mut found);
        !found.is_empty()
    };
    rules::all().filter(breaks).map(|rule| rule.cel).collect()
}

/// Whether `object` has a value at the path of a rule.
fn reaches(object: &Value, place: &str) -> bool {
    let Some((step, rest)) = place.split_once('.').or_else(|| (!place.is_empty()).then_some((place, ""))) else {
        return true;
    };
    match step.strip_suffix("[]") {
        Some(list) => object[list].as_array().is_some_and(|items| items.iter().any(|item| reaches(item, rest))),
        None => !object[step].is_null() && reaches(&object[step], rest),
    }
}

#[test]
fn refuses_and_accepts_each_case_with_the_field_that_is_wrong() {
    let table = table();
    for case in &table.cases {
        let yaml = serde_yaml::to_string(&table.object(case)).unwrap();
        let fields = match manifest::parse(&yaml, Path::new("case.yaml")) {
            Ok(_) => Vec::new(),
            Err(ManifestError::Invalid { violations, .. }) => violations.into_iter().map(|v| v.field).collect(),
            Err(e) => panic!("{}: {e}", case.name),
        };
        assert_eq!(fields, case.refused, "{}", case.name);
    }
}

#[test]
fn code_and_cel_break_on_the_same_rule() {
    let table = table();
    let mut compared = 0;
    for case in &table.cases {
        let object = table.object(case);
        let Ok(spec) = serde_json::from_value::<WsClusterSpec>(object["spec"].clone()) else { continue };
        // The API server evaluates CEL only if the schema holds.
        if !crate::schema::check("spec", &object["spec"], definition::spec_schema()).is_empty() {
            continue;
        }
        compared += 1;
        let (code, cel) = (broken_in_code(&spec), broken_in_cel(&object));
        if case.here {
            assert!(cel.is_empty() && !code.is_empty(), "{}: code {code:?}, CEL {cel:?}", case.name);
        } else {
            assert_eq!(code, cel, "{}", case.name);
        }
    }
    assert!(compared > 60, "only {compared} cases reached the rules");
}

#[test]
fn every_rule_has_an_example_it_accepts_and_one_it_refuses() {
    let table = table();
    let objects: Vec<_> = table.cases.iter().map(|case| (case, table.object(case))).collect();
    for rule in rules::all().filter(|rule| !rule.places().contains(&"")) {
        let refuses = objects.iter().any(|(_, object)| {
            let spec = serde_json::from_value(object["spec"].clone());
            spec.is_ok_and(|spec| broken_in_code(&spec).contains(&rule.cel))
        });
        assert!(refuses, "no case breaks {}", rule.cel);
        for place in rule.places() {
            let accepts = objects.iter().any(|(case, object)| case.refused.is_empty() && reaches(object, place));
            assert!(accepts, "no good case has {place}");
        }
    }
}

#[test]
fn names_the_field_in_every_message() {
    for rule in rules::all().filter(|rule| !rule.places().contains(&"")) {
        let names_itself = rule.places().iter().any(|place| {
            let last = place.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
            !last.is_empty() && rule.message.contains(last)
        });
        let node = definition::schema();
        let child = rule.places().iter().any(|place| {
            let node =
                place.split('.').filter(|s| !s.is_empty()).fold(node, |at, step| match step.strip_suffix("[]") {
                    Some(list) => &at["properties"][list]["items"],
                    None => &at["properties"][step],
                });
            node["properties"].as_object().is_some_and(|p| p.keys().any(|k| rule.message.contains(k.as_str())))
        });
        assert!(names_itself || child, "{:?}: {}", rule.places(), rule.message);
    }
}

#[test]
fn code_and_cel_agree_on_names() {
    let table = table();
    for name in ["prices", "p", "p-1", &"p".repeat(40), "", "1p", "Prices", "p.x", "p-", "-p", &"p".repeat(41)] {
        let mut object = table.base.clone();
        object["metadata"]["name"] = name.into();
        assert_eq!(rules::name(name).is_some(), !broken_in_cel(&object).is_empty(), "{name:?}");
    }
}
