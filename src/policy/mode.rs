//! Whether a policy is enforced or only watched.
//!
//! A setting of the process, overridden by the label [`NAME`] of a namespace, overridden by the annotation of that name of a
//! NetworkPolicy. A policy in audit changes nothing of what passes, its allow rules included; what it would deny is counted.

/// The label of a namespace and the annotation of a NetworkPolicy.
pub const NAME: &str = "ringfence.dev/mode";

/// What becomes of packets that no rule admits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// They are dropped.
    #[default]
    Enforce,
    /// They pass, and are counted.
    Audit,
}

impl Mode {
    /// As labels, annotations and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Audit => "audit",
        }
    }

    /// What a label or an annotation says; a value that means nothing enforces.
    pub fn of_label(value: &str) -> Self {
        value.parse().unwrap_or_default()
    }
}

impl std::str::FromStr for Mode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Mode::Enforce, Mode::Audit]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| format!("no mode is called {text:?}: write enforce or audit"))
    }
}
