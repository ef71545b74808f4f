//! Every rule of the catalogue against its own examples, and its page in docs/rules.

use ringfence::{
    catalogue::{self, Catalogue, Levels, levels::Setting},
    check::{Options, find},
    finding::{Severity, rule::Rule},
    k8s::files::File,
    report::rules,
};
use std::{collections::BTreeSet, fs, path::Path};

/// Rules that speak of what changes, or of what runs: their examples are in files, which do neither.
const NOT_IN_FILES: [&str; 6] = [
    "pod-leaves-fence",
    "pod-leaves-policy",
    "pod-joins-peer",
    "namespace-joins-peer",
    "namespace-leaves-peer",
    "denies-running-pods",
];

/// The rules that speak of an example, this one switched on.
fn found(rule: &Rule, example: &str) -> Vec<(&'static str, Severity)> {
    let mut settings: Vec<Setting> = Vec::new();
    if rule.severity.is_none() {
        settings.push(format!("{}=warn", rule.id).parse().unwrap());
    }
    let catalogue = Catalogue { levels: settings.into_iter().collect::<Levels>(), ..Catalogue::default() };
    let file = File { name: "a.yaml".to_owned(), bytes: Rule::manifest(example).into_bytes() };
    let options = Options { catalogue, ..Options::default() };
    find(&[file], &options).findings.into_iter().map(|l| (l.finding.rule, l.finding.severity)).collect()
}

#[test]
fn every_rule_finds_its_wrong_example_and_not_its_right_one() {
    let mut wrong = Vec::new();
    for rule in catalogue::rules().filter(|rule| !NOT_IN_FILES.contains(&rule.id)) {
        let speaks = |example| found(rule, example).iter().any(|(id, _)| *id == rule.id);
        if !speaks(rule.wrong) {
            wrong.push(format!("{} does not find its wrong example: {:?}", rule.id, found(rule, rule.wrong)));
        }
        if speaks(rule.right) {
            wrong.push(format!("{} finds its right example", rule.id));
        }
        let errors: Vec<_> = found(rule, rule.right).into_iter().filter(|(_, s)| *s == Severity::Error).collect();
        if !errors.is_empty() {
            wrong.push(format!("the right example of {} has errors: {errors:?}", rule.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_id_is_one_rule_and_words_with_hyphens() {
    let ids: Vec<&str> = catalogue::rules().map(|rule| rule.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(ids.iter().all(|id| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')));
}

#[test]
fn only_what_has_no_effect_or_gets_around_the_fence_is_an_error() {
    let refused: BTreeSet<&str> = ringfence::k8s::convert::RULES.iter().map(|rule| rule.id).collect();
    let errors = catalogue::rules().filter(|rule| rule.severity == Some(Severity::Error) && !refused.contains(rule.id));
    let ids: Vec<&str> = errors.map(|rule| rule.id).collect();
    assert_eq!(
        ids,
        [
            "ignored-rules",
            "contradictory-selector",
            "pod-host-network",
            "pod-privileged",
            "pod-kernel-capabilities",
            "pod-host-path",
            "pod-probe-host",
            "pod-leaves-fence",
            "yaml-syntax",
            "duplicate-key",
        ]
    );
}

/// `UPDATE_PAGES=1 cargo test --test it pages` writes them.
#[test]
fn the_pages_are_what_the_rules_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules");
    let mut pages: Vec<(String, String)> =
        catalogue::rules().map(|rule| (format!("{}.md", rule.id), rules::page(rule))).collect();
    pages.push(("README.md".to_owned(), rules::index(catalogue::rules())));
    if std::env::var_os("UPDATE_PAGES").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (name, page) in &pages {
            fs::write(folder.join(name), page).unwrap();
        }
    }
    for (name, page) in &pages {
        let there = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(there == *page, "docs/rules/{name} is stale: UPDATE_PAGES=1 cargo test --test it pages");
    }
    let files = fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, pages.len(), "docs/rules has a page of a rule that is gone");
}
