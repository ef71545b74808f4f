//! Why an API server does not tell, in one line: what it is, and what to do.
//!
//! [`Error`] is for people. What the follower does about it is in questions: [`Error::gone`], [`Error::pause`],
//! [`Error::is_silence`], [`Error::is_about_access`]. What an API server or a file says is printed so that it stays one line.

use crate::finding::printable;
use std::{path::PathBuf, time::Duration};

/// The oldest Kubernetes that is spoken to: 1.30.
pub const OLDEST_MINOR: u32 = 30;

/// Why an API server does not tell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not say how to reach a cluster.
    #[error("the kubeconfig {} does not work: {}; correct it, or name another one", .file.display(), chain(.source))]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// Not in a pod, or in one without a service account.
    #[error("this is no pod with a service account ({0}); give --kubeconfig FILE or --cluster DIR")]
    NotInCluster(String),
    /// Certificates, keys, tokens, programs that make them.
    #[error("the credentials for the API server can not be used: {0}; correct them")]
    Credentials(String),
    /// Nobody answers.
    #[error("the API server can not be reached: {0}; see that it runs and that its address is right")]
    Unreachable(String),
    /// It takes too long.
    #[error("the API server has not answered for {} s: {what}; see whether it is overloaded", .after.as_secs())]
    Slow {
        /// What was asked.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// It is older than what is spoken to.
    #[error("the API server is Kubernetes {0}, and 1.{OLDEST_MINOR} is the oldest that works: upgrade the cluster")]
    TooOld(String),
    /// RBAC.
    #[error(
        "the API server refuses to {verb} {resource}: {}; give the role of {} the {} on it",
        one_line(.message), user(.message), verbs(.verb)
    )]
    Forbidden {
        /// The verb that is missing.
        verb: &'static str,
        /// The resource, as RBAC writes it.
        resource: String,
        /// What the server says, which names the user.
        message: String,
    },
    /// Who asks is not known.
    #[error("the API server does not know who asks (401): {}; renew the token or the client certificate", one_line(.0))]
    Unauthorized(String),
    /// The resource version is too old: everything has to be listed again.
    #[error("the API server does not remember that far back (410): {}", one_line(.0))]
    Gone(String),
    /// Any other answer that is none.
    #[error("the API server answers {status} to {what}: {}", one_line(.message))]
    Answer {
        /// The HTTP status.
        status: u16,
        /// What was asked.
        what: String,
        /// What it says.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It said something that is no JSON of the API.
    #[error("what the API server says can not be read: {0}")]
    Unreadable(String),
}

impl Error {
    /// The HTTP status of an answer that is none.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Answer { status, .. } => Some(*status),
            Error::Forbidden { .. } => Some(403),
            Error::Unauthorized(_) => Some(401),
            Error::Gone(_) => Some(410),
            _ => None,
        }
    }

    /// Whether trying again is of no use: somebody has to change something here, or upgrade the cluster.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Error::Kubeconfig { .. } | Error::NotInCluster(_) | Error::TooOld(_))
    }

    /// Whether only a new list helps.
    pub(super) fn gone(&self) -> bool {
        matches!(self, Error::Gone(_))
    }

    /// How long the server wants to be left alone.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Error::Answer { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether there was no answer at all.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Error::Unreachable(_) | Error::Slow { .. })
    }

    /// Whether other credentials or another address might help: they are read again then.
    pub(super) fn is_about_access(&self) -> bool {
        matches!(self, Error::Unauthorized(_) | Error::Credentials(_) | Error::Unreachable(_))
    }

    /// An error of the client: of the way to the server.
    pub(super) fn of_client(error: &kube::Error) -> Self {
        // What is around the cause says nothing that the sentence does not.
        let cause = || chain(std::error::Error::source(error).unwrap_or(error));
        match error {
            kube::Error::Auth(_) | kube::Error::RustlsTls(_) => Error::Credentials(cause()),
            _ => Error::Unreachable(cause()),
        }
    }
}

/// An error and its causes, each once, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    one_line(&text)
}

/// A text of somebody else's, on one line and of a length that can be read.
fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = printable(&text).chars().take(400).collect();
    if short.is_empty() { "nothing".to_owned() } else { short }
}

/// Who follows needs two verbs, whichever is missed first.
fn verbs(verb: &str) -> String {
    match verb {
        "list" | "watch" => "verbs list and watch".to_owned(),
        verb => format!("verb {verb}"),
    }
}

/// Whom a server means: `User "system:serviceaccount:x:y" cannot list …`.
fn user(message: &str) -> String {
    let name = message.split_once("User \"").and_then(|(_, rest)| rest.split_once('"')).map(|(name, _)| name);
    name.map_or_else(|| "this user".to_owned(), one_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_that_is_missing_is_named_with_the_resource_and_the_user() {
        let message = "networkpolicies.networking.k8s.io is forbidden: User \"system:serviceaccount:a:b\" cannot list \
                       resource\n \"networkpolicies\"";
        let error = Error::Forbidden {
            verb: "list",
            resource: "networkpolicies.networking.k8s.io".to_owned(),
            message: message.to_owned(),
        };
        let text = error.to_string();
        assert!(text.contains("refuses to list networkpolicies.networking.k8s.io"), "{text}");
        assert!(text.contains("the role of system:serviceaccount:a:b the verbs list and watch"), "{text}");
        assert_eq!(text.lines().count(), 1);
        let error = Error::Forbidden { verb: "update", resource: "secrets".to_owned(), message: String::new() };
        assert!(error.to_string().ends_with("give the role of this user the verb update on it"), "{error}");
    }

    #[test]
    fn what_others_say_does_not_speak_to_the_terminal() {
        let text = Error::Unauthorized("\u{1b}[31mno\nway".to_owned()).to_string();
        assert!(!text.contains(char::is_control), "{text}");
    }
}
