//! What `ringfence check` prints, as golden files.

use ringfence::{
    check::{Format, Options, check},
    k8s::files::File,
    policy::baseline::Baseline,
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

/// The main requirements of the SARIF 2.1.0 schema on what is printed.
#[test]
fn sarif_is_what_its_schema_asks_for() {
    let (report, failed) = run(MISTAKES, Format::Sarif, false);
    let log: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert!(failed);
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().expect("a schema").ends_with("sarif-2.1.0.json"));
    let [tool_run] = log["runs"].as_array().expect("runs").as_slice() else { panic!("one run") };
    let driver = &tool_run["tool"]["driver"];
    assert_eq!(driver["name"], "ringfence");
    let rules = driver["rules"].as_array().expect("rules");
    for rule in rules {
        assert!(rule["id"].is_string() && rule["shortDescription"]["text"].is_string(), "{rule}");
        assert!(
            ["none", "note", "warning", "error"].map(Some).contains(&rule["defaultConfiguration"]["level"].as_str())
        );
    }
    let results = tool_run["results"].as_array().expect("results");
    assert_eq!(results.len(), 14);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["none", "note", "warning", "error"].map(Some).contains(&result["level"].as_str()));
        assert!(!result["message"]["text"].as_str().expect("a text").is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().expect("a URI");
        assert!(uri == "policies/web.yaml", "{uri}");
        let region = |name: &str| place["region"][name].as_u64().expect("a number");
        assert!(region("startLine") >= 1 && region("startColumn") >= 1);
        assert!((region("endLine"), region("endColumn")) >= (region("startLine"), region("startColumn")));
    }
}

#[test]
fn github_gets_a_command_a_finding_and_nothing_else() {
    let (report, _) = run(MISTAKES, Format::Github, true);
    assert_eq!(report.lines().count(), 14);
    assert!(report.lines().all(|line| line.starts_with("::error file=policies/web.yaml,line=")), "{report}");
    assert!(
        report.contains(",title=policy-types-mapping::NetworkPolicy/shop/my_web: this item of policyTypes"),
        "{report}"
    );
}

#[test]
fn helm_s_output_and_lists_are_read_as_kubectl_reads_them() {
    let text = "\
---
# Source: shop/templates/policies.yaml
apiVersion: v1
kind: List
items:
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: web, namespace: shop}
  spec: &spec
    podSelector: {}
    policyTypes: [Ingress]
    egress: [{}]
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: api, namespace: shop}
  spec:
    <<: *spec
    egress: []
---
";
    let files = [File { name: "<stdin>".to_owned(), bytes: text.as_bytes().to_vec() }];
    let checked = ringfence::check::find(&files, &Options::default());
    let found: Vec<_> = checked.findings.iter().map(|l| (l.finding.rule, l.object.as_str(), l.span.line)).collect();
    assert_eq!((checked.objects, found), (2, vec![("ignored-rules", "NetworkPolicy/shop/web", 12)]));
}

#[test]
fn with_a_baseline_files_are_judged_as_where_every_namespace_is_fenced() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {hostNetwork: true}\n";
    let files = [File { name: "a.yaml".to_owned(), bytes: pod.as_bytes().to_vec() }];
    let failed = |baseline| check(&files, &Options { baseline, ..Options::default() }).failed;
    assert_eq!((failed(Baseline::Off), failed(Baseline::DenyAll)), (false, true));
}
