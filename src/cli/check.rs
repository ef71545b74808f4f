//! `ringfence check`: wiring only.

use crate::{
    check::{Format, Options, Version, check},
    k8s::files,
};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Check NetworkPolicies in files before a cluster sees them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code: 0 nothing wrong (warnings allowed), 1 errors found, 2 a path cannot be read

Examples:
  ringfence check policies/
  ringfence check --format json web.yaml | jq -r '.findings[].message'
  helm template chart/ | ringfence check -
  ringfence check --kubernetes 1.35 policies/")]
pub struct Args {
    /// Files, directories (every *.yaml, *.yml and *.json in them), or - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to show what is found
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArg,
    /// The version of the server whose verdict is predicted
    #[arg(long, value_name = "1.NN", default_value_t)]
    kubernetes: Version,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatArg {
    Text,
    Json,
}

/// Checks, prints, and says how it went.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { paths, format, kubernetes } = args;
    let (files, errors) = files::read(&paths);
    let format = match format {
        FormatArg::Text => Format::Text,
        FormatArg::Json => Format::Json,
    };
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let outcome = check(&files, &Options { format, colours, kubernetes });
    // A reader that goes away (`| head`) has seen what it wanted.
    let _ = std::io::stdout().write_all(outcome.report.as_bytes());
    for error in &errors {
        eprintln!("ringfence: {error}");
    }
    Ok(match (errors.is_empty(), outcome.failed) {
        (false, _) => ExitCode::from(2),
        (true, true) => ExitCode::from(1),
        (true, false) => ExitCode::SUCCESS,
    })
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
