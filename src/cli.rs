//! The command line: one file a subcommand, wiring only.
//!
//! Results go to stdout, errors to stderr in one line that says what failed, why, and what to do. Exit code 2 means that
//! the command could not do its work; 1 is an answer (errors found, denied, not as expected).

pub mod admission;
pub mod agent;
pub mod check;
pub mod cluster;
pub mod demo;
pub mod explain;
pub mod flows;
pub mod judging;
pub mod matrix;

use crate::k8s::watch::{self, Access};
use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{path::Path, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// NetworkPolicy that is true: checked at admission, closed from birth, enforced in the kernel.
#[derive(Debug, Parser)]
#[command(name = "ringfence", version, max_term_width = 120, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  ringfence check policies/                          what is wrong with these policies, and how to write them
  helm template . | ringfence check -                the same, of what a chart makes
  ringfence matrix -f manifests/ --port 80/TCP       who reaches whom
  ringfence demo                                     the three tiers, with real connections (root)
  ringfence agent --cluster manifests/ --node n1     enforce a directory of manifests here (root)
  ringfence flows --denied                           what the agent of this node drops, and why, as it happens";

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Matrix(matrix::Args),
    Explain(explain::Args),
    Admission(admission::Args),
    Agent(agent::Args),
    Flows(flows::Args),
    Demo(demo::Args),
}

/// Parses the command line, runs the subcommand and says with which code to exit.
pub fn main() -> ExitCode {
    let result = match Cli::from_arg_matches(&command_line().get_matches()).unwrap_or_else(|error| error.exit()).command
    {
        Command::Check(args) => check::run(args),
        Command::Matrix(args) => matrix::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Admission(args) => admission::run(args),
        Command::Agent(args) => agent::run(args),
        Command::Flows(args) => flows::run(args),
        Command::Demo(args) => demo::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("ringfence: {}", one_line(&error));
        ExitCode::from(2)
    })
}

/// The command line under the name that it was called by: kubectl runs `kubectl-ringfence` as `kubectl ringfence`.
fn command_line() -> clap::Command {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default();
    match called == PLUGIN {
        true => Cli::command().bin_name("kubectl ringfence"),
        false => Cli::command(),
    }
}

/// The name under which kubectl finds a plugin.
const PLUGIN: &str = "kubectl-ringfence";

/// Done when there is a cluster that can not be followed, whatever is tried. One that is away comes back.
async fn refused(access: Option<Access>) -> watch::Error {
    if let Some(access) = access
        && let Err(error) = access.connect().await
        && error.is_for_good()
    {
        return error;
    }
    std::future::pending().await
}

/// Done when somebody asks this process to end, by SIGTERM or SIGINT. From the call on, neither ends it by itself.
fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// An error and its causes in one line. Many errors name their cause themselves: nothing is said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let said = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            line = said;
        } else if !line.contains(&said) {
            line = format!("{line}: {said}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("ringfence "), "{} --help has no examples", command.get_name());
        }
    }

    #[test]
    fn an_error_with_causes_is_one_line() {
        let error = anyhow::anyhow!("no such\n  file").context("web.yaml can not be read");
        assert_eq!(one_line(&error), "web.yaml can not be read: no such file");
        let named =
            anyhow::anyhow!("no such file").context("web.yaml can not be read (no such file): name another one");
        assert_eq!(one_line(&named), "web.yaml can not be read (no such file): name another one");
    }
}
