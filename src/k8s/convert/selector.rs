//! Label selectors: `{matchLabels, matchExpressions}` -> [`Selector`].

use super::{
    names,
    reader::{Reader, Shape, cut, there},
};
use crate::{
    finding::place::Place,
    policy::selector::{Requirement, Requirements, Selector, Test, Values},
};
use serde_json::Value;

const SELECTOR: Shape<2> = Shape {
    what: "a label selector",
    fields: ["matchLabels", "matchExpressions"],
    example: "a selector: {matchLabels: {app: web}}",
};
const REQUIREMENT: Shape<3> = Shape {
    what: "a requirement of matchExpressions",
    fields: ["key", "operator", "values"],
    example: "a requirement: {key: app, operator: In, values: [web]}",
};
const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// A selector; null selects everything. Whoever calls looks at `reader.unreadable`.
pub(super) fn read(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Selector {
    let Some([labels, expressions]) = reader.mapping(value, path, &SELECTOR) else { return Selector::everything() };
    let mut requirements = Requirements::new();
    if let Some(labels) = there(labels) {
        let path = path.field("matchLabels");
        reader.strings(labels, &path, |reader, key, value| {
            check_key(reader, key, &path.field(key));
            check_value(reader, value, &path.field(key));
            requirements.push(Requirement::equals(reader.name(key), reader.name(value)));
        });
    }
    if let Some(list) = there(expressions) {
        let path = path.field("matchExpressions");
        let items = reader.list(list, &path, "a list:\nmatchExpressions:\n- {key: app, operator: In, values: [web]}");
        for (at, item) in items.unwrap_or_default().iter().enumerate() {
            requirements.extend(requirement(reader, item, &path.index(at)));
        }
    }
    requirements.into()
}

fn requirement(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Option<Requirement> {
    let [key, operator, list] = reader.mapping(value, path, &REQUIREMENT)?;
    let key = reader.string(key, &path.field("key"))?;
    check_key(reader, key, &path.field("key"));
    let mut values = Vec::new();
    if let Some(list) = there(list) {
        let path = path.field("values");
        for (at, item) in reader.list(list, &path, "a list: values: [web]")?.iter().enumerate() {
            let text = reader.string(item, &path.index(at))?;
            check_value(reader, text, &path.index(at));
            values.push(reader.name(text));
        }
    }
    let operator = reader.string(operator, &path.field("operator"))?;
    let test = test(reader, operator, values.into_iter().collect(), path)?;
    Some(Requirement { key: reader.name(key), test })
}

fn test(reader: &mut Reader, operator: &str, values: Values, path: &Place<'_>) -> Option<Test> {
    let at = path.field("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let message = format!("the operator {operator} needs values");
            reader.refuse(
                "selector-values-missing",
                &at,
                message,
                "write values: [web], or the operator Exists or DoesNotExist",
            );
            None
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let instead = if operator == "Exists" { "In" } else { "NotIn" };
            let message = format!("the operator {operator} takes no values");
            reader.refuse(
                "selector-values-forbidden",
                &at,
                message,
                format!("leave values out, or write operator: {instead}"),
            );
            None
        }
        "In" => Some(Test::In(values)),
        "NotIn" => Some(Test::NotIn(values)),
        "Exists" => Some(Test::Exists),
        "DoesNotExist" => Some(Test::DoesNotExist),
        other => {
            let near = OPERATORS.iter().find(|right| right.eq_ignore_ascii_case(other));
            let help = match near {
                Some(right) => format!("write operator: {right}"),
                None => format!("write one of {}", OPERATORS.join(", ")),
            };
            reader.refuse(
                "selector-operator",
                &path.field("operator"),
                format!("{} is no operator of a selector", cut(other)),
                help,
            );
            None
        }
    }
}

fn check_key(reader: &mut Reader, key: &str, path: &Place<'_>) {
    if let Some(why) = names::label_key(key) {
        reader.refuse("invalid-label-key", path, format!("{} is no label key", cut(key)), why);
    }
}

fn check_value(reader: &mut Reader, value: &str, path: &Place<'_>) {
    if let Some(why) = names::label_value(value) {
        reader.refuse("invalid-label-value", path, format!("{} is no label value", cut(value)), why);
    }
}
