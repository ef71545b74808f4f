//! What a real kube-apiserver refused is what we say that it refuses.
//!
//! `cases/server-texts.md` holds manifests and the answers of Kubernetes 1.37.2 to them, as seen.
// Functions beside the tests fail as tests do.
#![allow(clippy::expect_used, clippy::panic)]

use ringfence::k8s::{convert, yaml};

struct Case {
    name: String,
    manifest: String,
    refused: bool,
    /// What kubectl printed.
    printed: String,
}

const HEAD: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec:\n";

fn cases() -> Vec<Case> {
    let read = |section: &str| {
        let (name, rest) = section.split_once('\n').expect("a name");
        let (manifest, answers) =
            rest.strip_prefix("```yaml\n").and_then(|rest| rest.split_once("```\n")).expect("a manifest");
        let manifest =
            if manifest.starts_with("apiVersion") { manifest.to_owned() } else { format!("{HEAD}{manifest}") };
        let refused = match answers.get(..4) {
            Some("C 1:") => true,
            Some("C 0:") => false,
            other => panic!("{name}: {other:?}"),
        };
        let printed = answers.split("```").nth(1).unwrap_or_default().trim().to_owned();
        Case { name: name.to_owned(), manifest, refused, printed }
    };
    include_str!("cases/server-texts.md").split("\n## ").skip(1).map(read).collect()
}

/// The rules of the findings for which we say that a server refuses the manifest; `yaml-syntax` if it is no YAML.
fn refusals(manifest: &str) -> Vec<String> {
    let parsed = yaml::parse(manifest);
    let mut rules: Vec<String> = parsed.errors.iter().map(|_| "yaml-syntax".to_owned()).collect();
    for object in parsed.objects {
        assert!(convert::is_network_policy(&object.value), "{manifest}");
        let findings = convert::network_policy(&object.value).findings;
        rules.extend(findings.into_iter().filter(|f| f.server).map(|f| f.rule.to_owned()));
    }
    rules
}

#[test]
fn we_refuse_what_the_server_refused_and_nothing_else() {
    let cases = cases();
    assert_eq!(cases.len(), 49);
    let wrong: Vec<_> = cases
        .iter()
        .map(|case| (case, refusals(&case.manifest)))
        .filter(|(case, rules)| case.refused == rules.is_empty())
        .map(|(case, rules)| format!("{}: {rules:?}", case.name))
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_mistake_has_its_own_rule() {
    let table: Vec<_> =
        cases().iter().map(|case| format!("{}: {}", case.name, refusals(&case.manifest).join(" "))).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn what_the_server_will_say_is_said_word_for_word() {
    let mut wrong = Vec::new();
    for case in cases() {
        let parsed = yaml::parse(&case.manifest);
        let Some(object) = parsed.objects.first().filter(|_| parsed.errors.is_empty()) else { continue };
        match convert::answer::to(&object.value, true) {
            Some(answer) if case.refused && case.printed.contains(&answer) => {}
            None if !case.refused => {}
            other => wrong.push(format!("{}:\n  {other:?}\n  {}", case.name, case.printed)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
