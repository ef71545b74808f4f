//! A finding in a file: what a report on files shows.
//!
//! `Located {finding, file, span, object}`: a [`Finding`] whose path has become a place that an editor can jump to, by
//! whoever has the text. Still plain data, without the text.

use super::{Finding, printable};

/// A finding and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Located {
    /// The file, as it was named.
    pub file: String,
    /// Where in it.
    pub span: Span,
    /// The object, as `Kind/namespace/name`; empty if it is not known, as where a file is no YAML.
    pub object: String,
    /// The finding.
    pub finding: Finding,
    /// What a kube-apiserver would answer to the whole object, at the first finding for which it refuses it.
    pub answer: Option<String>,
}

impl Located {
    /// A finding at a place.
    pub fn new(file: &str, span: Span, object: &str, finding: Finding) -> Self {
        Self { file: file.to_owned(), span, object: object.to_owned(), finding, answer: None }
    }
}

impl std::fmt::Display for Located {
    /// One line: `file:line:column: object: message: help`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Located { file, span, object, finding, answer: _ } = self;
        let line = format!("{file}:{}:{}: {object}: {}: {}", span.line, span.column, finding.message, finding.help);
        f.write_str(&printable(&line.replace('\n', " ")))
    }
}

/// From one character to another of a text. Lines and columns begin with 1, columns count characters, the end is the
/// character after the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the end.
    pub end_line: usize,
    /// Column of the end.
    pub end_column: usize,
}

impl Default for Span {
    /// The beginning of a text.
    fn default() -> Self {
        Self { line: 1, column: 1, end_line: 1, end_column: 1 }
    }
}

impl Span {
    /// The place of one character.
    pub fn at(line: usize, column: usize) -> Self {
        Self { line, column, end_line: line, end_column: column + 1 }
    }
}
