//! `contradictory-selector`: a selector whose requirements no object can meet.
//!
//! For each key, what is asked of its value by matchLabels and matchExpressions together. The finding stands at the
//! requirement with which nothing is left. What cannot be read is left to whoever reads the object.

use super::items;
use crate::finding::{Finding, Severity, place::Place, rule::Rule};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const RULES: &[Rule] = &[CONTRADICTORY];

const CONTRADICTORY: Rule = Rule {
    id: "contradictory-selector",
    severity: Some(Severity::Error),
    title: "A selector asks for what no object can have",
    why: "All requirements of a selector must hold at once, those of `matchLabels` and those of `matchExpressions`. When two \
          of them exclude each other nothing is ever selected: a policy with such a `podSelector` isolates nobody, a peer \
          with it admits nobody.",
    wrong: "\
podSelector:
  matchExpressions:
  - {key: tier, operator: In, values: [web]}
  - {key: tier, operator: NotIn, values: [web]}
policyTypes: [Ingress]
",
    right: "\
podSelector:
  matchExpressions:
  - {key: tier, operator: In, values: [web, api]}
  - {key: tier, operator: NotIn, values: [web]}
policyTypes: [Ingress]
",
};

pub(super) fn rules(object: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (object, spec) = (&object["spec"], Place::Root.field("spec"));
    contradictions(&object["podSelector"], &spec.field("podSelector"), &mut findings);
    for (direction, list) in [("ingress", "from"), ("egress", "to")] {
        let rules = spec.field(direction);
        for (at, rule) in items(&object[direction]).enumerate() {
            let rule_place = rules.index(at);
            let peers = rule_place.field(list);
            for (at, peer) in items(&rule[list]).enumerate() {
                for field in ["podSelector", "namespaceSelector"] {
                    contradictions(&peer[field], &peers.index(at).field(field), &mut findings);
                }
            }
        }
    }
    findings
}

/// What is asked of the value of one key.
#[derive(Default)]
struct Asked<'a> {
    /// It is one of these.
    allowed: Option<BTreeSet<&'a str>>,
    /// It is none of these.
    excluded: BTreeSet<&'a str>,
    present: bool,
    absent: bool,
}

impl Asked<'_> {
    fn is_possible(&self) -> bool {
        let some_value =
            self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|value| !self.excluded.contains(value)));
        some_value && !(self.present && self.absent)
    }
}

fn contradictions(selector: &Value, place: &Place<'_>, findings: &mut Vec<Finding>) {
    // Labels alone cannot contradict each other.
    let Some(expressions) = selector["matchExpressions"].as_array() else { return };
    let mut asked: BTreeMap<&str, Asked<'_>> = BTreeMap::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        if let Some(value) = value.as_str() {
            asked.insert(key, Asked { allowed: Some([value].into()), present: true, ..Asked::default() });
        }
    }
    for (at, requirement) in expressions.iter().enumerate() {
        let (Some(key), Some(operator)) = (requirement["key"].as_str(), requirement["operator"].as_str()) else {
            continue;
        };
        let values: BTreeSet<&str> = items(&requirement["values"]).filter_map(Value::as_str).collect();
        let asked = asked.entry(key).or_default();
        let before = asked.is_possible();
        match operator {
            "In" if !values.is_empty() => {
                asked.present = true;
                asked.allowed = Some(match &asked.allowed {
                    Some(allowed) => allowed.intersection(&values).copied().collect(),
                    None => values,
                });
            }
            "NotIn" => asked.excluded.extend(values),
            "Exists" => asked.present = true,
            "DoesNotExist" => asked.absent = true,
            _ => continue,
        }
        if before && !asked.is_possible() {
            findings.push(CONTRADICTORY.at(
                &place.field("matchExpressions").index(at).path(),
                format!("the selector matches nothing: what it asks of {key:?} contradicts itself"),
                "all requirements must hold at once: to mean one or the other, write one In with both values, or two peers",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn contradicts(selector: Value) -> bool {
        !rules(&json!({"spec": {"podSelector": selector}})).is_empty()
    }

    fn expressions(list: &[(&str, &[&str])]) -> Value {
        let list: Vec<Value> =
            list.iter().map(|(operator, values)| json!({"key": "a", "operator": operator, "values": values})).collect();
        json!({"matchExpressions": list})
    }

    #[test]
    fn requirements_that_exclude_each_other_are_found() {
        for list in [
            &[("In", &["x"][..]), ("NotIn", &["x"])][..],
            &[("In", &["x"]), ("In", &["y"])],
            &[("Exists", &[]), ("DoesNotExist", &[])],
            &[("DoesNotExist", &[]), ("In", &["x"])],
            &[("In", &["x", "y"]), ("NotIn", &["x"]), ("NotIn", &["y"])],
        ] {
            assert!(contradicts(expressions(list)), "{list:?}");
        }
        assert!(contradicts(
            json!({"matchLabels": {"a": "x"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y"]}]})
        ));
    }

    #[test]
    fn requirements_that_leave_something_are_not() {
        for list in [
            &[("In", &["x", "y"][..]), ("NotIn", &["x"])][..],
            &[("NotIn", &["x"]), ("DoesNotExist", &[])],
            &[("Exists", &[]), ("NotIn", &["x"])],
            &[("In", &["x"]), ("Exists", &[])],
        ] {
            assert!(!contradicts(expressions(list)), "{list:?}");
        }
    }

    #[test]
    fn the_finding_stands_at_the_requirement_that_is_too_much() {
        let object = json!({"spec": {"egress": [{"to": [{"namespaceSelector": expressions(&[("Exists", &[]), ("DoesNotExist", &[])])}]}]}});
        let paths: Vec<String> = rules(&object).into_iter().map(|f| f.path.to_string()).collect();
        assert_eq!(paths, ["spec.egress[0].to[0].namespaceSelector.matchExpressions[1]"]);
    }
}
