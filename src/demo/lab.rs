//! Nodes, pods and a host outside, as network namespaces and cables between them.
//!
//! ```text
//!   node 1                              node 2                     outside
//!   cni0 10.244.1.1/24, fd00:1::1/64    cni0 10.244.2.1/24, ...    192.168.77.100, fd00:77::64
//!    |-- pod 10.244.1.10                 |-- pod 10.244.2.10         |
//!   flannel.1, flannel-v6.1 ---VXLAN--- flannel.1, flannel-v6.1      |
//!   eth0 192.168.77.1 ----------------- eth0 192.168.77.2 -----------+
//! ```
//! A node is what flannel makes: a bridge, VXLAN, br_netfilter on. A pod may also hang on a cable of its own, as the plugin
//! `ptp` and kindnet have it, and `beyond` is a host behind the one outside, where packets are small. A lab lives in a sandbox ([`crate::node::sandbox`]),
//! so it needs no names of its own and no tidying up.

use crate::node::bridge;
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// Why there is no lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `ip` or `bridge` is not there, or says no.
    #[error("{command}: {answer} (both come with the package iproute2)")]
    Command {
        /// What was run, and its input.
        command: String,
        /// What it said.
        answer: String,
    },
    /// Bridges that nobody could watch.
    #[error(transparent)]
    Bridge(#[from] bridge::Error),
    /// A switch of the kernel's, or a namespace.
    #[error("{what}: {source}")]
    System {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A name that nothing has.
    #[error("there is no `{0}` in the lab")]
    Unknown(String),
}

/// A pod, or the host outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// The interface of its node that leads to it; 0 for a host outside.
    pub ifindex: u32,
}

impl Host {
    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }
}

/// The lab. Everything in it goes with it and with the sandbox.
#[derive(Debug, Default)]
pub struct Lab {
    spaces: BTreeMap<String, File>,
    nodes: Vec<u8>,
    pods: BTreeMap<u8, u8>,
}

impl Lab {
    /// An empty one: a switch that nodes plug into. The calling thread must be in a sandbox.
    pub fn new() -> Result<Self, Error> {
        ip("", "link set lo up\nlink add switch type bridge\nlink set switch up\n")?;
        for family in ["iptables", "ip6tables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
            // The switch is a switch. Without br_netfilter it is one anyway.
            let _ = fs::write(path, "0");
        }
        Ok(Lab::default())
    }

    /// Adds `nodeN` (N from 1 to 99), connected to the nodes that are there already by VXLAN, as flannel does it.
    pub fn node(&mut self, number: u8) -> Result<(), Error> {
        let name = format!("node{number}");
        self.space(&name)?;
        self.plug(&name, number)?;
        self.switches(&name, &["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"], "1")?;
        ip(
            &name,
            &format!(
                "link add cni0 type bridge\n\
                 link set cni0 up\n\
                 addr add 10.244.{number}.1/24 dev cni0\n\
                 addr add fd00:{number:x}::1/64 dev cni0 nodad\n\
                 link add flannel.1 type vxlan id 1 local 192.168.77.{number} dev eth0 dstport 8472 nolearning\n\
                 link set flannel.1 address {mac} mtu 1450 up\n\
                 addr add 10.244.{number}.0/32 dev flannel.1\n\
                 link add flannel-v6.1 type vxlan id 1 local fd00:77::{number:x} dev eth0 dstport 8472 nolearning\n\
                 link set flannel-v6.1 address {mac} mtu 1430 up\n\
                 addr add fd00:{number:x}::/128 dev flannel-v6.1 nodad\n",
                mac = mac(number),
            ),
        )?;
        self.within(&name, bridge::call_netfilter)??;
        for other in self.nodes.clone() {
            tunnel(number, other)?;
            tunnel(other, number)?;
        }
        self.nodes.push(number);
        Ok(())
    }

    /// Adds a pod to a node, on its bridge.
    pub fn pod(&mut self, node: u8, name: &str) -> Result<Host, Error> {
        let (last, veth) = self.cable(node, name)?;
        ip(
            &format!("node{node}"),
            // A pod may meet itself behind a Service: then its frames go back to where they came from.
            &format!("link set {veth} master cni0 up\nlink set {veth} type bridge_slave hairpin on\n"),
        )?;
        ip(
            name,
            &format!(
                "link set eth0 up\n\
                 addr add 10.244.{node}.{last}/24 dev eth0\n\
                 addr add fd00:{node:x}::{last:x}/64 dev eth0 nodad\n\
                 route add default via 10.244.{node}.1\n\
                 route add default via fd00:{node:x}::1\n"
            ),
        )?;
        self.host(node, name, last, &veth)
    }

