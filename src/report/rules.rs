//! A rule as a page, and all of them as a list: what is in docs/rules, and what `--explain` prints.

use crate::finding::{Severity, rule::Rule};

/// The page of a rule, in Markdown.
pub fn page(rule: &Rule) -> String {
    let level = match rule.severity {
        Some(Severity::Error) => "an error: `check` fails, and the webhook denies",
        Some(Severity::Warning) => "a warning",
        Some(Severity::Hint) => "a hint: told by `check`, not by the webhook",
        None => "off: it speaks only where it is set",
    };
    format!(
        "# {id}\n\n{title}.\n\n{why}\n\nBy default it is {level}.\n\n## Wrong\n\n```yaml\n{wrong}```\n\n## Right\n\n```yaml\n{right}```\n",
        id = rule.id,
        title = rule.title,
        why = folded(rule.why),
        wrong = Rule::manifest(rule.wrong),
        right = Rule::manifest(rule.right),
    )
}

/// One line a rule.
pub fn list(rules: impl Iterator<Item = &'static Rule>) -> String {
    rules.map(|rule| format!("{:<28} {:<8} {}\n", rule.id, word(rule), rule.title)).collect()
}

/// The first page of docs/rules.
pub fn index(rules: impl Iterator<Item = &'static Rule>) -> String {
    let mut out = "# Rules\n\nMade of the same source as the rules themselves; `ringfence check --explain RULE` prints a page.\n\n| rule | level | what |\n| --- | --- | --- |\n".to_owned();
    for rule in rules {
        out += &format!("| [{id}]({id}.md) | {} | {} |\n", word(rule), rule.title, id = rule.id);
    }
    out
}

fn word(rule: &Rule) -> &'static str {
    rule.severity.map_or("off", Severity::as_str)
}

/// A paragraph in lines of a hundred characters.
fn folded(text: &str) -> String {
    let (mut out, mut length) = (String::new(), 0);
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if length > 0 && length + 1 + width > 100 {
            out.push('\n');
            length = 0;
        } else if length > 0 {
            out.push(' ');
            length += 1;
        }
        out += word;
        length += width;
    }
    out
}
