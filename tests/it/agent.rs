//! The agent as a process on a node of the lab: manifests in, packets judged, mistakes told, killed and started again.

use crate::{
    packets::{flood, in_lab},
    root::root_or_return,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ringfence::demo::lab::{Host, Lab};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_ringfence");
const PATIENCE: Duration = Duration::from_secs(10);

/// An agent that runs on a node; killed when dropped.
pub(crate) struct Agent<'a> {
    lab: &'a Lab,
    node: String,
    child: Child,
    address: SocketAddr,
}

/// An agent of this node that follows what `source` says.
pub(crate) fn command(node: &str, source: &[&OsStr]) -> Command {
    command_at(node, "127.0.0.1:0", source)
}

fn command_at(node: &str, address: &str, source: &[&OsStr]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["agent", "--ops-listen", address, "--node", node]).args(source);
    command.args(["--bpffs", &format!("/sys/fs/bpf/{node}")]).env("RINGFENCE_LOG", "error");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl<'a> Agent<'a> {
    fn start(lab: &'a Lab, node: &str, directory: &Path) -> Self {
        Agent::start_with(lab, node, &["--cluster".as_ref(), directory.as_os_str()])
    }

    pub(crate) fn start_with(lab: &'a Lab, node: &str, source: &[&OsStr]) -> Self {
        Agent::of_node(lab, node, node, source)
    }

    /// On a node of the lab that has another name in its cluster.
    pub(crate) fn of_node(lab: &'a Lab, node: &str, name: &str, source: &[&OsStr]) -> Self {
        Agent::at(lab, node, name, "127.0.0.1:0", source)
    }

    /// Where it answers is known before.
    pub(crate) fn at(lab: &'a Lab, node: &str, name: &str, address: &str, source: &[&OsStr]) -> Self {
        let mut command = command_at(name, address, source);
        command.arg("--cni-results").arg(Lab::results(node));
        let mut child = lab.within(node, || command.spawn().unwrap()).unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("://").unwrap_or_else(|| panic!("{line}")).1.parse().unwrap();
        // Reads on, so that the agent never waits for us.
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| println!("{line}")));
        Agent { lab, node: node.to_owned(), child, address }
    }

    fn ready(lab: &'a Lab, node: &str, directory: &Path) -> Self {
        let agent = Agent::start(lab, node, directory);
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        agent
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let ask = || {
            let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
            let mut answer = config.build().new_agent().get(format!("http://{}/{path}", self.address)).call().unwrap();
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
        };
        self.lab.within(&self.node, ask).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("status").1).unwrap()
    }

    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "not {what}: {:?}", self.get("status"));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Does something to the directory, and waits until what was read after it is in the kernel.
    pub(crate) fn after(&self, change: impl FnOnce()) {
        let before = self.status()["enforced"].as_u64().unwrap();
        change();
        self.until("enforced", |agent| {
            let status = agent.status();
            status["enforced"].as_u64().unwrap() > before && status["received"] == status["enforced"]
        });
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pod(name: &str, node: u8, host: Host) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\n\
         spec: {{nodeName: node{node}}}\nstatus: {{podIPs: [{{ip: {}}}, {{ip: '{}'}}]}}\n",
        host.ipv4, host.ipv6
    )
}

fn nodes() -> String {
    let node = |n: u8| {
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node{n}}}\nspec: {{podCIDRs: [10.244.{n}.0/24, 'fd00:{n}::/64']}}\n\
             status: {{addresses: [{{type: InternalIP, address: 192.168.77.{n}}}]}}\n"
        )
    };
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n{}{}", node(1), node(2))
}

/// `web` takes these UDP and TCP ports from `client`.
fn web_takes(port: u16) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: shop}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: web}}}}\n  policyTypes: [Ingress]\n  ingress:\n  - from:\n    - podSelector: \
         {{matchLabels: {{app: client}}}}\n    ports: [{{protocol: UDP, port: {port}}}, {{port: {port}}}]\n"
    )
}

/// A node with client and web, and the directory that says so.
pub(crate) fn one_node(lab: &mut Lab) -> (TempDir, Host) {
    lab.node(1).unwrap();
    let [client, web] = ["client", "web"].map(|name| lab.pod(1, name).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let pods = pod("client", 1, client) + &pod("web", 1, web);
    write(directory.path(), "pods.yaml", &(nodes() + &pods));
    write(directory.path(), "web.yaml", &web_takes(53));
    (directory, web)
}

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap();
}

pub(crate) fn connects(lab: &Lab, from: &str, to: impl Into<SocketAddr>) -> bool {
    let to = to.into();
    lab.within(from, || TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok()).unwrap()
}

