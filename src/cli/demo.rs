//! `ringfence demo`: the three tiers, in a sandbox that goes with it.

use crate::{demo, node::sandbox};
use anyhow::Context;
use std::{fs, path::Path, process::ExitCode};

/// The three tiers with real connections, in network namespaces of their own: before, after, and why.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

const EXAMPLES: &str = "Examples:
  ringfence demo            as root
  sudo ringfence demo

Exit code 0: everything measured is what was expected; 1: it is not; 2: the demo could not be shown.
All namespaces, mounts and processes are its own, and go when it ends, however it ends.";

/// In the sandbox's own /run.
const DIRECTORY: &str = "/run/ringfence-demo";

/// Shows the demo.
///
/// # Errors
/// What is missing on this machine.
pub fn run(Args {}: Args) -> anyhow::Result<ExitCode> {
    if !sandbox::is_inside() {
        let status = sandbox::run_self(std::env::args_os().skip(1))?;
        // Killed by a signal: as a shell says it.
        return Ok(status.code().map_or(ExitCode::from(130), |code| ExitCode::from(u8::try_from(code).unwrap_or(2))));
    }
    sandbox::furnish()?;
    fs::create_dir(DIRECTORY).with_context(|| format!("{DIRECTORY} can not be made"))?;
    let as_expected = demo::run(Path::new(DIRECTORY))?;
    Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
