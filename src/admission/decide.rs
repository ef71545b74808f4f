//! The decision about one review, as a pure function: no clock, no network, no memory of earlier reviews.
//!
//! `Service::decide(hook, &Review) -> Decision`. A CREATE is judged by all its findings, an UPDATE by those that the stored
//! object did not have already; what is being deleted, what did not change and what is not ours passes. Both hooks deny alike:
//! an object that decodes but fails the API server's own validation is seen by mutating webhooks only.

use super::{
    answer::{Answer, Outcome, Status, within_limits},
    message,
    patch::{self, PatchFailed},
    review::{Object, Operation, Review},
    view::View,
};
use crate::finding::{FieldPath, Finding, Severity, Step};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

/// What is wrong with a NetworkPolicy, given as the JSON that the review carries.
pub type Findings = fn(&Value) -> Vec<Finding>;

/// Which webhook is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `/validate`
    Validate,
    /// `/mutate`
    Mutate,
}

impl Hook {
    /// The last part of its path.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::Validate => "validate",
            Hook::Mutate => "mutate",
        }
    }
}

/// How a review ended, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Read and let in.
    Allowed,
    /// Read, changed and let in.
    Patched,
    /// Read and refused.
    Denied,
    /// Refused because it cannot be read.
    Unreadable,
    /// Let in without a look: not a kind, or not an operation, that is judged here.
    Skipped,
}

impl Verdict {
    /// In lower case, as metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Allowed => "allowed",
            Verdict::Patched => "patched",
            Verdict::Denied => "denied",
            Verdict::Unreadable => "unreadable",
            Verdict::Skipped => "skipped",
        }
    }
}

/// An answer, and what made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What the API server is told.
    pub answer: Answer,
    /// How it ended.
    pub verdict: Verdict,
    /// The rules that spoke, and how often.
    pub rules: BTreeMap<(&'static str, Severity), u64>,
}

/// Decides reviews.
#[derive(Debug, Clone)]
pub struct Service {
    findings: Findings,
    view: View,
}

impl Service {
    /// A service that judges NetworkPolicies by these findings.
    pub fn new(findings: Findings) -> Self {
        Self { findings, view: View::default() }
    }

    /// The same with a cluster around the objects.
    pub fn with_view(self, view: View) -> Self {
        Self { view, ..self }
    }

    /// The cluster around the objects.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Decides a review.
    ///
    /// # Errors
    /// A mistake in here, never in the review: HTTP 500, so that the `failurePolicy` decides.
    pub fn decide(&self, hook: Hook, review: &Review<'_>) -> Result<Decision, PatchFailed> {
        let judged = is_network_policy(review) && matches!(review.operation, Operation::Create | Operation::Update);
        if !judged {
            return Ok(Decision::plain(review, Verdict::Skipped));
        }
        let stored = if review.operation == Operation::Update { review.old_object } else { Object::default() };
        let (outline, before) = (review.object.outline(), stored.outline());
        let unchanged = matches!((&outline, &before), (Some(now), Some(before)) if now.has_spec_of(before));
        if unchanged || outline.is_some_and(|now| now.is_being_deleted()) {
            return Ok(Decision::plain(review, Verdict::Allowed));
        }
        // One object at a time: read, an object is many times as large as its text.
        let known = self.faults(stored);
        let object = match readable(review.object) {
            Ok(object) => object,
            Err(why) => return Ok(Decision::unreadable(review, &why)),
        };
        let findings = (self.findings)(&object);
        let (errors, stood) = new_errors(&findings, known);

        let mut decision = Decision::plain(review, Verdict::Allowed);
        for finding in &findings {
            *decision.rules.entry((finding.rule, finding.severity)).or_default() += 1;
        }
        // Whoever passes here is told by /validate, which sees what is stored in the end; nobody needs to hear it twice.
        if hook == Hook::Validate || !errors.is_empty() {
            decision.answer.warnings = warnings(&findings, &stood);
        }
        if !errors.is_empty() {
            let message = message::denial(&called(review, &object), &errors);
            decision.answer.outcome = Outcome::Denied(Status::forbidden(message));
            decision.verdict = Verdict::Denied;
        } else if hook == Hook::Mutate
            && let Some(patch) = patch::policy_types(&object)?
        {
            decision.answer.outcome = Outcome::Patched(patch);
            decision.verdict = Verdict::Patched;
        }
        Ok(decision)
    }

    /// What was wrong already, and how often. An old object that cannot be read excuses nothing.
    fn faults(&self, stored: Object<'_>) -> BTreeMap<u64, u64> {
        let mut faults = BTreeMap::new();
        if let Ok(Some(old)) = stored.read() {
            for finding in (self.findings)(&old) {
                *faults.entry(fault(&finding)).or_default() += 1;
            }
        }
        faults
    }
}

impl Decision {
    fn plain(review: &Review<'_>, verdict: Verdict) -> Self {
        Self { answer: Answer::allowed(review.uid.as_ref()), verdict, rules: BTreeMap::new() }
    }

    fn unreadable(review: &Review<'_>, why: &str) -> Self {
        let message = format!("the {} in the review cannot be read: {why}", review.kind.kind);
        let mut decision = Self::plain(review, Verdict::Unreadable);
        decision.answer.outcome = Outcome::Denied(Status::bad_request(message));
        decision
    }
}

/// Whether a review is about a NetworkPolicy itself.
pub(super) fn is_network_policy(review: &Review<'_>) -> bool {
    let kind = &review.kind;
    kind.group == "networking.k8s.io"
        && kind.version == "v1"
        && kind.kind == "NetworkPolicy"
        && review.sub_resource.is_empty()
}

fn readable(object: Object<'_>) -> Result<Value, String> {
    object.read()?.ok_or_else(|| "there is none".to_owned())
}

/// The errors that the old object did not have, and those that it had.
fn new_errors(findings: &[Finding], mut known: BTreeMap<u64, u64>) -> (Vec<&Finding>, Vec<&Finding>) {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.partition(|finding| match known.get_mut(&fault(finding)) {
        Some(left @ 1..) => {
            *left -= 1;
            false
        }
        _ => true,
    })
}

/// What makes two findings the same fault although a rule was put before it: everything but the places in lists. As a number,
/// because an object may have very many.
fn fault(finding: &Finding) -> u64 {
    let mut hasher = DefaultHasher::new();
    let FieldPath(steps) = &finding.path;
    for step in steps {
        if let Step::Field(name) = step {
            name.hash(&mut hasher);
        }
    }
    (finding.rule, &finding.message).hash(&mut hasher);
    hasher.finish()
}

fn warnings(findings: &[Finding], stood: &[&Finding]) -> Vec<String> {
    let stood = stood.iter().map(|finding| format!("already so before: {}", message::warning(finding)));
    let warned = findings.iter().filter(|finding| finding.severity == Severity::Warning).map(message::warning);
    within_limits(stood.chain(warned))
}

/// What people call the object: `NetworkPolicy shop/db`.
fn called(review: &Review<'_>, object: &Value) -> String {
    let written = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = match (review.name.as_ref(), written("/metadata/name"), written("/metadata/generateName")) {
        ("", Some(name), _) => name.to_owned(),
        ("", None, Some(start)) => format!("{start}…"),
        ("", None, None) => "without a name".to_owned(),
        (name, _, _) => name.to_owned(),
    };
    match review.namespace.as_ref() {
        "" => format!("{} {name}", review.kind.kind),
        namespace => format!("{} {namespace}/{name}", review.kind.kind),
    }
}
