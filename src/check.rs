//! Files -> findings -> report and exit code.
//!
//! `files -> yaml -> catalogue -> Checked -> text, JSON, SARIF or GitHub's annotations`, with one entry: [`check`]. It is pure;
//! who calls reads the files and prints. A file that is no YAML is a finding like another; one that cannot be read is the
//! caller's. What the files hold besides is the cluster by which a policy is judged, on top of a live one if there is one.

mod around;
pub mod trial;

use crate::{
    catalogue::{Catalogue, Subject, files as of_files},
    finding::{FieldPath, Finding, Severity, located::Located, printable},
    k8s::{
        convert::{self, answer},
        files::File,
        yaml,
    },
    lint::View,
    policy::{baseline::Baseline, cluster::Cluster},
    report::findings::{self, Checked},
};
use std::collections::BTreeMap;

/// How to show what was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For code scanning: SARIF 2.1.0.
    Sarif,
    /// For a workflow on GitHub: annotations of lines.
    Github,
}

/// What to check for and how to show it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How to show what was found.
    pub format: Format,
    /// Whether text has colours.
    pub colours: bool,
    /// What is judged, and how strictly.
    pub catalogue: Catalogue,
    /// A live cluster that the files would be applied to.
    pub cluster: Option<Cluster>,
    /// What fences namespaces that do not say it themselves.
    pub baseline: Baseline,
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
    let checked = find(files, options);
    let failed = checked.findings.iter().any(|located| located.finding.severity == Severity::Error);
    let report = match options.format {
        Format::Json => findings::json(&checked),
        Format::Sarif => findings::sarif(&checked, &crate::catalogue::rules().collect::<Vec<_>>()),
        Format::Github => findings::github(&checked),
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
pub fn find(files: &[File], options: &Options) -> Checked {
    let settings = convert::Settings { templates: true, ..convert::Settings::default() };
    let parsed: Vec<_> = files.iter().map(|file| (file, yaml::parse_bytes(&file.bytes))).collect();
    let objects = || parsed.iter().flat_map(|(_, parsed)| &parsed.objects).map(|object| &object.value);
    let before = Cluster { baseline: options.baseline, ..options.cluster.clone().unwrap_or_default() };
    let cluster = around::gather(objects(), &settings, before);
    let view = View { cluster: &cluster, live: options.cluster.is_some() };
    let mut checked = Checked { files: files.len(), ..Checked::default() };
    let mut first: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for (file, parsed) in &parsed {
        checked.findings.extend(parsed.errors.iter().map(|error| syntax(error, file)));
        for object in &parsed.objects {
            let namespace = settings.namespace.as_ref();
            let subject = Subject {
                object: &object.value,
                old: None,
                namespace,
                is_written: true,
                is_policy: false,
                view: Some(view),
            };
            let Some(mut found) = options.catalogue.judge(&subject) else {
                checked.skipped += 1;
                continue;
            };
            checked.objects += 1;
            found.extend(options.catalogue.levels.apply(of_file(&object.value)));
            let title = object.title(&settings.namespace);
            let line = object.place(&FieldPath::root()).value.line;
            if let Some((file, line)) = first.get(&title) {
                found.extend(options.catalogue.levels.apply(vec![twice(&title, file, *line)]));
            } else {
                first.insert(title.clone(), (file.name.as_str(), line));
            }
            let repeated = object.repeated();
            let mut located: Vec<Located> =
                found.into_iter().map(|finding| object.located(finding, &file.name, namespace)).collect();
            located.extend(repeated.iter().flat_map(|repeated| {
                let findings = options.catalogue.levels.apply(vec![repeated_key(repeated)]).into_iter();
                let title = title.clone();
                findings.map(move |finding| Located::new(&file.name, repeated.again, &title, finding))
            }));
            located.sort_by_key(|located| located.span);
            if let Some(refused) = located.iter_mut().find(|located| located.finding.server) {
                refused.answer = answer::to(&object.value, options.catalogue.kubernetes.is_strict());
            }
            checked.findings.extend(located);
        }
    }
    // Files stay in the order in which they were named.
    let order: BTreeMap<&str, usize> = files.iter().enumerate().map(|(at, file)| (file.name.as_str(), at)).collect();
    checked.findings.sort_by_key(|located| (order.get(located.file.as_str()).copied(), located.span));
    checked
}

/// Nobody can ask not to be told of it: nothing else would be.
fn syntax(error: &yaml::SyntaxError, file: &File) -> Located {
    let (message, help) = match error.message.rsplit_once(": ") {
        Some((message, help)) if !message.starts_with("not YAML") => (message, help),
        _ => (error.message.as_str(), "nothing in this document was checked"),
    };
    let finding = of_files::YAML_SYNTAX.at(&FieldPath::root(), message, help);
    Located::new(&file.name, error.span, "", finding)
}

fn of_file(object: &serde_json::Value) -> Vec<Finding> {
    let named = object["metadata"]["namespace"].as_str().is_some_and(|name| !name.is_empty());
    if named || !convert::is_network_policy(object) {
        return vec![];
    }
    let message = "the policy names no namespace, and lands in that of whoever applies it";
    let path = FieldPath::root().field("metadata");
    vec![of_files::NAMESPACE_MISSING.at(&path, message, "write metadata: {namespace: shop}")]
}

fn repeated_key(repeated: &yaml::Repeated) -> Finding {
    let message = format!(
        "{} stands twice: kubectl keeps the last one and drops line {} without a word",
        printable(&repeated.path.to_string()),
        repeated.first.line
    );
    of_files::DUPLICATE_KEY.at(&repeated.path, message, "write it once")
}

fn twice(title: &str, file: &str, line: usize) -> Finding {
    let message =
        format!("{} stands at {file}:{line} too: applied together, the last one replaces the others", printable(title));
    of_files::DUPLICATE_OBJECT.at(
        &FieldPath::root().field("metadata").field("name"),
        message,
        "rename one, or check only what is applied together",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::located::Span;

    fn file(text: &str) -> File {
        File { name: "a.yaml".to_owned(), bytes: text.as_bytes().to_vec() }
    }

    fn rules(text: &str) -> Vec<(&'static str, Span)> {
        find(&[file(text)], &Options::default()).findings.into_iter().map(|l| (l.finding.rule, l.span)).collect()
    }

    const HEAD: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec:\n";

    #[test]
    fn warnings_do_not_fail_and_errors_do() {
        let strict = format!("{HEAD}  egress: [{{to: [{{ipBlock: {{cidr: 10.0.0.1/8}}}}]}}]\n");
        let of = |kubernetes: &str| {
            check(
                &[file(&strict)],
                &Options {
                    catalogue: Catalogue { kubernetes: kubernetes.parse().expect("a version"), ..Catalogue::default() },
                    ..Options::default()
                },
            )
        };
        assert!(of("1.36").failed && of("v1.37.2").failed);
        let older = of("1.35");
        assert!(!older.failed && older.report.contains("warning[cidr-host-bits]"), "{}", older.report);
        assert!("2.0".parse::<crate::catalogue::Version>().is_err());
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
        let one = format!("{HEAD}  podSelector: {{}}\n  policyTypes: [Ingress]\n");
        let checked = find(&[file(&format!("{one}---\n{one}"))], &Options::default());
        assert_eq!((checked.findings.len(), checked.findings[0].finding.rule), (1, "duplicate-object"));
        assert_eq!(checked.findings[0].span.line, 10);
    }

    #[test]
    fn kinds_that_are_not_checked_are_counted() {
        let checked = find(
            &[file(
                "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n",
            )],
            &Options::default(),
        );
        assert_eq!((checked.objects, checked.skipped, checked.findings.len()), (1, 1, 0));
    }
}
