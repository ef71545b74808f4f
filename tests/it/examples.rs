//! The examples say what they are for, and are right.

use ringfence::{
    check::{Version, find},
    finding::located::Span,
    k8s::{
        convert::Settings,
        files::{self, File},
        manifests,
    },
};
use std::path::PathBuf;

fn examples() -> Vec<File> {
    let (files, errors) = files::read(&[PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies-examples")]);
    assert!(errors.is_empty(), "{errors:?}");
    files
}

fn is_malformed(file: &File) -> bool {
    file.name.ends_with("/malformed.yaml")
}

#[test]
fn every_example_but_the_malformed_one_is_clean() {
    let files: Vec<File> = examples().into_iter().filter(|file| !is_malformed(file)).collect();
    assert!(files.len() >= 15, "{}", files.len());
    let checked = find(&files, Version::default());
    assert_eq!(checked.findings, vec![]);
    assert_eq!((checked.objects, checked.skipped), (files.len(), 0));
}

#[test]
fn the_malformed_example_has_exactly_one_mistake_at_its_place() {
    let files: Vec<File> = examples().into_iter().filter(is_malformed).collect();
    let checked = find(&files, Version::default());
    let [found] = &checked.findings[..] else { panic!("{:?}", checked.findings) };
    assert_eq!(found.finding.rule, "policy-types-mapping");
    assert_eq!(found.span, Span { line: 11, column: 5, end_line: 11, end_column: 13 });
    assert_eq!(found.finding.help, "write `- Ingress`, without the colon");
}

#[test]
fn every_example_says_in_its_first_line_what_it_does() {
    for file in examples() {
        assert!(file.bytes.starts_with(b"# "), "{}", file.name);
    }
}

#[test]
fn the_three_tiers_are_a_cluster() {
    let files: Vec<File> = examples().into_iter().filter(|file| file.name.contains("/three-tiers/")).collect();
    let read = manifests::from_files(&files, &Settings::default());
    assert!(read.errors.is_empty() && read.findings.is_empty(), "{:?} {:?}", read.errors, read.findings);
    let names: Vec<String> = read.cluster.policies.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["shop/allow-dns", "shop/api", "shop/db", "shop/default-deny", "shop/web"]);
    assert!(read.cluster.namespaces.contains_key("shop"));
}