    /// Adds a pod to a node, without a bridge: host routes to its cable, and the node's address at the other end.
    pub fn routed_pod(&mut self, node: u8, name: &str) -> Result<Host, Error> {
        let (last, veth) = self.cable(node, name)?;
        ip(
            &format!("node{node}"),
            &format!(
                "link set {veth} up\n\
                 addr add 10.244.{node}.1/32 dev {veth}\n\
                 addr add fd00:{node:x}::1/128 dev {veth} nodad\n\
                 route add 10.244.{node}.{last}/32 dev {veth}\n\
                 route add fd00:{node:x}::{last:x}/128 dev {veth}\n"
            ),
        )?;
        ip(
            name,
            &format!(
                "link set eth0 up\n\
                 addr add 10.244.{node}.{last}/32 dev eth0\n\
                 addr add fd00:{node:x}::{last:x}/128 dev eth0 nodad\n\
                 route add 10.244.{node}.1/32 dev eth0\n\
                 route add fd00:{node:x}::1/128 dev eth0\n\
                 route add default via 10.244.{node}.1\n\
                 route add default via fd00:{node:x}::1\n"
            ),
        )?;
        self.host(node, name, last, &veth)
    }

    /// A namespace for a pod, and a cable to its node.
    fn cable(&mut self, node: u8, name: &str) -> Result<(u8, String), Error> {
        let count = self.pods.entry(node).or_default();
        *count += 1;
        let last = 9 + *count;
        let veth = format!("veth{last}");
        self.space(name)?;
        ip("", &format!("link add {veth} netns node{node} type veth peer name eth0 netns {name}\n"))?;
        Ok((last, veth))
    }

    /// Where a node keeps what it gave to its pods, as libcni does: all of them are in the namespace `shop`.
    pub fn results(node: &str) -> PathBuf {
        Path::new("/run/cni").join(node)
    }