pub(crate) fn listen(lab: &Lab, space: &str, port: u16) -> TcpListener {
    lab.within(space, || TcpListener::bind(("::", port)).unwrap()).unwrap()
}

/// A node with client and web, on whose ports 53 and 54 somebody listens, and its agent.
struct Scene<'a> {
    lab: &'a Lab,
    directory: &'a Path,
    web: Host,
    agent: Agent<'a>,
}

impl Scene<'_> {
    /// Whether the client reaches 53 and 54.
    fn reached(&self) -> [bool; 2] {
        [53, 54].map(|port| connects(self.lab, "client", (self.web.ipv4, port)))
    }
}

fn on_one_node(prepare: impl FnOnce(&Path) + Send, test: impl FnOnce(Scene<'_>) + Send) {
    in_lab(|mut lab| {
        let (directory, web) = one_node(&mut lab);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        prepare(directory.path());
        let agent = Agent::ready(&lab, "node1", directory.path());
        test(Scene { lab: &lab, directory: directory.path(), web, agent });
    });
}

#[test]
fn killed_under_traffic_the_agent_leaves_a_fence_that_leaks_nothing_and_loses_nothing() {
    root_or_return!();
    in_lab(|mut lab| {
        let (directory, web) = one_node(&mut lab);
        let mut agent = Some(Agent::ready(&lab, "node1", directory.path()));
        let mut kills = 0;
        let flood = flood(&lab, web, [53, 54], || {
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(200));
                agent.take().unwrap().kill();
                kills += 1;
                thread::sleep(Duration::from_millis(200));
                agent = Some(Agent::ready(&lab, "node1", directory.path()));
            }
        });
        assert!(flood.sent >= 10_000 && kills == 4, "{flood:?}");
        flood.is_fenced_without_loss();
    });
}

#[test]
fn a_change_while_the_agent_is_away_is_in_force_when_it_is_back_and_not_before() {
    root_or_return!();
    on_one_node(
        |_| {},
        |mut scene| {
            let directory = scene.directory;
            assert_eq!(scene.reached(), [true, false]);
            scene.agent.after(|| write(directory, "web.yaml", &web_takes(54)));
            assert_eq!(scene.reached(), [false, true]);
            scene.agent.child.kill().unwrap();
            scene.agent.child.wait().unwrap();
            write(directory, "web.yaml", &web_takes(53));
            assert_eq!(scene.reached(), [false, true]);
            scene.agent = Agent::ready(scene.lab, "node1", directory);
            assert_eq!(scene.reached(), [true, false]);
            scene.agent.after(|| fs::remove_file(directory.join("web.yaml")).unwrap());
            assert_eq!(scene.reached(), [true, true]);
        },
    );
}

#[test]
fn a_mistake_in_a_manifest_keeps_the_old_state_and_is_told_until_it_is_mended() {
    root_or_return!();
    on_one_node(
        |_| {},
        |scene| {
            let same_address = pod("twin", 1, scene.web);
            for (text, said) in [
                ("kind: Pod\nmetadata: {name: a\n", "new.yaml:"),
                (same_address.as_str(), "both have the address 10.244.1.11"),
                ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {x: yes}}\n", "new.yaml:3:"),
            ] {
                write(scene.directory, "new.yaml", text);
                scene.agent.until("unready", |agent| agent.get("readyz").0 == 503);
                let (_, reason) = scene.agent.get("readyz");
                assert!(reason.contains(said) && reason.lines().count() == 1, "{reason}");
                assert_eq!(scene.reached(), [true, false]);
                fs::remove_file(scene.directory.join("new.yaml")).unwrap();
                scene.agent.until("ready again", |agent| agent.get("readyz").0 == 200);
            }
        },
    );
}

#[test]
fn a_policy_with_mistakes_is_closed_and_the_others_hold() {
    root_or_return!();
    let mistaken = web_takes(53).replace("[Ingress]", "[{Ingress: null}]");
    on_one_node(
        |directory| write(directory, "web.yaml", &mistaken),
        // Its rules can be read; its policyTypes can not, so it isolates in both directions.
        |scene| assert_eq!(scene.reached(), [true, false]),
    );
}

