//! What a real API server with the chart installed answered is what `ringfence check` predicts.
//!
//! `tests/cluster/golden` holds manifests and what kubectl printed for them, as `make conformance` sees it each time, in
//! the cluster of its `setup.yaml`.
// Functions beside the tests fail as tests do.
#![allow(clippy::expect_used, clippy::panic)]

use ringfence::{
    check::{Options, find},
    finding::Severity,
    k8s::files::File,
};
use std::{fs, path::PathBuf};

/// kubectl reads YAML for the server, and of two equal keys it takes the last: nobody else ever sees both.
const SEEN_ONLY_IN_THE_FILE: [&str; 1] = ["duplicate-key"];

struct Case {
    name: String,
    manifest: String,
    /// What `kubectl create` printed, and whether it failed.
    printed: String,
    refused: bool,
}

fn cases() -> Vec<Case> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/golden");
    let mut cases = Vec::new();
    for entry in fs::read_dir(&directory).expect("the directory of golden files") {
        let path = entry.expect("an entry").path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".yaml")) else { continue };
        let Ok(transcript) = fs::read_to_string(path.with_extension("txt")) else { continue };
        let command = format!("$ kubectl create -f {name}.yaml\n");
        let Some((_, rest)) = transcript.split_once(&command) else { continue };
        let printed = rest.split("\n$ ").next().unwrap_or_default().to_owned();
        cases.push(Case {
            name: name.to_owned(),
            manifest: fs::read_to_string(&path).expect("a manifest"),
            refused: printed.contains("\nexit code "),
            printed,
        });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

#[test]
fn check_predicts_what_the_server_answered() {
    let cases = cases();
    assert!(cases.len() >= 12, "{}", cases.len());
    let mut wrong = Vec::new();
    for Case { name, manifest, printed, refused } in &cases {
        let file = format!("{name}.yaml");
        let setup = include_bytes!("../cluster/golden/setup.yaml").to_vec();
        let files = [
            File { name: "setup.yaml".to_owned(), bytes: setup },
            File { name: file.clone(), bytes: manifest.clone().into_bytes() },
        ];
        let found = find(&files, &Options::default()).findings;
        let findings: Vec<_> = found.into_iter().filter(|f| f.file == file).map(|located| located.finding).collect();
        let errors: Vec<_> = findings
            .iter()
            .filter(|f| f.severity == Severity::Error && !SEEN_ONLY_IN_THE_FILE.contains(&f.rule))
            .collect();
        if *refused == errors.is_empty() {
            wrong.push(format!("{name}: refused is {refused}, check says {errors:?}"));
        }
        if printed.contains("denied the request") {
            // The webhook and the terminal have the same words.
            for finding in &errors {
                let words = format!("{}: {} [{}]", finding.path, finding.message, finding.rule);
                if !printed.contains(&words) {
                    wrong.push(format!("{name}: not printed: {words}"));
                }
            }
        } else if *refused && !errors.iter().any(|f| f.server) {
            wrong.push(format!("{name}: the server itself refused it, check says {errors:?}"));
        }
        for finding in findings.iter().filter(|f| f.severity == Severity::Warning && !f.server) {
            if !*refused && !printed.contains(&format!("Warning: [{}]", finding.rule)) {
                wrong.push(format!("{name}: no warning was printed for {}", finding.rule));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_readme_shows_them_as_they_are() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/golden");
    let transcripts: Vec<String> = fs::read_dir(directory)
        .expect("the directory of golden files")
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.extension().is_some_and(|e| e == "txt")))
        .map(|path| fs::read_to_string(path).expect("a transcript"))
        .collect();
    let readme = include_str!("../../README.md");
    let shown: Vec<&str> = readme
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next().filter(|block| block.starts_with("$ kubectl")))
        .collect();
    assert!(shown.len() >= 4, "{}", shown.len());
    for block in shown {
        assert!(transcripts.iter().any(|transcript| transcript.contains(block)), "not what kubectl printed:\n{block}");
    }
}