    fn host(&self, node: u8, name: &str, last: u8, veth: &str) -> Result<Host, Error> {
        let space = format!("node{node}");
        let ifindex = self.within(&space, || nix::net::if_::if_nametoindex(veth))?;
        let host = Host {
            ipv4: Ipv4Addr::new(10, 244, node, last),
            ipv6: Ipv6Addr::new(0xfd00, node.into(), 0, 0, 0, 0, 0, last.into()),
            ifindex: ifindex.map_err(|e| system("a pod's interface", e.into()))?,
        };
        let of_pod = json!({"name": "eth0", "sandbox": format!("/run/netns/{name}")});
        let result = json!({
            "kind": "cniCacheV1",
            "ifName": "eth0",
            "networkName": "lab",
            "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", name]],
            "result": {
                "cniVersion": "1.0.0",
                "interfaces": [{"name": veth}, of_pod],
                "ips": host.addresses().map(|address| json!({"interface": 1, "address": IpNet::from(address).to_string()})),
            },
        });
        let file = Lab::results(&space).join(format!("lab-{name}-eth0"));
        let written = fs::create_dir_all(Lab::results(&space)).and_then(|()| fs::write(&file, result.to_string()));
        written.map_err(|e| system("the CNI result cache", e))?;
        Ok(host)
    }

    /// Adds `outside`: a host beside the nodes, that knows the way to their pods. Add it after them.
    pub fn outside(&mut self) -> Result<Host, Error> {
        self.space("outside")?;
        self.plug("outside", 100)?;
        for node in &self.nodes {
            ip(
                "outside",
                &format!(
                    "route add 10.244.{node}.0/24 via 192.168.77.{node}\nroute add fd00:{node:x}::/64 via fd00:77::{node:x}\n"
                ),
            )?;
        }
        Ok(Host {
            ipv4: Ipv4Addr::new(192, 168, 77, 100),
            ipv6: Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 100),
            ifindex: 0,
        })
    }

    /// Adds `beyond`: a host behind `outside`, on the way to which packets can be at most so long; it does not know that
    /// itself. Add it last.
    pub fn beyond(&mut self, mtu: u16) -> Result<Host, Error> {
        self.space("beyond")?;
        self.switches("outside", &["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"], "1")?;
        ip(
            "outside",
            &format!(
                "link add far0 mtu {mtu} type veth peer name eth0 netns beyond\nlink set far0 up\n\
                 addr add 192.168.78.1/24 dev far0\naddr add fd00:78::1/64 dev far0 nodad\n"
            ),
        )?;
        ip(
            "beyond",
            "link set eth0 up\n\
             addr add 192.168.78.100/24 dev eth0\naddr add fd00:78::64/64 dev eth0 nodad\n\
             route add default via 192.168.78.1\nroute add default via fd00:78::1\n",
        )?;
        for node in &self.nodes {
            ip(
                &format!("node{node}"),
                "route add 192.168.78.0/24 via 192.168.77.100\nroute add fd00:78::/64 via fd00:77::64\n",
            )?;
        }
        Ok(Host {
            ipv4: Ipv4Addr::new(192, 168, 78, 100),
            ipv6: Ipv6Addr::new(0xfd00, 0x78, 0, 0, 0, 0, 0, 100),
            ifindex: 0,
        })
    }

    /// Does something in the network namespace of a pod or node, in a thread of its own.
    pub fn within<T: Send>(&self, space: &str, what: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let namespace = self.spaces.get(space).ok_or_else(|| Error::Unknown(space.into()))?;
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|e| system(space, e.into()))?;
                Ok(what())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The network namespace of a pod or node, for a thread that stays in it.
    pub fn namespace(&self, space: &str) -> Result<File, Error> {
        let namespace = self.spaces.get(space).ok_or_else(|| Error::Unknown(space.into()))?;
        namespace.try_clone().map_err(|e| system(space, e))
    }

    fn space(&mut self, name: &str) -> Result<(), Error> {
        ip("", &format!("netns add {name}\n"))?;
        let file = File::open(format!("/run/netns/{name}")).map_err(|e| system(name, e))?;
        self.spaces.insert(name.into(), file);
        // Addresses can be used at once; nobody else is there who could have them.
        self.switches(name, &["net/ipv6/conf/default/accept_dad", "net/ipv6/conf/all/accept_dad"], "0")?;
        ip(name, "link set lo up\n")
    }

    fn plug(&self, name: &str, number: u8) -> Result<(), Error> {
        ip("", &format!("link add {name} type veth peer name eth0 netns {name}\nlink set {name} master switch up\n"))?;
        ip(
            name,
            &format!(
                "link set eth0 up\naddr add 192.168.77.{number}/24 dev eth0\naddr add fd00:77::{number:x}/64 dev eth0 nodad\n"
            ),
        )
    }

    fn switches(&self, space: &str, paths: &[&str], value: &str) -> Result<(), Error> {
        self.within(space, || {
            paths.iter().try_for_each(|path| {
                let path = format!("/proc/sys/{path}");
                fs::write(&path, value).map_err(|e| system(&path, e))
            })
        })?
    }
}

fn mac(node: u8) -> String {
    format!("02:00:00:00:00:{node:02x}")
}

/// What flannel tells a node of another one.
fn tunnel(from: u8, to: u8) -> Result<(), Error> {
    let mac = mac(to);
    ip(
        &format!("node{from}"),
        &format!(
            "route add 10.244.{to}.0/24 via 10.244.{to}.0 dev flannel.1 onlink\n\
             neigh add 10.244.{to}.0 lladdr {mac} dev flannel.1 nud permanent\n\
             route add fd00:{to:x}::/64 via fd00:{to:x}:: dev flannel-v6.1 onlink\n\
             neigh add fd00:{to:x}:: lladdr {mac} dev flannel-v6.1 nud permanent\n"
        ),
    )?;
    for (device, remote) in [("flannel.1", format!("192.168.77.{to}")), ("flannel-v6.1", format!("fd00:77::{to:x}"))] {
        run(
            Command::new("bridge").args([
                "-n",
                &format!("node{from}"),
                "fdb",
                "append",
                &mac,
                "dev",
                device,
                "dst",
                &remote,
            ]),
            "",
        )?;
    }
    Ok(())
}

/// Lines for `ip -batch`, in a namespace.
fn ip(space: &str, lines: &str) -> Result<(), Error> {
    let mut command = Command::new("ip");
    if !space.is_empty() {
        command.args(["-n", space]);
    }
    run(command.args(["-batch", "-"]), lines)
}

fn run(command: &mut Command, input: &str) -> Result<(), Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let shown = format!("{command:?} {input:?}");
    let failed = |e: io::Error| Error::Command { command: shown.clone(), answer: e.to_string() };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::Command { command: shown, answer })
}

fn system(what: &str, source: io::Error) -> Error {
    Error::System { what: what.into(), source }
}
