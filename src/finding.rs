//! A finding: one thing that is wrong with an object, as plain data.
//!
//! `rule, severity, path, message, help`: what a review, a report and a test compare. No rendering and no position in a
//! file: a finding holds a [`FieldPath`], and whoever has the text turns that into a line and a column.

pub mod located;
pub mod near;
pub mod place;
pub mod rule;

use smallvec::SmallVec;
use std::{borrow::Cow, fmt};

/// How bad a finding is; ordered, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing, probably meant.
    Hint,
    /// Probably not what was meant; the object is let in.
    Warning,
    /// Can not do what it says; the object is refused.
    Error,
}

impl Severity {
    /// The word that JSON and people see.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Hint => "hint",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A key of a mapping. Nearly all are known by name.
    Field(Cow<'static, str>),
    /// A place in a list, from 0.
    Index(usize),
}

/// Where in an object something stands, in the API's own notation: `spec.ingress[0].ports[1].endPort`. Hundreds are made for
/// each review and hardly any is told, so they are made without asking for memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(pub SmallVec<[Step; 8]>);

impl FieldPath {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// This path and a key below it.
    #[must_use]
    pub fn field(&self, name: impl Into<Cow<'static, str>>) -> Self {
        self.then(Step::Field(name.into()))
    }

    /// This path and a place in the list that stands there.
    #[must_use]
    pub fn index(&self, place: usize) -> Self {
        self.then(Step::Index(place))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if at == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(place) => write!(f, "[{place}]")?,
            }
        }
        Ok(())
    }
}

/// A text of somebody else's on one line that says nothing to a terminal: control characters are escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => {
            text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
        }
        false => Cow::Borrowed(text),
    }
}

/// One thing that is wrong with an object, or worth knowing about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// The id of the rule, which people can search for.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands in the object.
    pub path: FieldPath,
    /// What is wrong, naming the thing. One line.
    pub message: String,
    /// What to write instead. May have several lines.
    pub help: String,
    /// Whether a kube-apiserver refuses the object for it.
    pub server: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_the_api_writes_it() {
        let path = FieldPath::root().field("spec").field("ingress").index(0).field("ports").index(1).field("endPort");
        assert_eq!(path.to_string(), "spec.ingress[0].ports[1].endPort");
    }

    #[test]
    fn an_error_is_worse_than_a_warning_and_a_warning_than_a_hint() {
        assert!(Severity::Error > Severity::Warning && Severity::Warning > Severity::Hint);
    }
}
