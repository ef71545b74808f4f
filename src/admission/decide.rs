//! The decision about one review, as a pure function: no clock, no network, no memory of earlier reviews.
//!
//! `Service::decide(hook, &Review) -> Decision`. A CREATE is judged by all its findings, an UPDATE by those that the stored
//! object did not have already; what is being deleted, what did not change and what is not ours passes. Both hooks deny alike:
//! an object that decodes but fails the API server's own validation is seen by mutating webhooks only.

use super::{
    answer::{Answer, Outcome, Status, within_limits},
    kind::Kind,
    message,
    patch::{self, PatchFailed},
    review::{Object, Operation, Outline, Review, User},
    view::View,
};
use crate::{
    catalogue::{Catalogue, Subject},
    finding::{FieldPath, Finding, Severity, Step},
    lint,
    policy::model::Name,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// What is wrong with an object; nothing for kinds that are not judged.
type Judge = dyn Fn(&Subject<'_>) -> Vec<Finding> + Send + Sync;

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

/// What the service does besides judging.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manners {
    /// NET_RAW is dropped, in namespaces with a baseline, from containers that did not ask for it.
    pub drop_net_raw: bool,
    /// Users and groups who may take a running pod out of every policy by its labels.
    pub may_relabel: BTreeSet<String>,
}

/// Decides reviews.
#[derive(Clone)]
pub struct Service {
    judge: Arc<Judge>,
    view: View,
    manners: Manners,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("view", &self.view).field("manners", &self.manners).finish_non_exhaustive()
    }
}

impl Service {
    /// A service that judges objects by these findings.
    pub fn new(judge: impl Fn(&Subject<'_>) -> Vec<Finding> + Send + Sync + 'static) -> Self {
        Self { judge: Arc::new(judge), view: View::default(), manners: Manners::default() }
    }

    /// A service that judges objects by the catalogue.
    pub fn by(catalogue: Catalogue) -> Self {
        Self::new(move |subject| catalogue.judge(subject).unwrap_or_default())
    }

    /// The same with a cluster around the objects.
    pub fn with_view(self, view: View) -> Self {
        Self { view, ..self }
    }

    /// The same with other manners.
    pub fn with_manners(self, manners: Manners) -> Self {
        Self { manners, ..self }
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
        let written = matches!(review.operation, Operation::Create | Operation::Update);
        let Some(kind) = Kind::of(review).filter(|_| written) else {
            return Ok(Decision::plain(review, Verdict::Skipped));
        };
        let stored = if review.operation == Operation::Update { review.old_object } else { Object::default() };
        let (outline, before) = (review.object.outline(), stored.outline());
        let scope = match (&outline, &before) {
            (Some(now), _) if now.is_being_deleted() => Scope::Nothing,
            (Some(now), Some(before)) => Scope::of_update(kind, now, before),
            _ => Scope::Object,
        };
        // Annotations are told of, which is for /validate.
        if scope == Scope::Nothing || (scope == Scope::Annotations && hook == Hook::Mutate) {
            return Ok(Decision::plain(review, Verdict::Allowed));
        }
        self.view.read(|cluster| {
            let view = cluster.map(|cluster| lint::View { cluster, live: true });
            self.judged(hook, review, kind, scope, stored, view)
        })
    }

    fn judged(
        &self,
        hook: Hook,
        review: &Review<'_>,
        kind: Kind,
        scope: Scope,
        stored: Object<'_>,
        view: Option<lint::View<'_>>,
    ) -> Result<Decision, PatchFailed> {
        let namespace = review.namespace.as_ref();
        let judge = |object: &Value, old: Option<&Value>| {
            (self.judge)(&Subject { object, old, namespace, is_written: false, is_policy: kind == Kind::Policy, view })
        };
        // An old object that cannot be read excuses nothing. Unless labels are held against it, it is gone before the new one
        // is read: read, an object is many times as large as its text.
        let old = stored.read().unwrap_or_default();
        let known = old.as_ref().map(|old| faults(&judge(old, None))).unwrap_or_default();
        let old = old.filter(|_| matches!(kind, Kind::Pod | Kind::Namespace));
        let object = match readable(review.object) {
            Ok(object) => object,
            Err(_) if scope == Scope::Annotations => return Ok(Decision::plain(review, Verdict::Allowed)),
            Err(why) => return Ok(Decision::unreadable(review, &why)),
        };
        if kind == Kind::Pod && is_mirror(&object) {
            return Ok(Decision::plain(review, Verdict::Allowed));
        }
        let mut findings = judge(&object, old.as_ref());
        self.excuse(&review.user, &mut findings);
        scope.narrow(&mut findings);
        let (new, stood) = split(&findings, known);
        let errors: Vec<&Finding> = new.iter().filter(|f| f.severity == Severity::Error).copied().collect();

        let mut decision = Decision::plain(review, Verdict::Allowed);
        for finding in &findings {
            *decision.rules.entry((finding.rule, finding.severity)).or_default() += 1;
        }
        // Whoever passes here is told by /validate, which sees what is stored in the end; nobody needs to hear it twice.
        if hook == Hook::Validate || !errors.is_empty() {
            // A policy's author hears all of it again; Pods and annotations are changed by others, who hear what is new.
            let again = kind == Kind::Policy && scope == Scope::Object;
            let told: Vec<&Finding> = if again { findings.iter().collect() } else { new.clone() };
            let stood = if again { stood } else { vec![] };
            decision.answer.warnings = warnings(&told, &stood);
        }
        if !errors.is_empty() {
            let message = message::denial(&called(review, &object), &errors);
            decision.answer.outcome = Outcome::Denied(Status::forbidden(message));
            decision.verdict = Verdict::Denied;
        } else if hook == Hook::Mutate
            && let Some(patch) = self.patch(kind, &object, old.as_ref(), namespace, view)?
        {
            decision.answer.outcome = Outcome::Patched(patch);
            decision.verdict = Verdict::Patched;
        }
        Ok(decision)
    }

    fn patch(
        &self,
        kind: Kind,
        object: &Value,
        old: Option<&Value>,
        namespace: &str,
        view: Option<lint::View<'_>>,
    ) -> Result<Option<json_patch::Patch>, PatchFailed> {
        let fenced = || view.is_some_and(|view| view.fences(&Name::from(namespace)));
        match kind {
            Kind::Policy => patch::policy_types(object),
            Kind::Pod if self.manners.drop_net_raw && fenced() => patch::net_raw(object, old),
            Kind::Pod | Kind::Workload | Kind::Namespace => Ok(None),
        }
    }

    /// Who may relabel pods is told, and not stopped.
    fn excuse(&self, user: &User<'_>, findings: &mut [Finding]) {
        let may = |name: &str| self.manners.may_relabel.contains(name);
        if may(&user.username) || user.groups.iter().any(|group| may(group)) {
            for finding in findings.iter_mut().filter(|finding| finding.rule == lint::LEAVES_FENCE) {
                finding.severity = finding.severity.min(Severity::Warning);
            }
        }
    }
}

/// What of an object is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of it.
    Object,
    /// Its annotations, by which an author keeps rules from speaking: whoever adds one is told of it then, and of nothing else.
    Annotations,
    /// Nothing.
    Nothing,
}

