//! A matrix as text and as JSON.
//!
//! Text: sources down, destinations across, aligned, calm. JSON: stable, every ordered pair.

use crate::policy::matrix::Matrix;
use serde_json::{Value, json};
use std::fmt::Write;

/// `{"port","protocol","family","endpoints":[…],"allowed":[[from,to],…]}`.
pub fn json(matrix: &Matrix) -> Value {
    let name = |at: &usize| &matrix.endpoints[*at];
    json!({
        "port": matrix.question.port,
        "protocol": matrix.question.protocol.as_str(),
        "family": matrix.question.family.as_str(),
        "endpoints": matrix.endpoints,
        "allowed": matrix.allowed.iter().map(|(from, to)| [name(from), name(to)]).collect::<Vec<_>>(),
    })
}

/// A table for people: `yes` where the row reaches the column, `-` where it does not.
pub fn text(matrix: &Matrix) -> String {
    let question = &matrix.question;
    let mut out = format!("Who reaches whom on {}/{} ({}):\n\n", question.port, question.protocol, question.family);
    if matrix.endpoints.is_empty() {
        out.push_str("  no pods\n");
        return out;
    }
    out.push_str(&grid(&matrix.endpoints, |from, to| if matrix.allows(from, to) { "yes" } else { "-" }));
    let _ = writeln!(out, "\n{} of {} pairs", matrix.allowed.len(), matrix.endpoints.len().pow(2));
    out
}

/// Names down and across, a word in each cell. Every line ends without blanks.
pub fn grid(names: &[String], cell: impl Fn(usize, usize) -> &'static str) -> String {
    let first = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("from \\ to".len());
    let mut out = format!("  {:first$}", "from \\ to");
    for name in names {
        let _ = write!(out, "  {name}");
    }
    out.push('\n');
    for (from, name) in names.iter().enumerate() {
        let mut line = format!("  {name:first$}");
        for (to, column) in names.iter().enumerate() {
            let _ = write!(line, "  {:width$}", cell(from, to), width = column.chars().count());
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}
