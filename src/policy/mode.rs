//! Whether a policy is enforced or only watched.
//!
//! A setting of the process, overridden by the label [`NAME`] of a namespace, overridden by the annotation of that name of a
//! NetworkPolicy. A policy in audit changes nothing of what passes, its allow rules included; what it would deny is counted.

use super::model::{Namespace, NetworkPolicy};

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

/// The mode of a policy: what it says of itself, else what its namespace says, else the setting.
pub fn of_policy(policy: &NetworkPolicy, namespace: Option<&Namespace>, setting: Mode) -> Mode {
    let of_namespace = || Some(Mode::of_label(namespace?.labels.get(NAME)?));
    policy.mode.or_else(of_namespace).unwrap_or(setting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::Labels;

    #[test]
    fn the_annotation_goes_before_the_label_and_the_label_before_the_setting() {
        let labelled = |value: &str| Namespace { labels: Labels::from_iter([(NAME, value)]), ..Namespace::default() };
        let plain = NetworkPolicy::default();
        assert_eq!(of_policy(&plain, None, Mode::Audit), Mode::Audit);
        assert_eq!(of_policy(&plain, Some(&Namespace::default()), Mode::Audit), Mode::Audit);
        assert_eq!(of_policy(&plain, Some(&labelled("audit")), Mode::Enforce), Mode::Audit);
        assert_eq!(of_policy(&plain, Some(&labelled("enforce")), Mode::Audit), Mode::Enforce);
        let annotated = |mode| NetworkPolicy { mode: Some(mode), ..NetworkPolicy::default() };
        assert_eq!(of_policy(&annotated(Mode::Audit), Some(&labelled("enforce")), Mode::Enforce), Mode::Audit);
        assert_eq!(of_policy(&annotated(Mode::Enforce), Some(&labelled("audit")), Mode::Audit), Mode::Enforce);
    }

    #[test]
    fn a_value_that_means_nothing_enforces() {
        let labelled = Namespace { labels: Labels::from_iter([(NAME, "Audit")]), ..Namespace::default() };
        assert_eq!(of_policy(&NetworkPolicy::default(), Some(&labelled), Mode::Audit), Mode::Enforce);
    }
}
