//! One catalogue behind webhook and `check`: everything that is wrong with an object, under the settings of whoever asks.
//!
//! `Subject -> findings`, by [`Catalogue::judge`]: what an API server refuses (`k8s::convert`), then what it lets in and should
//! not be written (`lint`), each as bad as [`levels`] says, without what an annotation allows ([`allow`]).

mod allow;
pub mod files;
pub mod levels;
mod version;

pub use levels::Levels;
pub use version::Version;

use crate::{
    finding::{FieldPath, Finding, Severity, rule::Rule},
    k8s::convert::{self, Converted},
    lint::{self, Policy, View},
    policy::model::{Key, Name},
};
use serde_json::Value;

/// An object that is judged.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// It, as it would be stored.
    pub object: &'a Value,
    /// It, as it is stored now.
    pub old: Option<&'a Value>,
    /// Its namespace if it does not say one itself.
    pub namespace: &'a str,
    /// Whether it is as its author wrote it; one that comes from an API server has defaults written out.
    pub is_written: bool,
    /// Whoever asks says that it is a NetworkPolicy, whatever it says itself.
    pub is_policy: bool,
    /// The cluster around it.
    pub view: Option<View<'a>>,
}

/// What is judged, and how strictly.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// How bad each rule is.
    pub levels: Levels,
    /// The server whose verdict is predicted.
    pub kubernetes: Version,
}

/// Every rule that there is.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    convert::RULES.iter().chain(lint::all()).chain(allow::RULES).chain(files::RULES)
}

/// The rule of an id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.id == id)
}

impl Catalogue {
    /// What is wrong with an object; `None` for kinds that are not judged.
    pub fn judge(&self, subject: &Subject<'_>) -> Option<Vec<Finding>> {
        let object = subject.object;
        let named = object["metadata"]["namespace"].as_str().filter(|name| !name.is_empty());
        let namespace = Name::from(named.unwrap_or(subject.namespace));
        if subject.is_policy || convert::is_network_policy(object) {
            return Some(self.network_policy(subject, namespace));
        }
        if let Some((template, path)) = convert::template(object) {
            return Some(self.workload(subject, &namespace, template, &path));
        }
        let settings =
            convert::Settings { namespace: namespace.clone(), templates: true, ..convert::Settings::default() };
        let mut findings = convert::object(object, &settings)?.findings;
        match object["kind"].as_str() {
            Some("Pod") => findings.extend(self.pod(subject, namespace)),
            Some("Namespace") => {
                findings.extend(self.levels.apply(lint::namespace::rules(object)));
                findings.extend(self.levels.apply(allow::of_namespace(object)));
                if let (Some(view), Some(old)) = (&subject.view, subject.old) {
                    let [before, after] = [old, object].map(|object| convert::namespace(object, None).value.labels);
                    findings.extend(self.levels.apply(lint::namespace_relabelled(&before, &after, view)));
                }
            }
            _ => {}
        }
        Some(findings)
    }

    fn network_policy(&self, subject: &Subject<'_>, namespace: Name) -> Vec<Finding> {
        let object = subject.object;
        let Converted { value, mut findings } = convert::network_policy(object);
        for finding in &mut findings {
            self.kubernetes.predict(finding);
        }
        let readable = findings.iter().all(|finding| convert::AMBIGUOUS.contains(&finding.rule));
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let applied = (!subject.is_written).then(|| convert::last_applied(object)).flatten();
        let lint = lint::network_policy(&Policy {
            key: &Key::new(namespace, name),
            object,
            written: if subject.is_written { Some(object) } else { applied.as_ref() },
            value: readable.then_some(&value),
            view: subject.view,
        });
        findings.extend(allow::of_policy(object, self.levels.apply(lint), &self.levels));
        findings.extend(self.levels.apply(lint::namespace::rules(object)));
        findings
    }

    /// What a Pod in a namespace may not have: where there is no fence nothing gets around one.
    fn pod(&self, subject: &Subject<'_>, namespace: Name) -> Vec<Finding> {
        let object = subject.object;
        let mut findings = self.levels.apply(lint::pod::rules(object, &FieldPath::root()));
        if !subject.view.is_some_and(|view| view.fences(&namespace)) {
            soften(&mut findings);
        }
        if let (Some(view), Some(old)) = (&subject.view, subject.old) {
            let (before, after) = (convert::pod(old).value, convert::pod(object).value);
            let key = Key::new(namespace.clone(), object["metadata"]["name"].as_str().unwrap_or_default());
            findings.extend(self.levels.apply(lint::relabelled(&key, &before, &after, view)));
        }
        allow::of_pod(subject.view.as_ref(), &namespace, findings)
    }

    /// The pods of a workload are told as warnings: a denial of theirs would be read in a ReplicaSet's events only.
    fn workload(&self, subject: &Subject<'_>, namespace: &Name, template: &Value, path: &FieldPath) -> Vec<Finding> {
        let settings =
            convert::Settings { namespace: namespace.clone(), templates: true, ..convert::Settings::default() };
        let mut findings = convert::object(subject.object, &settings).map(|read| read.findings).unwrap_or_default();
        let mut rules = self.levels.apply(lint::pod::rules(template, path));
        soften(&mut rules);
        findings.extend(allow::of_pod(subject.view.as_ref(), namespace, rules));
        findings
    }
}

fn soften(findings: &mut [Finding]) {
    for finding in findings {
        finding.severity = finding.severity.min(Severity::Warning);
    }
}