impl Scope {
    /// What an update changes of what is judged: of a policy and of a workload the spec, of a Pod the labels besides, of a
    /// Namespace its labels and annotations.
    fn of_update(kind: Kind, now: &Outline<'_>, before: &Outline<'_>) -> Self {
        let unchanged = match kind {
            Kind::Policy | Kind::Workload => now.has_spec_of(before),
            Kind::Pod => now.has_spec_of(before) && now.is_called_as(before),
            Kind::Namespace => now.is_called_as(before),
        };
        match unchanged {
            true if kind == Kind::Policy && !now.is_annotated_as(before) => Scope::Annotations,
            true => Scope::Nothing,
            false => Scope::Object,
        }
    }

    /// Leaves what it speaks of. A change of metadata alone is never denied.
    fn narrow(self, findings: &mut Vec<Finding>) {
        if self == Scope::Object {
            return;
        }
        let annotations = FieldPath::root().field("metadata").field("annotations");
        findings.retain(|finding| finding.path.0.starts_with(&annotations.0));
        for finding in findings {
            finding.severity = finding.severity.min(Severity::Warning);
        }
    }
}

/// The kubelet shows a static pod by a mirror of it, which nobody can keep from running any more.
fn is_mirror(object: &Value) -> bool {
    object["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string()
}

/// What is wrong already, and how often.
fn faults(findings: &[Finding]) -> BTreeMap<u64, u64> {
    let mut faults = BTreeMap::new();
    for finding in findings {
        *faults.entry(fault(finding)).or_default() += 1;
    }
    faults
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

fn readable(object: Object<'_>) -> Result<Value, String> {
    object.read()?.ok_or_else(|| "there is none".to_owned())
}

/// The findings that the old object did not have, and the errors that it had.
fn split(findings: &[Finding], mut known: BTreeMap<u64, u64>) -> (Vec<&Finding>, Vec<&Finding>) {
    let (new, mut stood): (Vec<_>, Vec<_>) =
        findings.iter().partition(|finding| match known.get_mut(&fault(finding)) {
            Some(left @ 1..) => {
                *left -= 1;
                false
            }
            _ => true,
        });
    stood.retain(|finding| finding.severity == Severity::Error);
    (new, stood)
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

fn warnings(findings: &[&Finding], stood: &[&Finding]) -> Vec<String> {
    let stood = stood.iter().map(|finding| format!("already so before: {}", message::warning(finding)));
    let warned = findings.iter().filter(|finding| finding.severity == Severity::Warning);
    let warned = warned.map(|finding| message::warning(finding));
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
