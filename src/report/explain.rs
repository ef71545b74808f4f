//! A decision as text and as JSON: the verdict, and which policies and rules made it.

use crate::policy::decide::{Decision, Exempt, Side};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What was asked, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who opens the connection.
    pub from: String,
    /// Who is asked.
    pub to: String,
    /// `80/TCP`.
    pub port: String,
}

/// `{"verdict":"allow|deny","egress":{"isolatedBy":[…],"allowedBy":[{"policy","rule"}]},"ingress":{…}}`. A side that is
/// closed has `"closed":true`; where no policy was asked, `"exempt"` says why.
pub fn json(decision: &Decision) -> Value {
    let mut answer = Map::new();
    answer.insert("verdict".to_owned(), if decision.allows() { "allow" } else { "deny" }.into());
    if let Some(exempt) = decision.exempt {
        answer.insert("exempt".to_owned(), exempt_word(exempt).into());
    }
    answer.insert("egress".to_owned(), side_json(&decision.egress));
    answer.insert("ingress".to_owned(), side_json(&decision.ingress));
    Value::Object(answer)
}

fn side_json(side: &Side) -> Value {
    let isolated: Vec<String> = side.isolated_by.iter().map(ToString::to_string).collect();
    let rule = |rule: &crate::policy::table::RuleRef| json!({"policy": rule.policy.to_string(), "rule": rule.rule});
    let mut value = json!({"isolatedBy": isolated, "allowedBy": side.allowed_by.iter().map(rule).collect::<Vec<_>>()});
    if side.closed {
        value["closed"] = true.into();
    }
    value
}

fn exempt_word(exempt: Exempt) -> &'static str {
    match exempt {
        Exempt::OwnPod => "own-pod",
        Exempt::OwnNode => "own-node",
    }
}

/// The verdict in a line, and a line for each end.
pub fn text(asked: &Asked, decision: &Decision) -> String {
    let Asked { from, to, port } = asked;
    let verdict = if decision.allows() { "allowed" } else { "denied" };
    let mut out = format!("{from} -> {to} on {port}: {verdict}\n\n");
    match decision.exempt {
        Some(Exempt::OwnPod) => out.push_str("  no policy is asked: a pod always reaches itself\n"),
        Some(Exempt::OwnNode) => out.push_str("  no policy is asked: a pod and its own node always reach each other\n"),
        None => {
            let _ = writeln!(out, "  egress   {}", side_text(from, &decision.egress));
            let _ = writeln!(out, "  ingress  {}", side_text(to, &decision.ingress));
        }
    }
    out
}

fn side_text(name: &str, side: &Side) -> String {
    if side.closed {
        return format!("{name} is an address of a node's pod range, and no pod that is known: nothing passes");
    }
    if side.isolated_by.is_empty() {
        return format!("{name} is not isolated: everything passes");
    }
    let isolated = side.isolated_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let verdict = match side.allowed_by.as_slice() {
        [] => "no rule admits it".to_owned(),
        rules => format!("admitted by {}", rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    format!("{name} is isolated by {isolated}: {verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        model::{Direction, Key},
        table::RuleRef,
    };

    fn decision() -> Decision {
        let (api, deny) = (Key::new("shop", "api"), Key::new("shop", "deny"));
        let rule = RuleRef { policy: api.clone(), direction: Direction::Egress, rule: 1 };
        Decision {
            exempt: None,
            egress: Side { isolated_by: vec![api, deny.clone()], allowed_by: vec![rule], ..Side::default() },
            ingress: Side { isolated_by: vec![deny], ..Side::default() },
        }
    }

    #[test]
    fn text_says_what_each_end_says() {
        let asked = Asked { from: "shop/api".to_owned(), to: "shop/db".to_owned(), port: "3306/TCP".to_owned() };
        assert_eq!(
            text(&asked, &decision()),
            "shop/api -> shop/db on 3306/TCP: denied

  egress   shop/api is isolated by shop/api, shop/deny: admitted by shop/api egress[1]
  ingress  shop/db is isolated by shop/deny: no rule admits it
"
        );
        let own = Decision { exempt: Some(Exempt::OwnPod), ..decision() };
        assert!(text(&asked, &own).contains("allowed\n\n  no policy is asked"));
    }

    #[test]
    fn json_has_the_fields_that_machines_rely_on() {
        assert_eq!(
            json(&decision()),
            json!({
                "verdict": "deny",
                "egress": {"isolatedBy": ["shop/api", "shop/deny"], "allowedBy": [{"policy": "shop/api", "rule": 1}]},
                "ingress": {"isolatedBy": ["shop/deny"], "allowedBy": []},
            })
        );
        let closed = Decision { ingress: Side { closed: true, ..Side::default() }, ..decision() };
        assert_eq!(json(&closed)["ingress"]["closed"], true);
    }
}
