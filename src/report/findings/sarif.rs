//! Findings -> SARIF 2.1.0, for code scanning.
//!
//! One run of one tool; its rules are those that spoke, each with the text of its page. Paths are relative to where the
//! command ran, as scanners want them.

use super::Checked;
use crate::finding::{
    Severity,
    located::{Located, Span},
    rule::Rule,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where the pages of the rules are.
const PAGES: &str = "docs/rules";

/// For code scanning. `rules` are all that there are.
pub fn sarif(checked: &Checked, rules: &[&Rule]) -> String {
    let spoke: BTreeSet<&str> = checked.findings.iter().map(|located| located.finding.rule).collect();
    let rules: Vec<&Rule> = rules.iter().filter(|rule| spoke.contains(rule.id)).copied().collect();
    let results: Vec<Value> = checked.findings.iter().map(|located| result(located, &rules)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "ringfence",
                "version": env!("CARGO_PKG_VERSION"),

                "rules": rules.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "note",
    }
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": {"text": format!("{}.", rule.title)},
        "fullDescription": {"text": rule.why},
        "helpUri": format!("{PAGES}/{}.md", rule.id),
        "help": {"text": format!("{}\n\nWrong:\n\n{}\nRight:\n\n{}", rule.why, rule.wrong, rule.right)},
        "defaultConfiguration": {"level": rule.severity.map_or("none", level)},
    })
}

fn result(Located { file, span, object, finding, answer }: &Located, rules: &[&Rule]) -> Value {
    let Span { line, column, end_line, end_column } = *span;
    let mut text = format!("{}\n{}", finding.message, finding.help);
    if let Some(answer) = answer {
        text += &format!("\nthe API server will answer: {answer}");
    }
    let mut result = json!({
        "ruleId": finding.rule,
        "level": level(finding.severity),
        "message": {"text": text.trim_end()},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(file)},
                "region": {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column},
            },
            "logicalLocations": [{"fullyQualifiedName": format!("{object}: {}", finding.path), "kind": "object"}],
        }],
    });
    if let Some(index) = rules.iter().position(|rule| rule.id == finding.rule) {
        result["ruleIndex"] = json!(index);
    }
    result
}

/// A path as a URI reference (RFC 3986): what is neither a letter, a digit nor one of a few signs is written in hexadecimal.
fn uri(path: &str) -> String {
    let path = path.trim_start_matches("./");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
