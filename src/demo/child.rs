//! Ringfence itself as a child: the agent and the webhook of the demo are the real ones.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

/// How long a child may take to say where it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running subcommand of this binary; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What it said on stderr so far, and will say.
    lines: Receiver<String>,
    /// Where it said that it listens.
    pub address: SocketAddr,
}

/// Why a child is of no use.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum ChildError {
    #[error("`ringfence {command}` can not be started: {source}")]
    Start { command: String, source: std::io::Error },
    #[error("`ringfence {command}` did not say where it listens; it said: {said}")]
    Silent { command: String, said: String },
    #[error("`ringfence {command}` can not be killed: {source}")]
    Kill { command: &'static str, source: std::io::Error },
}

/// This binary with these arguments, to be run to its end.
pub fn command(arguments: &[&str]) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    Ok(command)
}

impl Running {
    /// Starts a subcommand and waits until it prints `…https://ADDRESS` or `…http://ADDRESS` on stderr.
    pub fn start(arguments: &[&str]) -> Result<Self, ChildError> {
        let name = arguments.join(" ");
        let failed = |source| ChildError::Start { command: name.clone(), source };
        let spawned =
            command(arguments).and_then(|mut command| command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn());
        let mut child = spawned.map_err(failed)?;
        let (sender, lines) = channel();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || {
                // Reads to the end, so that the child never waits for us.
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if let Some(address) = line.split_once("://").and_then(|(_, rest)| rest.trim().parse().ok()) {
                return Ok(Self { child, lines, address });
            }
            said.push(line);
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(ChildError::Silent { command: name, said: said.join("; ") })
    }

    /// SIGKILL: it can not even notice.
    pub fn kill(&mut self) -> Result<(), ChildError> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|source| ChildError::Kill { command: "agent", source })
    }

    /// What it said on stderr since the last call.
    pub fn said(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
