//! What this node sees on itself: which address is behind which of its interfaces, whose it is, and from which ranges it
//! gives pods addresses.
//!
//! ```text
//!  CNI result cache --------+
//!  interfaces, addresses ---+--> Sight
//!  routes to single hosts --+
//! ```
//! By [`Eyes::look`]. Without the cache the kernel says which address is behind which interface, and nobody whose it is;
//! then only addresses in the ranges that the Node says count, as there may be others who make such interfaces.

use super::{
    cni::{Cache, Sandbox},
    interfaces::Interfaces,
};
use crate::policy::cluster::Attachment;
use ipnet::IpNet;
use nix::errno::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
};

/// So many files of the cache are named that are not used.
const NAMED: usize = 5;

/// What a node sees on itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Addresses, and where they are.
    pub attachments: BTreeMap<IpAddr, Attachment>,
    /// Ranges that pods of this node have addresses from.
    pub ranges: BTreeSet<IpNet>,
    /// What it could not see, each in one line.
    pub remarks: Vec<String>,
    /// Files of the CNI result cache that are not used.
    pub unused: usize,
}

/// Looks at the node, and remembers what it has read.
#[derive(Debug)]
pub struct Eyes {
    cache: Option<Cache>,
}

impl Eyes {
    /// With a CNI result cache, or without.
    pub fn new(cache: Option<PathBuf>) -> Self {
        Eyes { cache: cache.map(Cache::new) }
    }

    /// The directory of the cache.
    pub fn directory(&self) -> Option<&Path> {
        self.cache.as_ref().map(Cache::directory)
    }

    /// Looks. `ranges` are those that the Node says.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn look(&mut self, ranges: &[IpNet]) -> Result<Sight, Errno> {
        let mut remarks = Vec::new();
        let mut unused = 0;
        let mut cached = None;
        if let Some(cache) = &mut self.cache {
            match cache.read() {
                Ok(()) => {
                    unused = cache.mistakes().count();
                    let named = cache.mistakes().take(NAMED);
                    remarks.extend(named.map(|(path, why)| format!("{} is not used: {why}", path.display())));
                    cached = Some(cache.sandboxes().collect::<Vec<_>>());
                }
                Err(why) => remarks.push(format!(
                    "the CNI result cache {} can not be read ({why}): pods are known by their interfaces, so later; let \
                     the agent read it, or name another one (--cni-results)",
                    cache.directory().display()
                )),
            }
        }
        let interfaces = Interfaces::read(cached.is_none())?;
        let attachments = match cached {
            Some(sandboxes) => of_cache(sandboxes, &interfaces),
            None => of_interfaces(ranges, &interfaces),
        };
        let ranges = pod_ranges(&attachments, &interfaces);
        Ok(Sight { attachments, ranges, remarks, unused })
    }
}

/// A file whose interface is not there is of a sandbox that has gone.
fn of_cache(mut sandboxes: Vec<&Sandbox>, interfaces: &Interfaces) -> BTreeMap<IpAddr, Attachment> {
    let mut named = BTreeMap::new();
    for (index, one) in interfaces.all.iter().filter(|(_, one)| !["bridge", "openvswitch"].contains(&one.kind.as_str()))
    {
        named.insert(one.name.as_str(), *index);
    }
    sandboxes.sort_by_key(|sandbox| sandbox.written);
    let mut of_pods = BTreeMap::new();
    for sandbox in sandboxes {
        if let Some(ifindex) = sandbox.interfaces.iter().find_map(|name| named.get(name.as_str())) {
            // A later sandbox of a pod takes an earlier one's place.
            of_pods.insert(&sandbox.key, (sandbox.written, *ifindex, sandbox));
        }
    }
    let mut of_pods: Vec<_> = of_pods.into_values().collect();
    of_pods.sort_by_key(|(written, ..)| *written);
    let mut attachments = BTreeMap::new();
    for (_, ifindex, sandbox) in of_pods {
        let attachment = Attachment { ifindex, pod: Some((sandbox.key.clone(), sandbox.uid)) };
        attachments.extend(sandbox.addresses.iter().map(|address| (*address, attachment.clone())));
    }
    attachments
}

fn of_interfaces(ranges: &[IpNet], interfaces: &Interfaces) -> BTreeMap<IpAddr, Attachment> {
    let of_pods = interfaces.behind.iter().filter(|(_, address)| ranges.iter().any(|range| range.contains(address)));
    of_pods.map(|(ifindex, address)| (*address, Attachment { ifindex: *ifindex, pod: None })).collect()
}