#[test]
fn the_baseline_of_a_namespace_holds_on_two_nodes_and_its_drops_are_named() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        lab.node(2).unwrap();
        let (web, far) = (lab.pod(1, "web").unwrap(), lab.pod(2, "client").unwrap());
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "pods.yaml", &(nodes() + &pod("web", 1, web) + &pod("client", 2, far)));
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        let agents = ["node1", "node2"].map(|node| Agent::ready(&lab, node, directory.path()));
        assert!(connects(&lab, "client", (web.ipv4, 53)));
        let fenced = nodes().replace("name: shop", "name: shop, labels: {ringfence.dev/baseline: deny-all}")
            + &pod("web", 1, web)
            + &pod("client", 2, far);
        let both = |change: &dyn Fn()| {
            let [one, two] = &agents;
            one.after(|| two.after(change));
        };
        both(&|| write(directory.path(), "pods.yaml", &fenced));
        assert!(!connects(&lab, "client", (web.ipv4, 53)));
        // The client may go out again, and web is still fenced.
        let out = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: out, namespace: shop}\nspec: \
                   {podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{}]}\n";
        both(&|| write(directory.path(), "out.yaml", out));
        assert!(!connects(&lab, "client", (web.ipv6, 53)));
        both(&|| write(directory.path(), "web.yaml", &web_takes(53)));
        for address in web.addresses() {
            assert!(connects(&lab, "client", (address, 53)) && !connects(&lab, "client", (address, 54)));
        }

        agents[0].until("told", |agent| agent.get("flows").1.contains(r#"["shop/ringfence-baseline","shop/web"]"#));
        let flows: Value = serde_json::from_str(&agents[0].get("flows").1).unwrap();
        let flow = flows["flows"].as_array().unwrap().last().unwrap();
        assert_eq!((&flow["verdict"], &flow["direction"]), (&"deny".into(), &"ingress".into()));
        assert_eq!(flow["source"]["pod"], "shop/client");
        assert_eq!((&flow["destination"]["pod"], &flow["destination"]["port"]), (&"shop/web".into(), &54.into()));
        let (_, metrics) = agents[0].get("metrics");
        let denied = r#"ringfence_policy_packets_total{policy="shop/web",direction="ingress",verdict="deny"}"#;
        agents[0].until("counted", |agent| agent.get("metrics").1.contains(denied));
        assert!(metrics.contains("ringfence_ready 1"), "{metrics}");
    });
}

/// What an agent says that can not start, and that it exits with 2.
fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn an_agent_that_can_not_start_says_why_in_one_line_and_exits_with_2() {
    root_or_return!();
    in_lab(|mut lab| {
        let (directory, _) = one_node(&mut lab);
        let run = |node: &str, command: &mut Command| refused(&lab.within(node, || command.output().unwrap()).unwrap());

        let taken = lab.within("node1", || TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut busy = Command::new(BINARY);
        busy.args(["agent", "--node", "node1", "--cluster"]).arg(directory.path()).args(["--ops-listen", &address]);
        let said = run("node1", &mut busy);
        assert!(said.contains(&address) && said.contains("give another address"), "{said}");

        // Root without CAP_BPF, as in a container that was not given it.
        let mut weak = Command::new("setpriv");
        weak.args([
            "--bounding-set",
            "-bpf,-sys_admin",
            BINARY,
            "agent",
            "--ops-listen",
            "127.0.0.1:0",
            "--node",
            "node1",
        ]);
        weak.args(["--bpffs", "/sys/fs/bpf/weak", "--cluster"]).arg(directory.path());
        let said = run("node1", &mut weak);
        assert!(said.contains("CAP_BPF"), "{said}");

        let _agent = Agent::ready(&lab, "node1", directory.path());
        let said = run("node1", &mut command("node1", &["--cluster".as_ref(), directory.path().as_os_str()]));
        assert!(said.contains("another agent runs in this network namespace"), "{said}");
    });
}

#[test]
fn a_directory_that_is_not_there_is_told_and_taken_when_it_comes() {
    root_or_return!();
    in_lab(|mut lab| {
        let (directory, web) = one_node(&mut lab);
        let away = directory.path().join("away");
        let agent = Agent::start(&lab, "node1", &away);
        agent.until("told", |agent| agent.get("readyz").1.contains("away"));
        fs::create_dir(&away).unwrap();
        fs::copy(directory.path().join("pods.yaml"), away.join("pods.yaml")).unwrap();
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        let _listener = listen(&lab, "web", 53);
        assert!(connects(&lab, "client", (web.ipv4, 53)));
    });
}

#[test]
fn detach_ends_enforcement_for_good() {
    root_or_return!();
    in_lab(|mut lab| {
        let (directory, web) = one_node(&mut lab);
        let _listener = listen(&lab, "web", 54);
        Agent::ready(&lab, "node1", directory.path()).kill();
        assert!(!connects(&lab, "client", (web.ipv4, 54)));
        let detach =
            || Command::new(BINARY).args(["agent", "--detach", "--bpffs", "/sys/fs/bpf/node1"]).output().unwrap();
        let output = lab.within("node1", detach).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(connects(&lab, "client", (web.ipv4, 54)));
    });
}
