//! What is written as JSON is held against the schemas in docs/. The few keywords that they use are read here: a crate
//! that knows all of them would be sixty more to build for every test run. A keyword that is not known fails.

use serde_json::Value;

/// What does not fit, as a path and what was expected there.
fn misfits(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, wanted) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "$schema" | "title" => true,
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "type" => match wanted {
                Value::Array(all) => all.iter().any(|wanted| is(value, wanted)),
                one => is(value, one),
            },
            "required" => {
                let missing =
                    |name: &&Value| value.is_object() && value.get(name.as_str().unwrap()).is_none();
                let missing = wanted.as_array().unwrap().iter().filter(missing);
                found.extend(missing.map(|name| format!("{at}: {name} is missing")));
                true
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    let member = value.get(name).into_iter();
                    found.extend(member.flat_map(|member| misfits(schema, member, &format!("{at}/{name}"))));
                }
                true
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                found.extend(items.flat_map(|(index, item)| misfits(wanted, item, &format!("{at}/{index}"))));
                true
            }
            "oneOf" => {
                let fits = |schema: &&Value| misfits(schema, value, at).is_empty();
                wanted.as_array().unwrap().iter().filter(fits).count() == 1
            }
            keyword => panic!("{keyword} is not read here"),
        };
        if !fits {
            found.push(format!("{at}: {value} is not {keyword} {wanted}"));
        }
    }
    found
}

fn is(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    }
}

/// Fails the test where a report is not what docs/report.schema.json promises.
pub(crate) fn assert_report(report: &Value) {
    let schema = serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap();
    let found = misfits(&schema, report, "");
    assert!(found.is_empty(), "{found:#?}\n{report:#}");
}

/// The same for an event.
pub(crate) fn assert_event(event: &Value) {
    let schema = serde_json::from_str(include_str!("../../../docs/event.schema.json")).unwrap();
    let found = misfits(&schema, event, "");
    assert!(found.is_empty(), "{found:#?}\n{event:#}");
}

#[test]
fn what_does_not_fit_is_seen() {
    let schema: Value = serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap();
    let good = super::Verdict::success("status", "", Value::Null).json();
    assert_report(&good);
    for (name, bad) in [("version", 1.into()), ("verdict", "fine".into()), ("next", "a line".into())] {
        let mut report = good.clone();
        report[name] = bad;
        assert_eq!(misfits(&schema, &report, "").len(), 1, "{name}");
    }
    let mut report = good;
    report.as_object_mut().unwrap().remove("cause");
    assert_eq!(misfits(&schema, &report, ""), [": \"cause\" is missing"]);
}
