//! What `ringfence check` prints, as golden files.

use ringfence::{
    check::{Format, Options, check},
    k8s::files::File,
};

const MISTAKES: &str = "\
# Several mistakes, and one file that is no YAML behind them.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: my_web
  namespace: shop
spec:
  podSelector: {role: web, version: 1.10}
  policyTypes:
  - Ingress:
  ingress:
  - from:
    - podSelector:
      matchLabels:
        app: ünïcode
    - ipBlock:
        cidr: 10.0.0.1/8
        cidr: 10.0.0.0
        except: [11.0.0.0/16]
    ports:
    - {protocol: tcp, port: \"80\", endPort: 70000}
    - 443
  - form: []
---
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: ignored}
spec:
  podSelector:
    matchExpressions:
    - {key: app, operator: In, values: [web]}
    - {key: app, operator: NotIn, values: [web]}
  policyTypes: [Egress]
  ingress:
  - {}
---
spec:
\tpodSelector: {}
";

fn run(text: &str, format: Format, colours: bool) -> (String, bool) {
    let files = [File { name: "policies/web.yaml".to_owned(), bytes: text.as_bytes().to_vec() }];
    let outcome = check(&files, &Options { format, colours, ..Options::default() });
    (outcome.report, outcome.failed)
}

#[test]
fn text_shows_the_line_the_place_and_what_to_write() {
    let (report, failed) = run(MISTAKES, Format::Text, false);
    assert!(failed && !report.contains('\u{1b}'));
    insta::assert_snapshot!(report);
}

#[test]
fn json_says_the_same() {
    let (report, failed) = run(MISTAKES, Format::Json, true);
    assert!(failed && report.ends_with("}\n"));
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    insta::assert_json_snapshot!(report);
}

#[test]
fn a_clean_file_has_one_line() {
    let clean = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
    assert_eq!(run(clean, Format::Text, true), ("nothing wrong with 1 object in 1 file\n".to_owned(), false));
    assert_eq!(run(clean, Format::Json, false), ("{\"findings\":[],\"objects\":1}\n".to_owned(), false));
}

#[test]
fn colours_come_only_when_asked_for() {
    assert!(run(MISTAKES, Format::Text, true).0.contains('\u{1b}'));
}

#[test]
fn a_very_long_line_is_named_and_not_shown() {
    let long = format!(
        "{{\"kind\": \"NetworkPolicy\", \"metadata\": {{\"annotations\": {{\"a\": \"{}\"}}}}}}",
        "x".repeat(100_000)
    );
    let (report, failed) = run(&long, Format::Text, false);
    assert!(failed && report.len() < 2_000 && report.contains("policies/web.yaml:1:"), "{}", report.len());
}

#[test]
fn a_file_cannot_speak_to_the_terminal() {
    let (report, failed) = run("a: \u{1b}[2Jb\n", Format::Text, false);
    assert!(failed && !report.contains('\u{1b}'), "{report:?}");
    let forged =
        "apiVersion: networking.k8s.io/v1\nkind: \"NetworkPolicy\"\nmetadata: {name: \"\\e[2J\"}\n\"\\e[2J\": 1\n";
    let (report, failed) = run(forged, Format::Text, false);
    assert!(failed && !report.contains('\u{1b}'), "{report:?}");
}
