//! `ringfence flows`: what an agent decides, as it happens.

use super::matrix::Output;
use crate::report::flows::{Flow, Flows};
use anyhow::{Context, bail};
use std::{
    io::{self, ErrorKind, Write},
    net::SocketAddr,
    process::ExitCode,
    thread,
    time::Duration,
};

/// What the agent of this node decides: the flows that it reported last, and then each one as it comes, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only what is denied
    #[arg(long, conflicts_with = "accepted")]
    denied: bool,
    /// Also connections that are accepted; the agent reports them for as long as somebody asks
    #[arg(long)]
    accepted: bool,
    /// Begin with so many of the flows that were reported before; without it, with all that the agent still has
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Print what was reported before, and end
    #[arg(long)]
    once: bool,
    /// Where the agent answers (its --ops-listen)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9441")]
    agent: SocketAddr,
    /// How to print it: a line for people, or a JSON object a line
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Output,
}

const EXAMPLES: &str = "Flows that an agent reported and gave up before they were read are counted on stderr. Of many packets that one policy
decides within a second, 16 for each CPU are reported; /metrics counts all of them.

Examples:
  ringfence flows
  ringfence flows --denied --last 0
  ringfence flows --accepted -o json
  ringfence flows --once --denied -o json | jq -r .destination.pod
  kubectl -n ringfence exec ds/ringfence-agent -- ringfence flows --last 20";

/// How long one request waits for something to happen.
const WAIT: u64 = 10;
/// And how much longer before the agent is taken to be gone.
const PATIENCE: Duration = Duration::from_secs(WAIT + 5);
/// How soon an agent is asked again that did not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// Prints flows until nobody reads them.
///
/// # Errors
/// An agent that does not answer the first time.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { denied, accepted, last, once, agent: address, output } = args;
    let wanted = move |flow: &Flow| match flow.verdict.as_str() {
        "deny" => true,
        "allow" => accepted,
        _ => !denied,
    };
    let client = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
    let ask = |had: Option<(u64, u64)>| -> Result<Flows, ureq::Error> {
        let (agent, after) = had.unwrap_or_default();
        // The first answer is what there is; only what comes after it is waited for.
        let wait = if had.is_some() { WAIT } else { 0 };
        let path = format!("http://{address}/flows?agent={agent}&after={after}&wait={wait}&accepted={accepted}");
        client.get(path).call()?.body_mut().read_json()
    };

    let first =
        ask(None).with_context(|| format!("no agent answers at {address}: name its --ops-listen by --agent"))?;
    let mut had = (first.agent, first.flows.last().map_or(0, |flow| flow.number));
    let mut shown: Vec<Flow> = first.flows.into_iter().filter(wanted).collect();
    if let Some(last) = last {
        shown.drain(..shown.len().saturating_sub(last));
    }
    let mut away = false;
    loop {
        match print(&shown, output) {
            Ok(()) if once => return Ok(ExitCode::SUCCESS),
            Ok(()) => {}
            // Whoever read this has what he wanted.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            Err(error) => bail!("flows can not be written: {error}"),
        }
        shown = match ask(Some(had)) {
            Ok(Flows { agent, lost, flows }) => {
                if agent != had.0 {
                    eprintln!(
                        "ringfence: the agent has started anew; what it reported before that and was not read is lost"
                    );
                    had = (agent, 0);
                }
                if lost > 0 {
                    eprintln!("ringfence: {lost} flows lost: they came faster than they were read");
                }
                away = false;
                had.1 = flows.last().map_or(had.1, |flow| flow.number);
                flows.into_iter().filter(wanted).collect()
            }
            Err(error) => {
                if !away {
                    eprintln!("ringfence: the agent at {address} does not answer ({error}); waiting for it");
                }
                away = true;
                thread::sleep(AGAIN);
                Vec::new()
            }
        };
    }
}

fn print(flows: &[Flow], output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for flow in flows {
        match output {
            Output::Text => writeln!(out, "{} {flow}", time(flow.time_ms))?,
            Output::Json => writeln!(out, "{}", serde_json::to_string(flow)?)?,
        }
    }
    out.flush()
}

/// The time of day, as the agent's clock has it.
fn time(ms: u64) -> String {
    let second = ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}Z", second / 3600, second / 60 % 60, second % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_written_in_utc() {
        assert_eq!(time(1_764_000_000_007), "16:00:00.007Z");
    }
}
