//! Findings in the words of a denial and of a warning.
//!
//! kubectl prints `…: admission webhook "NAME" denied the request: MESSAGE`, line breaks kept. So the first line finishes
//! that sentence, and every finding gets a block of its own below it: where, what, which rule, and what to write.

use crate::finding::Finding;
use std::fmt::Write;

/// How many findings a denial spells out: a policy of a thousand bad peers must still fit on a screen.
const SPELLED_OUT: usize = 10;
/// How much of one text is shown; a message quotes what the object says, and that may be anything.
const TEXT_LIMIT: usize = 600;

/// The message of a denial. `object` is what people call it: `NetworkPolicy shop/db`.
pub(super) fn denial(object: &str, errors: &[&Finding]) -> String {
    let count = errors.len();
    let mut out = format!("{} has {count} {}:", printable(object), if count == 1 { "error" } else { "errors" });
    for finding in errors.iter().take(SPELLED_OUT) {
        out.push('\n');
        block(&mut out, finding);
    }
    if let Some(more @ 1..) = count.checked_sub(SPELLED_OUT) {
        // Writing to a String does not fail.
        let _ = write!(out, "\n... and {more} more; `ringfence check` on the file shows them all, with their lines");
    }
    out
}

fn block(out: &mut String, finding: &Finding) {
    let Finding { rule, path, message, help, severity: _, server: _ } = finding;
    let path = path.to_string();
    let place = if path.is_empty() { "the object".to_owned() } else { printable(&path) };
    // Writing to a String does not fail.
    let _ = write!(out, "\n{place}: {} [{rule}]", printable(message));
    for line in help.lines() {
        let _ = write!(out, "\n    {}", printable(line));
    }
}

/// The one line of a warning.
pub(super) fn warning(finding: &Finding) -> String {
    let Finding { rule, path, message, help, severity: _, server: _ } = finding;
    let path = path.to_string();
    let separator = if path.is_empty() { "" } else { ": " };
    format!("[{rule}] {path}{separator}{message}; {help}").trim_end_matches([';', ' ']).to_owned()
}

/// Somebody's text without what a terminal would obey, and not without end.
fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(TEXT_LIMIT) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if text.chars().nth(TEXT_LIMIT).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{FieldPath, Severity};

    fn finding(message: &str, help: &str) -> Finding {
        Finding {
            rule: "some-rule",
            severity: Severity::Error,
            path: FieldPath::root().field("spec").field("policyTypes").index(0),
            message: message.to_owned(),
            help: help.to_owned(),
            server: false,
        }
    }

    #[test]
    fn a_denial_names_place_fault_rule_and_cure() {
        let one = finding("this is a mapping", "write\n- Ingress");
        assert_eq!(
            denial("NetworkPolicy shop/db", &[&one]),
            "NetworkPolicy shop/db has 1 error:\n\n\
             spec.policyTypes[0]: this is a mapping [some-rule]\n    write\n    - Ingress"
        );
    }

    #[test]
    fn a_terminal_is_not_at_the_mercy_of_the_object() {
        let evil = finding("\u{1b}[2Jgone\r\nError from server: ok", "");
        let text = denial("NetworkPolicy a/\u{7}b", &[&evil]);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn a_thousand_errors_fit_on_a_screen() {
        let one = finding(&"x".repeat(5000), "");
        let text = denial("NetworkPolicy shop/db", &vec![&one; 1000]);
        assert!(text.contains("has 1000 errors:") && text.contains("and 990 more"), "{text}");
        assert!(text.len() < 10_000);
    }
}
