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
};
use crate::finding::{FieldPath, Finding, Severity, Step};
use serde_json::Value;
use std::collections::BTreeMap;

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
    /// The rules that spoke, as often as they did.
    pub rules: Vec<(&'static str, Severity)>,
}

/// Decides reviews.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    findings: Findings,
}

impl Service {
    /// A service that judges NetworkPolicies by these findings.
    pub fn new(findings: Findings) -> Self {
        Self { findings }
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
        let object = match readable(review.object) {
            Ok(object) => object,
            Err(why) => return Ok(Decision::unreadable(review, &why)),
        };
        if is_being_deleted(&object) {
            return Ok(Decision::plain(review, Verdict::Allowed));
        }
        // An old object that cannot be read excuses nothing.
        let old = match review.operation {
            Operation::Update => review.old_object.read().ok().flatten(),
            _ => None,
        };
        if old.as_ref().is_some_and(|old| old.get("spec") == object.get("spec")) {
            return Ok(Decision::plain(review, Verdict::Allowed));
        }
        let findings = (self.findings)(&object);
        let known = old.map(|old| (self.findings)(&old)).unwrap_or_default();
        let (errors, stood) = new_errors(&findings, &known);

        let mut decision = Decision::plain(review, Verdict::Allowed);
        decision.rules = findings.iter().map(|finding| (finding.rule, finding.severity)).collect();
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
}

impl Decision {
    fn plain(review: &Review<'_>, verdict: Verdict) -> Self {
        Self { answer: Answer::allowed(review.uid.as_ref()), verdict, rules: Vec::new() }
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

fn is_being_deleted(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}

/// The errors that the old object did not have, and those that it had.
fn new_errors<'a>(findings: &'a [Finding], known: &[Finding]) -> (Vec<&'a Finding>, Vec<&'a Finding>) {
    let mut excused: BTreeMap<_, usize> = BTreeMap::new();
    for finding in known {
        *excused.entry(fault(finding)).or_default() += 1;
    }
    findings.iter().filter(|finding| finding.severity == Severity::Error).partition(|finding| {
        match excused.get_mut(&fault(finding)) {
            Some(left @ 1..) => {
                *left -= 1;
                false
            }
            _ => true,
        }
    })
}

/// What makes two findings the same fault although a rule was put before it: everything but the places in lists.
fn fault(finding: &Finding) -> (&str, Vec<&str>, &str) {
    let FieldPath(steps) = &finding.path;
    let fields = steps.iter().filter_map(|step| match step {
        Step::Field(name) => Some(name.as_str()),
        Step::Index(_) => None,
    });
    (finding.rule, fields.collect(), &finding.message)
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
