//! The three tiers on one machine, with real connections: before, after, and why.
//!
//! [`run`] is the entry, in a sandbox ([`crate::node::sandbox`]). The pods are network namespaces on a bridge, as flannel
//! makes them ([`lab`]); the agent and the webhook are this very binary, as children. What it prints as measured was
//! measured, and it succeeds only if that is what was expected.

pub mod cast;
pub mod child;
pub mod lab;
pub mod reach;
pub mod scene;
pub mod stage;

use crate::{
    report::flows::{End, Flow, Flows},
    tls::self_signed,
};
use child::Running;
use reach::{Reach, side_by_side};
use scene::Scene;
use serde_json::{Value, json};
use stage::Stage;
use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// How long the agent may take to be ready, and to bring a change into the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the demo could not be shown. What was measured otherwise than expected is no error.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum Error {
    #[error(transparent)]
    Lab(#[from] lab::Error),
    #[error(transparent)]
    Child(#[from] child::ChildError),
    #[error("the demo's files can not be written: {0}")]
    Files(#[from] io::Error),
    #[error("no certificate can be made for the webhook: {0}")]
    Certificate(String),
    #[error("the {who} does not answer: {why}")]
    Http { who: &'static str, why: String },
    #[error("the agent is not ready after {0:?}: {1}")]
    NotReady(Duration, String),
}

/// Shows everything in `directory`, which must be empty. True if all that was measured is what was expected.
pub fn run(directory: &Path) -> Result<bool, Error> {
    let mut show = Show { stage: Stage::new(8), as_expected: true };
    println!("Three tiers on one node: users reach web on 80, web reaches api on 5000, api reaches db on 3306.\n");

    show.stage.step("building a node with four pods on a bridge, as flannel does, and users outside");
    let scene = Scene::build()?;
    show.stage.ok();

    show.stage.step("before: everybody connects to every tier");
    show.compare(&scene.measure()?, &reach::open());

    show.check(directory)?;
    show.webhook(directory)?;

    let cluster = directory.join("cluster");
    fs::create_dir(&cluster)?;
    cast::write_cluster(&cluster, &scene.addresses, "deny-all")?;
    show.stage.step("the agent starts; the namespace asks for the baseline deny-all, and has no policy yet");
    let mut agent = start_agent(&scene, directory, &cluster)?;
    show.compare(&scene.measure_until(&reach::closed(), PATIENCE)?, &reach::closed());

    show.stage.step("the policies of the three tiers are written");
    cast::write_policies(&cluster)?;
    show.compare(&scene.measure_until(&reach::three_tiers(), PATIENCE)?, &reach::three_tiers());

    show.stage.step("the agent is killed (SIGKILL), and everybody connects again");
    agent.kill()?;
    show.compare(&scene.measure()?, &reach::three_tiers());

    show.stage.step("a new agent takes over; who is dropped, and why?");
    let agent = start_agent(&scene, directory, &cluster)?;
    let measured = scene.measure()?;
    let flows = denied(&scene, agent.address)?;
    show.reasons(&measured, &flows);

    show.stage.show(match show.as_expected {
        true => show.stage.paint("32", "Everything measured is what was expected."),
        false => show.stage.paint("31", "Something is not as expected: see above."),
    });
    Ok(show.as_expected)
}

struct Show {
    stage: Stage,
    as_expected: bool,
}

impl Show {
    fn end(&mut self, as_expected: bool) {
        self.as_expected &= as_expected;
        if as_expected { self.stage.ok() } else { self.stage.wrong() }
    }

    fn compare(&mut self, measured: &Reach, expected: &Reach) {
        self.end(measured == expected);
        print!("{}", side_by_side(measured, expected));
    }

    /// `ringfence check` on the policy with the colon.
    fn check(&mut self, directory: &Path) -> Result<(), Error> {
        self.stage.step("a policy with `- Ingress:` is checked in its file");
        let file = directory.join("malformed.yaml");
        fs::write(&file, cast::MALFORMED)?;
        let output = child::command(&["check", "malformed.yaml"])?.current_dir(directory).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        self.end(output.status.code() == Some(1) && said.contains("- Ingress"));
        self.stage.show(said.trim_end());
        println!();
        Ok(())
    }

    /// The webhook is asked about it over HTTPS, as an API server asks.
    fn webhook(&mut self, directory: &Path) -> Result<(), Error> {
        self.stage.step("the webhook is asked about it over HTTPS");
        let failed = |error: &dyn std::fmt::Display| Error::Certificate(error.to_string());
        let names = ["localhost", "127.0.0.1"];
        let certificate = self_signed::issue(&names, Duration::from_secs(3600)).map_err(|e| failed(&e))?;
        certificate.write(directory)?;
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let (chain, key) = (path("tls.crt"), path("tls.key"));
        let webhook = Running::start(&[
            "admission",
            "--no-cluster",
            "--listen",
            "127.0.0.1:0",
            "--tls-cert",
            &chain,
            "--tls-key",
            &key,
        ])?;
        let response = review(webhook.address, &certificate.ca)?;
        let allowed = &response["allowed"];
        let message = response["status"]["message"].as_str().unwrap_or_default();
        self.end(*allowed == json!(false) && response["uid"] == UID && message.contains("- Ingress"));
        self.stage.show(message);
        println!();
        Ok(())
    }

    /// Every connection that did not come about has a reason, and it names the policies.
    fn reasons(&mut self, measured: &Reach, flows: &[Flow]) {
        let tiers = cast::tiers();
        let mut lines = Vec::new();
        let mut missing = Vec::new();
        for from in cast::callers() {
            for to in tiers.iter().filter(|to| !measured.has(from.name, to.name)) {
                let is = |end: &End, name: &str| match end.pod() {
                    Some(pod) => pod == format!("{}/{name}", cast::NAMESPACE),
                    None => name == cast::USER.name,
                };
                let mut of_pair = flows.iter().filter(|flow| {
                    is(&flow.source, from.name) && is(&flow.destination, to.name) && !flow.isolated_by.is_empty()
                });
                match of_pair.next() {
                    Some(flow) => lines.push(flow.to_string()),
                    None => missing.push(format!("nobody says why {} does not reach {}", from.name, to.name)),
                }
            }
        }
        self.end(missing.is_empty() && *measured == reach::three_tiers());
        self.stage.show(lines.join("\n"));
        self.stage.show(missing.join("\n"));
        println!();
    }
}

fn start_agent(scene: &Scene, directory: &Path, cluster: &Path) -> Result<Running, Error> {
    let (cluster, pins) = (cluster.to_string_lossy(), Path::new("/sys/fs/bpf/ringfence").to_string_lossy());
    let results = lab::Lab::results("node1");
    let results = results.to_string_lossy();
    let log = directory.join("agent.log");
    let arguments = [
        "agent",
        "--node",
        cast::NODE,
        "--cluster",
        &cluster,
        "--bpffs",
        &pins,
        "--cni-results",
        &results,
        "--ops-listen",
        "127.0.0.1:0",
    ];
    let agent = scene.inside("node", || Running::start(&arguments))??;
    let begun = Instant::now();
    loop {
        let answer = scene.inside("node", || get(agent.address, "readyz"))?;
        match answer {
            Ok((200, _)) => return Ok(agent),
            Ok((_, why)) | Err(Error::Http { why, .. }) if begun.elapsed() > PATIENCE => {
                let said = agent.said().join("\n");
                fs::write(log, said)?;
                return Err(Error::NotReady(PATIENCE, why));
            }
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// What the agent reports as denied, once it has fetched what the kernel told.
fn denied(scene: &Scene, agent: SocketAddr) -> Result<Vec<Flow>, Error> {
    thread::sleep(Duration::from_millis(200));
    let (_, text) = scene.inside("node", || get(agent, "flows"))??;
    let failed = |error: serde_json::Error| Error::Http { who: "agent", why: error.to_string() };
    serde_json::from_str::<Flows>(&text).map(|answer| answer.flows).map_err(failed)
}

fn get(address: SocketAddr, path: &str) -> Result<(u16, String), Error> {
    let failed = |error: ureq::Error| Error::Http { who: "agent", why: error.to_string() };
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(5)));
    let mut answer = config.build().new_agent().get(format!("http://{address}/{path}")).call().map_err(failed)?;
    let status = answer.status().as_u16();
    Ok((status, answer.body_mut().read_to_string().map_err(failed)?))
}

const UID: &str = "6a1b3f6e-0d0c-4c7a-9d57-2f6f3a1c0e55";

/// Asks the webhook about the malformed policy, as an API server would; returns its response.
fn review(address: SocketAddr, ca: &str) -> Result<Value, Error> {
    let failed = |error: ureq::Error| Error::Http { who: "webhook", why: error.to_string() };
    let trusted = Certificate::from_pem(ca.as_bytes()).map_err(failed)?;
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&[trusted]))
        .build();
    let client =
        ureq::Agent::config_builder().tls_config(tls).timeout_global(Some(Duration::from_secs(10))).build().new_agent();
    let question = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"},
            "resource": {"group": "networking.k8s.io", "version": "v1", "resource": "networkpolicies"},
            "operation": "CREATE",
            "namespace": cast::NAMESPACE,
            "name": "default-deny-ingress",
            "dryRun": false,
            "object": {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "default-deny-ingress", "namespace": cast::NAMESPACE},
                "spec": {"podSelector": {}, "policyTypes": [{"Ingress": null}]},
            },
        },
    });
    let mut answer = client.post(format!("https://{address}/validate")).send_json(&question).map_err(failed)?;
    let mut body: Value = answer.body_mut().read_json().map_err(failed)?;
    Ok(body["response"].take())
}
