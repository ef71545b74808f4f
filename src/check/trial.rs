//! What must hold of any bytes that are checked: for the fuzzer, and for the tests that do the same in small.

use super::{Format, Options, check, find};
use crate::k8s::files::File;

/// Checks bytes in every form; what does not hold panics.
///
/// # Panics
/// Where something does not hold.
#[allow(clippy::panic, reason = "whoever calls wants to hear of it")]
pub fn file(bytes: &[u8]) {
    let files = [File { name: "a.yaml".to_owned(), bytes: bytes.to_vec() }];
    let checked = find(&files, &Options::default());
    for located in &checked.findings {
        let (span, finding) = (&located.span, &located.finding);
        assert!(span.line >= 1 && span.column >= 1 && (span.end_line, span.end_column) >= (span.line, span.column));
        assert!(!finding.message.is_empty() && !finding.message.contains('\n'), "{finding:?}");
    }
    for format in [Format::Text, Format::Json, Format::Sarif, Format::Github] {
        let report = check(&files, &Options { format, ..Options::default() }).report;
        assert!(!report.contains('\u{1b}'), "{report:?}");
        if matches!(format, Format::Json | Format::Sarif) {
            assert!(serde_json::from_str::<serde_json::Value>(&report).is_ok(), "{report}");
        }
    }
}
