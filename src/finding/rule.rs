//! A rule: one thing that can be wrong, with all that is said about it in one place.
//!
//! `Rule {id, severity, title, why, wrong, right}`: the id is what people search for; the page, `--explain` and the tests
//! are made of the same value. A rule that finds something makes a [`Finding`] by [`Rule::at`].

use super::{FieldPath, Finding, Severity};

/// The annotation by which the author of an object says that rules do not hold for it: ids, with commas between them. On a
/// NetworkPolicy it speaks of that policy, on a Namespace of the Pods in it.
pub const ALLOW: &str = "ringfence.dev/allow";

/// One rule of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What people search for: words with hyphens.
    pub id: &'static str,
    /// How bad it is unless somebody sets it; `None` = it does not speak unless somebody asks it to.
    pub severity: Option<Severity>,
    /// One sentence, without a full stop.
    pub title: &'static str,
    /// What happens, and why it is not what was meant. Markdown.
    pub why: &'static str,
    /// A manifest that is wrong. Without a kind it is the spec of a NetworkPolicy, as in all examples.
    pub wrong: &'static str,
    /// The same, right.
    pub right: &'static str,
}

impl Rule {
    /// A finding of this rule about what an API server lets in.
    pub fn at(&self, path: &FieldPath, message: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding {
            rule: self.id,
            severity: self.severity.unwrap_or(Severity::Warning),
            path: path.clone(),
            message: message.into(),
            help: help.into(),
            server: false,
        }
    }

    /// An example as a whole manifest.
    pub fn manifest(example: &str) -> String {
        if example.contains("kind:") {
            return example.to_owned();
        }
        let spec: String = example.lines().map(|line| format!("  {line}\n")).collect();
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: web\n  namespace: shop\nspec:\n{spec}"
        )
    }
}
