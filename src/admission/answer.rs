//! What an API server is told: an AdmissionReview of admission.k8s.io/v1 that carries a response.
//!
//! [`Answer`] is the value, its `Serialize` the wire form. The limits of warnings are kept here: an API server drops one with
//! a control character without a word, and cuts all of them once they are 4096 characters together
//! (apiserver `pkg/endpoints/filters/warning.go`).

use super::review::{API_VERSION, KIND};
use base64::{Engine, prelude::BASE64_STANDARD};
use json_patch::Patch;
use serde::{Serialize, Serializer, ser::Error};

/// The longest warning, in characters.
pub const WARNING_LIMIT: usize = 256;
/// All warnings of an answer together, in characters; below the 4096 at which API servers begin to cut, because other
/// webhooks warn too.
pub const WARNINGS_LIMIT: usize = 3072;

/// The answer to one review.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The question's.
    pub uid: String,
    /// What is decided.
    pub outcome: Outcome,
    /// Lines that kubectl prints as `Warning: …`.
    pub warnings: Vec<String>,
}

/// What is decided about an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It may pass as it is.
    Allowed,
    /// It may pass with this change, which was applied to it here once and did.
    Patched(Patch),
    /// It may not pass.
    Denied(Status),
}

/// Why not. `code` and `reason` pass through the API server unchanged; kubectl prints the message, line breaks included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// An HTTP status.
    pub code: u16,
    /// The API's word for it.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Status {
    /// The object can be read and may not be stored. Not `Invalid`: kubectl would hide who says so.
    pub fn forbidden(message: String) -> Self {
        Self { code: 403, reason: "Forbidden", message }
    }

    /// The object cannot be read.
    pub fn bad_request(message: String) -> Self {
        Self { code: 400, reason: "BadRequest", message }
    }
}

impl Answer {
    /// Yes, and nothing else.
    pub fn allowed(uid: impl Into<String>) -> Self {
        Self { uid: uid.into(), outcome: Outcome::Allowed, warnings: Vec::new() }
    }
}

/// Warnings as an API server lets them through: one line each, none twice, none too long, not too many.
pub(super) fn within_limits(warnings: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut left = WARNINGS_LIMIT;
    let mut dropped = 0_usize;
    for warning in warnings {
        let line = one_line(&warning);
        if kept.contains(&line) {
            continue;
        }
        match left.checked_sub(line.chars().count()) {
            Some(rest) => {
                left = rest;
                kept.push(line);
            }
            None => dropped += 1,
        }
    }
    if dropped > 0 {
        kept.push(format!("ringfence: {dropped} more warnings; `ringfence check` on the file shows them all"));
    }
    kept
}

fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(WARNING_LIMIT - 1)
        && line.chars().count() > WARNING_LIMIT
    {
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Answer { uid, outcome, warnings } = self;
        let mut response = Response { uid, allowed: true, status: None, patch: None, patch_type: None, warnings };
        match outcome {
            Outcome::Allowed => {}
            Outcome::Patched(patch) => {
                let json = serde_json::to_vec(patch).map_err(S::Error::custom)?;
                response.patch = Some(BASE64_STANDARD.encode(json));
                response.patch_type = Some("JSONPatch");
            }
            Outcome::Denied(status) => {
                response.allowed = false;
                response.status = Some(status);
            }
        }
        Envelope { api_version: API_VERSION, kind: KIND, response }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_line_without_control_characters() {
        assert_eq!(within_limits(["a\n  b\tc\u{1b}[31m d".to_owned()]), ["a b c [31m d"]);
    }

    #[test]
    fn a_warning_keeps_its_limit_to_the_character() {
        let fits = "é".repeat(WARNING_LIMIT);
        assert_eq!(within_limits([fits.clone()]), std::slice::from_ref(&fits));
        let cut = within_limits([format!("{fits}é")]);
        assert_eq!(cut[0].chars().count(), WARNING_LIMIT);
        assert!(cut[0].ends_with('…'));
    }

    #[test]
    fn warnings_come_once_and_the_rest_is_counted() {
        assert_eq!(within_limits(["a".to_owned(), "a".to_owned()]), ["a"]);
        let many = within_limits((0..100).map(|n| format!("{n:0200}")));
        assert!(many.iter().map(|w| w.chars().count()).sum::<usize>() < 4096);
        assert_eq!(many.len(), 15 + 1);
        assert!(many[15].contains("85 more warnings"));
    }
}