/// Subnets of bridges that carry pods, and routes to single hosts behind an interface of a pod.
fn pod_ranges(attachments: &BTreeMap<IpAddr, Attachment>, interfaces: &Interfaces) -> BTreeSet<IpNet> {
    let of_pods: BTreeSet<u32> = attachments.values().map(|attachment| attachment.ifindex).collect();
    let masters = of_pods.iter().filter_map(|index| interfaces.all.get(index)?.master);
    let mut bridges: BTreeSet<u32> = masters.collect();
    // Where a bridge has a way out, the others of its subnet are hosts of that network.
    for one in interfaces.all.values().filter(|one| one.peer.is_none()) {
        bridges.retain(|bridge| one.master != Some(*bridge));
    }
    let subnets = interfaces.own.iter().filter(|(index, _)| bridges.contains(index)).map(|(_, net)| net.trunc());
    let routed =
        interfaces.host_routes.iter().filter(|(index, to)| of_pods.contains(index) && !attachments.contains_key(to));
    subnets.chain(routed.map(|(_, to)| IpNet::from(*to))).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::interfaces::Interface, *};
    use crate::policy::model::Key;

    fn sandbox(name: &str, interface: &str, address: &str, written: i128) -> Sandbox {
        Sandbox {
            key: Key::new("shop", name),
            uid: None,
            interfaces: vec!["cni0".to_owned(), interface.to_owned()],
            addresses: vec![address.parse().unwrap()],
            written,
        }
    }

    fn veth(name: &str, master: Option<u32>) -> Interface {
        Interface { name: name.to_owned(), kind: "veth".to_owned(), master, peer: Some((1, 2)), packets: [0; 2] }
    }

    /// A bridge with two pods and a third one routed.
    fn node() -> Interfaces {
        let bridge = Interface { name: "cni0".to_owned(), kind: "bridge".to_owned(), ..Interface::default() };
        let uplink = Interface { name: "eth0".to_owned(), ..Interface::default() };
        let all = [
            (1, uplink),
            (3, bridge),
            (4, veth("veth4", Some(3))),
            (5, veth("veth5", Some(3))),
            (6, veth("veth6", None)),
        ];
        let net = |net: &str| net.parse().unwrap();
        Interfaces {
            all: all.into(),
            own: [(1, net("192.0.2.1/24")), (3, net("10.1.0.1/24"))].into(),
            behind: [(4, "10.1.0.4"), (5, "10.1.0.5"), (1, "192.0.2.9")].map(|(i, a)| (i, a.parse().unwrap())).into(),
            host_routes: [(6, "10.1.9.6"), (6, "10.1.9.7"), (1, "10.9.9.9")]
                .map(|(i, a)| (i, a.parse().unwrap()))
                .into(),
        }
    }

    fn seen(attachments: &BTreeMap<IpAddr, Attachment>) -> Vec<String> {
        let pod = |one: &Attachment| one.pod.as_ref().map_or("?".to_owned(), |(key, _)| key.name.to_string());
        attachments.iter().map(|(address, one)| format!("{address} {} {}", one.ifindex, pod(one))).collect()
    }

    #[test]
    fn an_address_of_the_cache_is_behind_the_interface_that_is_no_bridge() {
        let sandboxes = [sandbox("web", "veth4", "10.1.0.4", 1), sandbox("api", "veth6", "10.1.9.6", 2)];
        let attachments = of_cache(sandboxes.iter().collect(), &node());
        assert_eq!(seen(&attachments), ["10.1.0.4 4 web", "10.1.9.6 6 api"]);
        let ranges = pod_ranges(&attachments, &node());
        assert_eq!(ranges, ["10.1.0.0/24", "10.1.9.7/32"].map(|net| net.parse().unwrap()).into());
    }

    #[test]
    fn a_sandbox_whose_interface_has_gone_is_none_and_of_two_the_later_counts() {
        let sandboxes = [
            sandbox("web", "veth5", "10.1.0.5", 9),
            sandbox("web", "veth4", "10.1.0.4", 3),
            sandbox("gone", "veth7", "10.1.0.7", 5),
            // An address that was given again.
            sandbox("old", "veth6", "10.1.0.5", 2),
        ];
        assert_eq!(seen(&of_cache(sandboxes.iter().collect(), &node())), ["10.1.0.5 5 web"]);
    }

    #[test]
    fn without_the_cache_addresses_count_that_are_in_the_ranges_of_the_node() {
        let attachments = of_interfaces(&["10.1.0.0/24".parse().unwrap()], &node());
        assert_eq!(seen(&attachments), ["10.1.0.4 4 ?", "10.1.0.5 5 ?"]);
        assert_eq!(seen(&of_interfaces(&[], &node())), Vec::<String>::new());
    }

    #[test]
    fn a_bridge_with_a_way_out_has_hosts_in_its_subnet_that_are_no_pods() {
        let mut node = node();
        node.all.insert(7, Interface { name: "eth1".to_owned(), master: Some(3), ..Interface::default() });
        let attachments = of_interfaces(&["10.1.0.0/24".parse().unwrap()], &node);
        assert_eq!(pod_ranges(&attachments, &node), BTreeSet::new());
    }
}
