//! How bad each rule is: what the rule says, unless a setting says something else.

use crate::finding::{Finding, Severity, near};
use std::{collections::BTreeMap, str::FromStr};

/// What was set, by rule; rules that are not in it are as bad as they say themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels(BTreeMap<&'static str, Option<Severity>>);

/// `RULE=deny|warn|hint|off`: one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    rule: &'static str,
    level: Option<Severity>,
}

impl FromStr for Setting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, word) = text.split_once('=').ok_or_else(|| format!("{text:?}: write RULE=deny, warn, hint or off"))?;
        let level = match word {
            "deny" => Some(Severity::Error),
            "warn" => Some(Severity::Warning),
            "hint" => Some(Severity::Hint),
            "off" => None,
            _ => return Err(format!("{word:?} is no level of {id}: write deny, warn, hint or off")),
        };
        let Some(rule) = super::rule(id) else {
            let near = near::nearest(id, super::rules().map(|rule| rule.id));
            let near = near.map_or_else(|| "docs/rules lists them".to_owned(), |near| format!("is {near} meant?"));
            return Err(format!("no rule is called {id:?}: {near}"));
        };
        if crate::k8s::convert::RULES.iter().any(|refused| refused.id == id) {
            return Err(format!("{id} is what API servers refuse: no setting changes that"));
        }
        Ok(Self { rule: rule.id, level })
    }
}

impl FromIterator<Setting> for Levels {
    /// The last setting of a rule counts.
    fn from_iter<I: IntoIterator<Item = Setting>>(settings: I) -> Self {
        Self(settings.into_iter().map(|Setting { rule, level }| (rule, level)).collect())
    }
}

impl Levels {
    /// Findings as bad as they are to be, without those that are not to be told.
    pub fn apply(&self, findings: Vec<Finding>) -> Vec<Finding> {
        let judged = findings.into_iter().filter_map(|finding| {
            let own = || super::rule(finding.rule).map_or(Some(finding.severity), |rule| rule.severity);
            let severity = self.0.get(finding.rule).copied().unwrap_or_else(own)?;
            Some(Finding { severity, ..finding })
        });
        judged.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_a_rule_and_a_level_or_says_what_is_wrong() {
        for (text, word) in [
            ("sctp", "write RULE="),
            ("sctp=maybe", "no level"),
            ("sctpp=off", "is sctp meant?"),
            ("port-quoted=off", "API servers refuse"),
        ] {
            let error = text.parse::<Setting>().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!("sctp=deny".parse::<Setting>().is_ok());
    }
}
