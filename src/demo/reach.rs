//! Who reached whom, or should have at each act: a set of pairs, and two of them side by side.

use super::cast::{callers, tiers};
use std::{collections::BTreeSet, fmt::Write};

/// Pairs of names: the first reaches the second on its port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach(BTreeSet<(&'static str, &'static str)>);

impl Reach {
    /// Every caller and tier of which this holds.
    pub fn new(reaches: impl Fn(&str, &str) -> bool) -> Self {
        let pairs = callers().into_iter().flat_map(|from| tiers().into_iter().map(move |to| (from.name, to.name)));
        Self(pairs.filter(|(from, to)| reaches(from, to)).collect())
    }

    /// Whether the first reaches the second.
    pub fn has(&self, from: &str, to: &str) -> bool {
        self.0.iter().any(|pair| *pair == (from, to))
    }
}

/// Before: everybody reaches everybody, as Kubernetes has it.
pub fn open() -> Reach {
    Reach::new(|_, _| true)
}

/// Fenced: nobody but each to itself.
pub fn closed() -> Reach {
    Reach::new(|from, to| from == to)
}

/// The story: users reach web, web reaches api, api reaches db, and nothing else moves.
pub fn three_tiers() -> Reach {
    Reach::new(|from, to| from == to || [("user", "web"), ("web", "api"), ("api", "db")].contains(&(from, to)))
}

/// What was measured beside what was expected, a cell that differs marked.
pub fn side_by_side(measured: &Reach, expected: &Reach) -> String {
    let tiers = tiers();
    let heads: Vec<String> =
        tiers.iter().map(|tier| format!("{}:{}", tier.name, tier.port.unwrap_or_default())).collect();
    let width = heads.iter().map(String::len).max().unwrap_or(0) + 2;
    let half = width * heads.len();
    let mut out = format!("    {:12}{:half$}    {}\n    {:12}", "", "measured", "expected", "from \\ to");
    for _ in 0..2 {
        heads.iter().for_each(|head| {
            let _ = write!(out, "{head:width$}");
        });
        out.push_str("    ");
    }
    for from in callers() {
        let _ = write!(out, "\n    {:12}", from.name);
        for reach in [measured, expected] {
            for to in &tiers {
                let differs = measured.has(from.name, to.name) != expected.has(from.name, to.name);
                let word = if reach.has(from.name, to.name) { "yes" } else { "-" };
                let _ = write!(out, "{:width$}", if differs { format!("{word} !") } else { word.to_owned() });
            }
            out.push_str("    ");
        }
    }
    let mut text: String = out.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_differs_is_marked_on_both_sides() {
        let text = side_by_side(&open(), &three_tiers());
        let row = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
        assert_eq!(
            row("stranger").split_whitespace().collect::<Vec<_>>(),
            "stranger yes ! yes ! yes ! - ! - ! - !".split(' ').collect::<Vec<_>>()
        );
        assert_eq!(row("user").matches('!').count(), 4);
        assert!(!side_by_side(&open(), &open()).contains('!'));
    }

    #[test]
    fn the_story_is_three_connections_and_each_tier_to_itself() {
        assert_eq!(three_tiers().0.len(), 6);
        assert_eq!((open().0.len(), closed().0.len()), (15, 3));
    }
}
