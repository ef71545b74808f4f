//! `ringfence check`: wiring only.

use crate::{
    catalogue::{self, Catalogue, Levels, Version, levels::Setting},
    check::{Format, Options, check},
    k8s::{files, watch::Kind},
    policy::baseline::Baseline,
    report::rules,
};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Check NetworkPolicies, and what lets Pods around them, in files before a cluster sees them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code: 0 nothing wrong (warnings allowed), 1 errors found, 2 a path cannot be read

What the files hold is the cluster that a policy is held against: its pods, workloads, Services, Namespaces.

Examples:
  ringfence check policies/
  ringfence check --format json web.yaml | jq -r '.findings[].message'
  helm template chart/ | ringfence check -
  ringfence check --kubernetes 1.35 --rule dns-forgotten=deny --rule sctp=off policies/
  ringfence check --kubeconfig ~/.kube/config policies/    # held against what runs there
  ringfence check --baseline deny-all manifests/           # as where every namespace is fenced
  ringfence check --explain policy-types-mapping")]
pub struct Args {
    /// Files, directories (every *.yaml, *.yml and *.json in them), or - for standard input
    #[arg(required_unless_present = "explain", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to show what is found
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArg,
    /// The version of the server whose verdict is predicted
    #[arg(long, value_name = "1.NN", default_value_t)]
    kubernetes: Version,
    /// How bad a rule is: deny, warn, hint or off; may be given more than once
    #[arg(long = "rule", value_name = "RULE=LEVEL")]
    rules: Vec<Setting>,
    /// A kubeconfig whose current context names a live cluster that the files are held against
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// What fences namespaces that have no label ringfence.dev/baseline: deny-all, deny-ingress or off
    #[arg(long, value_name = "BASELINE", default_value = "off")]
    baseline: Baseline,
    /// Show the page of a rule and check nothing; `all` lists the rules
    #[arg(long, value_name = "RULE", conflicts_with = "paths")]
    explain: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatArg {
    Text,
    Json,
    Sarif,
    Github,
}

/// Checks, prints, and says how it went.
///
/// # Errors
/// A rule that there is not; a live cluster that cannot be asked.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { paths, format, kubernetes, rules, kubeconfig, baseline, explain } = args;
    if let Some(id) = explain {
        return explained(&id);
    }
    let (files, errors) = files::read(&paths);
    let format = match format {
        FormatArg::Text => Format::Text,
        FormatArg::Json => Format::Json,
        FormatArg::Sarif => Format::Sarif,
        FormatArg::Github => Format::Github,
    };
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let catalogue = Catalogue { levels: rules.into_iter().collect::<Levels>(), kubernetes };
    let cluster = kubeconfig.as_deref().map(|file| super::cluster::live(file, &Kind::ALL)).transpose()?;
    let outcome = check(&files, &Options { format, colours, catalogue, cluster, baseline });
    print(&outcome.report);
    for error in &errors {
        eprintln!("ringfence: {error}");
    }
    Ok(match (errors.is_empty(), outcome.failed) {
        (false, _) => ExitCode::from(2),
        (true, true) => ExitCode::from(1),
        (true, false) => ExitCode::SUCCESS,
    })
}

fn explained(id: &str) -> anyhow::Result<ExitCode> {
    if id == "all" {
        print(&rules::list(catalogue::rules()));
        return Ok(ExitCode::SUCCESS);
    }
    match catalogue::rule(id) {
        Some(rule) => print(&rules::page(rule)),
        None => anyhow::bail!("no rule is called {id:?}: `ringfence check --explain all` lists them"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A reader that goes away (`| head`) has seen what it wanted.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn exit(arguments: &[&str]) -> String {
        let cli = Cli::try_parse_from([&["check"], arguments].concat()).expect("arguments");
        format!("{:?}", run(cli.args).expect("an exit code"))
    }

    #[test]
    fn the_exit_code_tells_clean_from_wrong_from_unreadable() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/policies-examples");
        let tiers = format!("{examples}/three-tiers");
        assert_eq!(exit(&[&tiers]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(exit(&["--format", "json", examples]), format!("{:?}", ExitCode::from(1)));
        assert_eq!(exit(&[examples, "/absent"]), format!("{:?}", ExitCode::from(2)));
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused() {
        for arguments in [&["check"][..], &["check", "--format", "xml", "."], &["check", "--kubernetes", "two", "."]] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
