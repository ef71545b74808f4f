//! Fields that the API does not have: what was probably meant.
//!
//! `name, value, where -> help`. The commonest slips (labels straight under a selector, matchLabels beside podSelector, a
//! rule that should deny) have words of their own; the rest gets the nearest field.

use super::reader::describe;
use crate::finding::near::distance;
use serde_json::Value;

/// What to write instead of a field that is not there.
pub(super) fn help(name: &str, value: &Value, fields: &[&'static str]) -> String {
    let all = || format!("the fields are {}", fields.join(", "));
    if let Some(field) = nearest(name, fields) {
        return format!("write {field}");
    }
    let has = |field| fields.contains(&field);
    match name {
        "matchLabels" | "matchExpressions" if has("ipBlock") => {
            format!("indent {name} below podSelector or namespaceSelector:\n- podSelector:\n    {name}: …")
        }
        "podSelector" | "namespaceSelector" | "ipBlock" if has("ports") => {
            let list = if has("from") { "from" } else { "to" };
            format!("peers stand in a list:\n{list}:\n- {name}: …")
        }
        "to" if has("from") => "the peers of an ingress rule stand under from".to_owned(),
        "from" if has("to") => "the peers of an egress rule stand under to".to_owned(),
        "port" | "protocol" | "endPort" if has("from") || has("to") => {
            format!("ports stand in a list:\nports:\n- {name}: …")
        }
        "ports" if has("ipBlock") => "take the dash away: ports stand beside from or to, not in it".to_owned(),
        "ports" | "from" | "to" if has("policyTypes") => {
            format!("{name} stands in a rule:\ningress:\n- {name}: …")
        }
        "podSelector" | "policyTypes" | "ingress" | "egress" if has("kind") => format!("indent {name} below spec"),
        "labels" | "annotations" | "name" | "namespace" if has("kind") => format!("indent {name} below metadata"),
        "cidr" | "except" if has("ipBlock") => format!("indent {name} below ipBlock:\n- ipBlock:\n    {name}: …"),
        "action" | "deny" | "order" | "priority" => {
            "a NetworkPolicy only allows, in no order: leave out what is not to pass".to_owned()
        }
        _ if has("matchLabels") => match value {
            Value::String(text) => format!("labels stand under matchLabels: write matchLabels: {{{name}: {text:?}}}"),
            Value::Number(_) | Value::Bool(_) => {
                format!("labels stand under matchLabels, their values in quotes: write matchLabels: {{{name}: \"…\"}}")
            }
            other => format!("labels stand under matchLabels, and {name:?} is {}", describe(other)),
        },
        _ => all(),
    }
}

/// The field that differs by its case, or by at most two letters.
fn nearest(name: &str, fields: &[&'static str]) -> Option<&'static str> {
    let distance = |field: &str| match sorted(name) == sorted(field) {
        // Letters that changed places.
        true => 1,
        false => distance(&name.to_lowercase(), &field.to_lowercase()),
    };
    let best = fields.iter().map(|field| (distance(field), *field)).min()?;
    // Short words are near each other by chance.
    (best.0 <= 2 && best.0 * 3 <= best.1.len()).then_some(best.1)
}

fn sorted(word: &str) -> Vec<char> {
    let mut letters: Vec<char> = word.to_lowercase().chars().collect();
    letters.sort_unstable();
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_letters_finds_its_field() {
        let fields = &["podSelector", "ingress", "egress", "policyTypes"];
        for (wrong, right) in [
            ("ingres", "ingress"),
            ("PodSelector", "podSelector"),
            ("policytypes", "policyTypes"),
            ("policyType", "policyTypes"),
        ] {
            assert_eq!(nearest(wrong, fields), Some(right));
        }
        assert_eq!(nearest("form", &["from", "ports"]), Some("from"));
        assert_eq!(nearest("ports", fields), None);
        assert_eq!(nearest("rom", &["to", "ports"]), None);
    }
}
