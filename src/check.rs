//! Files -> findings -> report and exit code.
//!
//! `files -> yaml -> (convert, lint) -> Checked -> text or JSON`, with one entry: [`check`]. It is pure; who calls reads the
//! files and prints. A file that is no YAML is a finding like another; one that cannot be read is the caller's.

use crate::{
    finding::{FieldPath, Finding, Severity, located::Located, printable},
    k8s::{
        convert::{self, Converted},
        files::File,
        yaml,
    },
    lint,
    report::findings::{self, Checked},
};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// How to show what was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What to check for and how to show it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How to show what was found.
    pub format: Format,
    /// Whether text has colours.
    pub colours: bool,
    /// The server whose verdict is predicted.
    pub kubernetes: Version,
}

/// A minor version of Kubernetes: `1.36`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16);

impl Version {
    /// From here on servers refuse CIDRs that can be read in two ways (KEP-4858, StrictIPCIDRValidation).
    const STRICT_CIDRS: Version = Version(36);
}

impl Default for Version {
    /// The newest that is known.
    fn default() -> Self {
        Self(37)
    }
}

impl FromStr for Version {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let minor = text.trim_start_matches('v').strip_prefix("1.").and_then(|rest| rest.split('.').next());
        let minor = minor.and_then(|minor| minor.parse().ok());
        minor.map(Self).ok_or_else(|| format!("{text:?} is no version of Kubernetes: write 1.36"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// What a check comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What to print.
    pub report: String,
    /// Whether an error was found.
    pub failed: bool,
}

/// Checks files.
pub fn check(files: &[File], options: &Options) -> Outcome {
    let checked = find(files, options.kubernetes);
    let failed = checked.findings.iter().any(|located| located.finding.severity == Severity::Error);
    let report = match options.format {
        Format::Json => findings::json(&checked),
        Format::Text => {
            let texts = files
                .iter()
                .filter_map(|file| Some((file.name.as_str(), std::str::from_utf8(&file.bytes).ok()?)))
                .collect();
            findings::text(&checked, &texts, options.colours)
        }
    };
    Outcome { report, failed }
}

/// What is wrong with the objects of files.
pub fn find(files: &[File], kubernetes: Version) -> Checked {
    let settings = convert::Settings { templates: true, ..convert::Settings::default() };
    let mut checked = Checked { files: files.len(), ..Checked::default() };
    let mut first: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for file in files {
        let parsed = yaml::parse_bytes(&file.bytes);
        checked.findings.extend(parsed.errors.into_iter().map(|error| syntax(error, file)));
        for object in &parsed.objects {
            let Some(mut found) = judge(&object.value, &settings) else {
                checked.skipped += 1;
                continue;
            };
            checked.objects += 1;
            for finding in &mut found {
                predict(finding, kubernetes);
            }
            let title = object.title(&settings.namespace);
            let line = object.place(&FieldPath::root()).value.line;
            if let Some((file, line)) = first.get(&title) {
                found.push(twice(&title, file, *line));
            } else {
                first.insert(title, (file.name.as_str(), line));
            }
            checked
                .findings
                .extend(found.into_iter().map(|finding| object.located(finding, &file.name, &settings.namespace)));
            checked.findings.extend(object.repeated().into_iter().map(|repeated| Located {
                file: file.name.clone(),
                span: repeated.again,
                object: object.title(&settings.namespace),
                finding: repeated_key(&repeated),
            }));
        }
    }
    // Files stay in the order in which they were named.
    let order: BTreeMap<&str, usize> = files.iter().enumerate().map(|(at, file)| (file.name.as_str(), at)).collect();
    checked.findings.sort_by_key(|located| (order.get(located.file.as_str()).copied(), located.span));
    checked
}

/// The findings about an object, if it is of a kind that is checked.
fn judge(object: &Value, settings: &convert::Settings) -> Option<Vec<Finding>> {
    if !convert::is_network_policy(object) {
        return Some(convert::object(object, settings)?.findings);
    }
    let Converted { value, mut findings } = convert::network_policy(object);
    findings.extend(lint::network_policy(object, &value));
    Some(findings)
}

/// What an older server says of a finding.
fn predict(finding: &mut Finding, kubernetes: Version) {
    if kubernetes < Version::STRICT_CIDRS && convert::STRICT_CIDRS.contains(&finding.rule) {
        finding.server = false;
        finding.severity = Severity::Warning;
    }
}

fn syntax(error: yaml::SyntaxError, file: &File) -> Located {
    let (message, help) = match error.message.rsplit_once(": ") {
        Some((message, help)) if !message.starts_with("not YAML") => (message.to_owned(), help.to_owned()),
        _ => (error.message, "nothing in this document was checked".to_owned()),
    };
    let finding = Finding {
        rule: "yaml-syntax",
        severity: Severity::Error,
        path: FieldPath::root(),
        message,
        help,
        server: false,
    };
    Located { file: file.name.clone(), span: error.span, object: String::new(), finding }
}

fn repeated_key(repeated: &yaml::Repeated) -> Finding {
    Finding {
        rule: "duplicate-key",
        severity: Severity::Error,
        path: repeated.path.clone(),
        message: format!(
            "{} stands twice: kubectl keeps the last one and drops line {} without a word",
            printable(&repeated.path.to_string()),
            repeated.first.line
        ),
        help: "write it once".to_owned(),
        server: false,
    }
}

fn twice(title: &str, file: &str, line: usize) -> Finding {
    Finding {
        rule: "duplicate-object",
        severity: Severity::Warning,
        path: FieldPath::root().field("metadata").field("name"),
        message: format!(
            "{} stands at {file}:{line} too: applied together, the last one replaces the others",
            printable(title)
        ),
        help: "rename one, or check only what is applied together".to_owned(),
        server: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::located::Span;

    fn file(text: &str) -> File {
        File { name: "a.yaml".to_owned(), bytes: text.as_bytes().to_vec() }
    }

    fn rules(text: &str) -> Vec<(&'static str, Span)> {
        find(&[file(text)], Version::default()).findings.into_iter().map(|l| (l.finding.rule, l.span)).collect()
    }

    const HEAD: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec:\n";

    #[test]
    fn warnings_do_not_fail_and_errors_do() {
        let strict = format!("{HEAD}  egress: [{{to: [{{ipBlock: {{cidr: 10.0.0.1/8}}}}]}}]\n");
        let of = |kubernetes: &str| {
            check(
                &[file(&strict)],
                &Options { kubernetes: kubernetes.parse().expect("a version"), ..Options::default() },
            )
        };
        assert!(of("1.36").failed && of("v1.37.2").failed);
        let older = of("1.35");
        assert!(!older.failed && older.report.contains("warning[cidr-host-bits]"), "{}", older.report);
        assert!("2.0".parse::<Version>().is_err());
    }

    #[test]
    fn findings_of_all_stages_come_in_the_order_of_the_text() {
        let found = rules(&format!(
            "{HEAD}  podSelector: {{}}\n  podSelector: {{}}\n  policyTypes: [Egress]\n  ingress: [{{}}]\n---\na:\n\tb\n"
        ));
        assert_eq!(
            found.iter().map(|(rule, span)| (*rule, span.line)).collect::<Vec<_>>(),
            [("duplicate-key", 6), ("ignored-rules", 8), ("yaml-syntax", 11),]
        );
    }

    #[test]
    fn an_object_that_stands_twice_is_a_warning() {
        let one = format!("{HEAD}  podSelector: {{}}\n");
        let checked = find(&[file(&format!("{one}---\n{one}"))], Version::default());
        assert_eq!((checked.findings.len(), checked.findings[0].finding.rule), (1, "duplicate-object"));
        assert_eq!(checked.findings[0].span.line, 9);
    }

    #[test]
    fn kinds_that_are_not_checked_are_counted() {
        let checked = find(
            &[file(
                "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n",
            )],
            Version::default(),
        );
        assert_eq!((checked.objects, checked.skipped, checked.findings.len()), (1, 1, 0));
    }
}
