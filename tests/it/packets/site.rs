//! A lab under NetworkPolicies: pods by name, policies as people write them, enforced as an agent does it.
//!
//! `manifests -> Cluster -> State -> changes -> Datapath`, without the process. Every pod is in the namespace `shop` and has
//! its name as label `app`.

use super::pins;
use ringfence::{
    datapath::{Config, Count, Datapath, Event, Events, Reason},
    demo::lab::{Host, Lab},
    k8s::{convert::Settings, manifests},
    node::{bridge, conntrack::Conntrack},
    policy::{
        cluster::{self, Cluster},
        state::State,
        table::Label,
    },
};
use std::{collections::BTreeMap, fmt::Write, process::Command, time::Duration};

/// A lab and who is in it.
pub(super) struct Site {
    pub(super) lab: Lab,
    pub(super) pods: BTreeMap<&'static str, (u8, Host)>,
}

impl Site {
    /// Nodes 1 and, if somebody is there, 2; these pods on their bridges.
    pub(super) fn new(lab: Lab, pods: &[(&'static str, u8)]) -> Self {
        Self::with(lab, pods, Lab::pod)
    }

    /// The same with pods of another kind.
    pub(super) fn with(
        mut lab: Lab,
        pods: &[(&'static str, u8)],
        make: fn(&mut Lab, u8, &str) -> Result<Host, ringfence::demo::lab::Error>,
    ) -> Self {
        let nodes = pods.iter().map(|(_, node)| *node).max().unwrap();
        (1..=nodes).for_each(|node| lab.node(node).unwrap());
        let pods = pods.iter().map(|(name, node)| (*name, (*node, make(&mut lab, *node, name).unwrap()))).collect();
        Site { lab, pods }
    }

    pub(super) fn host(&self, name: &str) -> Host {
        self.pods[name].1
    }

    /// The cluster with these policies.
    pub(super) fn cluster(&self, policies: &str) -> Cluster {
        let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned();
        for node in 1..=2 {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node{node}}}\n\
                 spec: {{podCIDRs: [10.244.{node}.0/24, 'fd00:{node}::/64']}}\n\
                 status: {{addresses: [{{type: InternalIP, address: 192.168.77.{node}}}, {{type: InternalIP, address: \
                 'fd00:77::{node}'}}]}}\n"
            );
        }
        for (name, (node, host)) in &self.pods {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\n\
                 spec: {{nodeName: node{node}}}\nstatus: {{podIPs: [{{ip: {}}}, {{ip: '{}'}}]}}\n",
                host.ipv4, host.ipv6
            );
        }
        text.push_str(policies);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("all.yaml"), text).unwrap();
        let (cluster, findings) =
            manifests::read(&[directory.path().to_owned()], &Settings::default()).whole().unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        cluster
    }

    /// A node enforces these policies.
    pub(super) fn enforce(&self, node: &str, policies: &str) -> Enforced {
        let cluster = self.cluster(policies);
        self.lab
            .within(node, || {
                bridge::call_netfilter().unwrap();
                let conntrack = Conntrack::keep().unwrap();
                let config = Config { bpffs: Some(pins(node)), events_per_second: 10_000, ..Config::default() };
                let mut datapath = Datapath::open(&config).unwrap();
                let state = State::new(node.into(), Cluster::default(), datapath.table().unwrap());
                datapath.attach().unwrap();
                let events = datapath.events().unwrap();
                let mut enforced = Enforced { datapath, events, state, _conntrack: conntrack };
                enforced.change(&cluster);
                enforced
            })
            .unwrap()
    }

    /// Runs a program in a namespace.
    pub(super) fn run(&self, space: &str, command: &[&str], input: &str) {
        let output = self
            .lab
            .within(space, || {
                let mut child = Command::new(command[0]);
                child.args(&command[1..]).stdin(std::process::Stdio::piped());
                child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                let mut child = child.spawn().unwrap();
                std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
                child.wait_with_output().unwrap()
            })
            .unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A node that enforces.
pub(super) struct Enforced {
    pub(super) datapath: Datapath,
    events: Events,
    state: State,
    _conntrack: Conntrack,
}

impl Enforced {
    /// The cluster is this one now.
    pub(super) fn change(&mut self, cluster: &Cluster) {
        let events = self.state.cluster().events_to(cluster.clone());
        self.tell(events);
    }

    /// This happened.
    pub(super) fn tell(&mut self, events: impl IntoIterator<Item = cluster::Event>) {
        let changes = self.state.apply(events);
        self.datapath.apply(&changes).unwrap();
        for id in self.state.confirm().into_keys() {
            self.datapath.reset_counter(id).unwrap();
        }
    }

    /// How many packets a reason of the kernel's own decided so far.
    pub(super) fn packets(&self, reason: Reason) -> u64 {
        self.datapath.counters().unwrap().get(&reason.id()).map_or(0, |Count { packets, .. }| *packets)
    }

    /// What was dropped since the last time, with the policies that isolate.
    pub(super) fn drops(&mut self) -> Vec<(Event, Vec<String>)> {
        let events = self.events.next(Duration::from_millis(200)).unwrap();
        let named = events.into_iter().filter(|event| !event.accepted).map(|event| {
            let by = match self.state.label(event.id) {
                Some(Label::Policies(_, policies)) => policies.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            };
            (event, by)
        });
        named.collect()
    }
}

/// A NetworkPolicy `name` for the pod of that name; `spec` is the rest of its spec as flow YAML.
pub(super) fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{podSelector: {{matchLabels: {{app: {name}}}}}, {spec}}}\n"
    )
}

/// A peer: the pod of this name.
pub(super) fn peer(name: &str) -> String {
    format!("{{podSelector: {{matchLabels: {{app: {name}}}}}}}")
}
