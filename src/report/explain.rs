//! A decision as text and as JSON: the verdict, and which policies and rules made it.

use crate::policy::{
    decide::{Decision, Exempt, Side},
    table::RuleRef,
};
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
/// closed has `"closed":true`; where no policy was asked, `"exempt"` says why. Policies in audit are `"auditedBy"`, and
/// `"audit":"deny"` says that only for them it passes.
pub fn json(decision: &Decision) -> Value {
    let mut answer = Map::new();
    answer.insert("verdict".to_owned(), if decision.allows() { "allow" } else { "deny" }.into());
    if let Some(exempt) = decision.exempt {
        answer.insert("exempt".to_owned(), exempt_word(exempt).into());
    }
    if decision.would_deny() {
        answer.insert("audit".to_owned(), "deny".into());
    }
    answer.insert("egress".to_owned(), side_json(&decision.egress));
    answer.insert("ingress".to_owned(), side_json(&decision.ingress));
    Value::Object(answer)
}

fn side_json(side: &Side) -> Value {
    let isolated: Vec<String> = side.isolated_by.iter().map(ToString::to_string).collect();
    let rule = |rule: &RuleRef| json!({"policy": rule.policy.to_string(), "rule": rule.rule});
    let mut value = json!({"isolatedBy": isolated, "allowedBy": side.allowed_by.iter().map(rule).collect::<Vec<_>>()});
    if side.closed {
        value["closed"] = true.into();
    }
    if !side.audited_by.is_empty() {
        value["auditedBy"] = side.audited_by.iter().map(ToString::to_string).collect::<Vec<_>>().into();
        value["auditAllowedBy"] = side.audit_admits.iter().map(rule).collect::<Vec<_>>().into();
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
    let verdict = match (decision.allows(), decision.would_deny()) {
        (true, true) => "allowed, because the policies that would deny it are in audit",
        (true, false) => "allowed",
        (false, _) => "denied",
    };
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
    let admitted = |rules: &[RuleRef], none: &str, some: &str| match rules {
        [] => none.to_owned(),
        rules => format!("{some} {}", joined(rules)),
    };
    let audited = match side.audited_by.as_slice() {
        [] => String::new(),
        policies if side.isolated_by.is_empty() => {
            let verdict = admitted(&side.audit_admits, "no rule would admit it", "it would be admitted by");
            format!(" (in audit: it would be isolated by {}, and {verdict})", joined(policies))
        }
        policies => format!(" (in audit, and not asked: {})", joined(policies)),
    };
    if side.isolated_by.is_empty() {
        return format!("{name} is not isolated: everything passes{audited}");
    }
    let verdict = admitted(&side.allowed_by, "no rule admits it", "admitted by");
    format!("{name} is isolated by {}: {verdict}{audited}", joined(&side.isolated_by))
}

fn joined<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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
    fn what_only_audit_lets_pass_is_said() {
        let asked = Asked { from: "shop/api".to_owned(), to: "shop/db".to_owned(), port: "3306/TCP".to_owned() };
        let Decision { egress, mut ingress, .. } = decision();
        ingress.audited_by = std::mem::take(&mut ingress.isolated_by);
        let watched = Decision { exempt: None, egress, ingress };
        assert_eq!(
            text(&asked, &watched),
            "shop/api -> shop/db on 3306/TCP: allowed, because the policies that would deny it are in audit

  egress   shop/api is isolated by shop/api, shop/deny: admitted by shop/api egress[1]
  ingress  shop/db is not isolated: everything passes (in audit: it would be isolated by shop/deny, and no rule would admit it)
"
        );
        let json = json(&watched);
        assert_eq!((&json["verdict"], &json["audit"]), (&"allow".into(), &"deny".into()));
        assert_eq!(
            json["ingress"],
            json!({"isolatedBy": [], "allowedBy": [], "auditedBy": ["shop/deny"], "auditAllowedBy": []})
        );
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
