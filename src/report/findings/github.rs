//! Findings -> workflow commands, which GitHub shows beside the lines of a pull request.
//!
//! `::error file=a.yaml,line=3,col=5,endLine=3,endColumn=9,title=rule::message` a finding; the rest of the log stays free.

use super::Checked;
use crate::finding::{
    Severity,
    located::{Located, Span},
};

/// For a workflow on GitHub.
pub fn github(checked: &Checked) -> String {
    checked.findings.iter().map(line).collect()
}

fn line(Located { file, span, object, finding, answer }: &Located) -> String {
    let Span { line, column, end_line, end_column } = *span;
    let command = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "notice",
    };
    let mut text = format!("{}\n{}", finding.message, finding.help);
    if !object.is_empty() {
        text = format!("{object}: {text}");
    }
    if let Some(answer) = answer {
        text += &format!("\nthe API server will answer: {answer}");
    }
    // Columns of several lines are refused by GitHub's own parser.
    let columns = if line == end_line { format!(",col={column},endColumn={end_column}") } else { String::new() };
    let (file, text) = (property(file), data(text.trim_end()));
    format!("::{command} file={file},line={line},endLine={end_line}{columns},title={}::{text}\n", finding.rule)
}

/// As `@actions/core` escapes it.
fn data(text: &str) -> String {
    let visible: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    visible.replace('%', "%25").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_command_or_begin_another_is_escaped() {
        assert_eq!(property("a,b:c%\n::error::"), "a%2Cb%3Ac%25%0A%3A%3Aerror%3A%3A");
        assert_eq!(data("one\r\ntwo\u{1b}"), "one%0Atwo");
    }
}
