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
    let names = &matrix.endpoints;
    let first = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(CORNER.len());
    let _ = write!(out, "  {CORNER:first$}");
    for name in names {
        let _ = write!(out, "  {name}");
    }
    out.push('\n');
    for (from, name) in names.iter().enumerate() {
        let mut line = format!("  {name:first$}");
        for (to, column) in names.iter().enumerate() {
            let word = if matrix.allows(from, to) { "yes" } else { "-" };
            let _ = write!(line, "  {word:width$}", width = column.chars().count());
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let _ = writeln!(out, "\n{} of {} pairs", matrix.allowed.len(), names.len().pow(2));
    out
}

const CORNER: &str = "from \\ to";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        cluster::Cluster,
        matrix::{Family, Question, matrix},
        model::{Key, Namespace, NetworkPolicy, Pod, Protocol},
    };

    fn answer() -> Matrix {
        let mut cluster = Cluster::default();
        cluster.namespaces.insert("x".into(), Namespace::default());
        cluster.pods.insert(Key::new("x", "a"), Pod::default());
        cluster.pods.insert(Key::new("x", "deployment/web"), Pod::default());
        let deny = NetworkPolicy { egress: Some(vec![]), ..NetworkPolicy::default() };
        cluster.policies.insert(Key::new("x", "deny"), deny);
        let strangers = vec![("user".to_owned(), [192, 0, 2, 1].into())];
        matrix(&cluster, Question { port: 80, protocol: Protocol::Tcp, family: Family::Ipv4, strangers })
    }

    #[test]
    fn text_is_aligned_and_counts_the_pairs() {
        let expected = "\
Who reaches whom on 80/TCP (ipv4):

  from \\ to         user  x/a  x/deployment/web
  user              yes   yes  yes
  x/a               -     yes  -
  x/deployment/web  -     -    yes

5 of 9 pairs
";
        assert_eq!(text(&answer()), expected);
    }

    #[test]
    fn json_names_every_pair() {
        let expected = json!({
            "port": 80, "protocol": "TCP", "family": "ipv4",
            "endpoints": ["user", "x/a", "x/deployment/web"],
            "allowed": [
                ["user", "user"], ["user", "x/a"], ["user", "x/deployment/web"],
                ["x/a", "x/a"], ["x/deployment/web", "x/deployment/web"],
            ],
        });
        assert_eq!(json(&answer()), expected);
    }
}
