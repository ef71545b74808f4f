//! Findings in files -> text like a compiler's, JSON, SARIF, or GitHub's annotations.
//!
//! `Checked {findings, objects, ...}`: [`text`] shows the line of the file with a mark under what is meant, [`json`] the same
//! for programs. The JSON is stable.

mod github;
mod sarif;

pub use github::github;
pub use sarif::sarif;

use crate::finding::{
    Severity,
    located::{Located, Span},
    printable,
};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, renderer::DecorStyle};
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write, ops::Range};

/// What was checked, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// In the order of files and lines.
    pub findings: Vec<Located>,
    /// How many objects were checked.
    pub objects: usize,
    /// How many objects are of kinds that are not checked.
    pub skipped: usize,
    /// How many files were read.
    pub files: usize,
}

/// The longest line that is shown. Behind it there is a machine's JSON, of which a place is all one can say.
const MAX_LINE: usize = 400;

/// For people. `texts` holds the text of each file by its name; colours are ANSI.
pub fn text(checked: &Checked, texts: &BTreeMap<&str, &str>, colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let lines: BTreeMap<&str, Vec<&str>> = texts.iter().map(|(name, text)| (*name, text.lines().collect())).collect();
    let mut out = String::new();
    for located in &checked.findings {
        let line = lines.get(located.file.as_str()).and_then(|lines| lines.get(located.span.line - 1)).copied();
        out += &renderer.render(&[group(located, line)]);
        out += "\n\n";
    }
    out += &summary(checked);
    out
}

fn group<'a>(located: &'a Located, line: Option<&'a str>) -> Group<'a> {
    let finding = &located.finding;
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Hint => Level::NOTE.with_name("hint"),
    };
    let group = Group::with_title(level.primary_title(printable(&finding.message)).id(finding.rule));
    let group = match line.filter(|line| line.len() <= MAX_LINE) {
        Some(line) => group.element(
            Snippet::source(line)
                .path(&located.file)
                .line_start(located.span.line)
                .annotation(AnnotationKind::Primary.span(marked(line, &located.span))),
        ),
        None => group.element(Origin::path(&located.file).line(located.span.line).char_column(located.span.column)),
    };
    let group = if located.object.is_empty() {
        group
    } else {
        group.element(Level::NOTE.with_name("in").message(printable(&located.object)))
    };
    let group = if finding.help.is_empty() { group } else { group.element(Level::HELP.message(lines(&finding.help))) };
    match &located.answer {
        Some(answer) => group.element(Level::NOTE.message(lines(&format!("the API server will answer: {answer}")))),
        None => group,
    }
}

/// Help may have several lines.
fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// The bytes of a line that a span covers; what goes on in the next line is not marked.
fn marked(line: &str, span: &Span) -> Range<usize> {
    let byte = |column: usize| line.char_indices().nth(column - 1).map_or(line.len(), |(at, _)| at);
    let start = byte(span.column);
    let end = if span.end_line == span.line { byte(span.end_column) } else { line.trim_end().len() };
    start..end.max(start)
}

fn summary(checked: &Checked) -> String {
    let count = |severity| checked.findings.iter().filter(|l| l.finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut out = String::new();
    let objects = many(checked.objects, "object");
    let files = many(checked.files, "file");
    // Writing to a String does not fail.
    let _ = match (errors, warnings) {
        (0, 0) => write!(out, "nothing wrong with {objects} in {files}"),
        _ => write!(out, "{} and {} with {objects} in {files}", many(errors, "error"), many(warnings, "warning")),
    };
    if let hints @ 1.. = count(Severity::Hint) {
        let _ = write!(out, "; {}", many(hints, "hint"));
    }
    if checked.skipped > 0 {
        let _ = write!(out, "; {} of other kinds skipped", checked.skipped);
    }
    out.push('\n');
    out
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[derive(Serialize)]
struct Report<'a> {
    findings: Vec<Entry<'a>>,
    objects: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    rule: &'a str,
    severity: &'a str,
    file: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    object: &'a str,
    path: String,
    message: &'a str,
    help: &'a str,
    server: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
}

impl<'a> From<&'a Located> for Entry<'a> {
    fn from(Located { file, span, object, finding, answer }: &'a Located) -> Self {
        let Span { line, column, end_line, end_column } = *span;
        Entry {
            rule: finding.rule,
            severity: finding.severity.as_str(),
            file,
            line,
            column,
            end_line,
            end_column,
            object,
            path: finding.path.to_string(),
            message: &finding.message,
            help: &finding.help,
            server: finding.server,
            answer: answer.as_deref(),
        }
    }
}

/// For programs: one object on one line.
pub fn json(checked: &Checked) -> String {
    let report = Report { findings: checked.findings.iter().map(Entry::from).collect(), objects: checked.objects };
    // Strings, numbers and lists only: that cannot fail to become JSON.
    serde_json::to_string(&report).unwrap_or_default() + "\n"
}
