//! Interfaces of this node's network namespace, the addresses on them and behind them, and the routes to single hosts.
//!
//! Nobody enters a pod: a veth names its peer and the network namespace that it is in, and the kernel lists the addresses
//! there (Linux 4.20).

use super::netlink::{Attributes, News, attributes, list};
use ipnet::IpNet;
use nix::{errno::Errno, libc, sys::socket::SockProtocol};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

const IFLA_INFO_KIND: u16 = 1;
const IFA_TARGET_NETNSID: u16 = 10;
const RTN_UNICAST: u8 = 1;
const NEWS: libc::c_int = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_ROUTE;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// What it is called.
    pub name: String,
    /// `veth`, `bridge`, `openvswitch`, ...; empty for a physical one.
    pub kind: String,
    /// The interface that it is a port of.
    pub master: Option<u32>,
    /// The network namespace of its other end, as this one numbers it, and its index there.
    pub peer: Option<(i32, u32)>,
    /// Packets that came in by it, and that went out by it.
    pub packets: [u64; 2],
}

/// All of it at one instant, as far as the kernel can say that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// By index.
    pub all: BTreeMap<u32, Interface>,
    /// Addresses of the node itself with their subnets, and the interface that each is on.
    pub own: BTreeSet<(u32, IpNet)>,
    /// Addresses behind an interface: on its other end, in another network namespace.
    pub behind: BTreeSet<(u32, IpAddr)>,
    /// Routes to one address, and the interface that each leads to.
    pub host_routes: BTreeSet<(u32, IpAddr)>,
}

impl Interfaces {
    /// Asks the kernel. `behind`: also for the addresses in other network namespaces.
    pub fn read(behind: bool) -> Result<Self, Errno> {
        let mut this = Interfaces { all: all()?, own: addresses(None)?, ..Interfaces::default() };
        if behind {
            let peers = this.all.iter().filter_map(|(index, one)| Some((one.peer?, *index)));
            let peers: BTreeMap<(i32, u32), u32> = peers.collect();
            let spaces: BTreeSet<i32> = peers.keys().map(|(space, _)| *space).collect();
            for space in spaces {
                // One that has gone meanwhile has no addresses.
                for (index, net) in addresses(Some(space)).unwrap_or_default() {
                    this.behind.extend(peers.get(&(space, index)).map(|here| (*here, net.addr())));
                }
            }
        }
        this.host_routes = host_routes()?;
        Ok(this)
    }
}

/// Tells that something changed, and not what.
#[derive(Debug)]
pub struct Changes(News);

impl Changes {
    /// Of the network namespace of this thread.
    pub fn listen() -> Result<Self, Errno> {
        News::of(NEWS).map(Changes)
    }

    /// Waits for the next one.
    pub fn wait(&self) -> Result<(), Errno> {
        self.0.wait()
    }
}

/// Every interface by its index.
pub fn all() -> Result<BTreeMap<u32, Interface>, Errno> {
    // struct ifinfomsg: everything any.
    let answers = list(SockProtocol::NetlinkRoute, libc::RTM_GETLINK, &[0; 16], &Attributes::default())?;
    let interface = |answer: &Vec<u8>| {
        let index = number(answer.get(4..8)?)?;
        let mut one = Interface::default();
        let (mut there, mut space) = (None, None);
        for (kind, value) in attributes(answer.get(16..)?) {
            match kind {
                libc::IFLA_IFNAME => one.name = text(value),
                libc::IFLA_MASTER => one.master = number(value),
                libc::IFLA_LINK => there = number(value),
                libc::IFLA_LINK_NETNSID => space = number(value).map(u32::cast_signed),
                libc::IFLA_LINKINFO => {
                    let kind = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                    one.kind = kind.map(|(_, value)| text(value)).unwrap_or_default();
                }
                // struct rtnl_link_stats64 begins with them.
                libc::IFLA_STATS64 => {
                    let counter = |at: usize| value.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
                    one.packets = [0, 8].map(|at| counter(at).unwrap_or_default());
                }
                _ => {}
            }
        }
        one.peer = space.filter(|space| *space >= 0).zip(there);
        Some((index, one))
    };
    Ok(answers.iter().filter_map(interface).collect())
}

/// Addresses with the index of their interface, of this network namespace or of a numbered one. None that is for the link
/// only.
fn addresses(space: Option<i32>) -> Result<BTreeSet<(u32, IpNet)>, Errno> {
    let which = space.map(|space| Attributes::default().native(IFA_TARGET_NETNSID, space)).unwrap_or_default();
    // struct ifaddrmsg: everything any.
    let answers = list(SockProtocol::NetlinkRoute, libc::RTM_GETADDR, &[0; 8], &which)?;
    let address = |answer: &Vec<u8>| {
        let (prefix, index) = (*answer.get(1)?, number(answer.get(4..8)?)?);
        let of = |wanted| attributes(answer.get(8..)?).find(|(kind, _)| *kind == wanted);
        // The first is the other end of a point-to-point interface where there is one.
        let (_, value) = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS))?;
        let address = ip(value).filter(|address| !is_of_the_link(*address))?;
        Some((index, IpNet::new(address, prefix).ok()?))
    };
    Ok(answers.iter().filter_map(address).collect())
}

fn host_routes() -> Result<BTreeSet<(u32, IpAddr)>, Errno> {
    let mut routes = BTreeSet::new();
    for (family, bits) in [(libc::AF_INET, 32), (libc::AF_INET6, 128)] {
        // struct rtmsg: the family, and everything else any.
        let mut header = [0; 12];
        header[0] = family as u8;
        // A kernel without IPv6 has no such routes.
        let answers = list(SockProtocol::NetlinkRoute, libc::RTM_GETROUTE, &header, &Attributes::default());
        let route = |answer: &Vec<u8>| {
            if *answer.get(1)? != bits || *answer.get(4)? != libc::RT_TABLE_MAIN || *answer.get(7)? != RTN_UNICAST {
                return None;
            }
            let (mut to, mut by, mut direct) = (None, None, true);
            for (kind, value) in attributes(answer.get(12..)?) {
                match kind {
                    libc::RTA_DST => to = ip(value),
                    libc::RTA_OIF => by = number(value),
                    libc::RTA_GATEWAY => direct = false,
                    _ => {}
                }
            }
            by.zip(to).filter(|(_, to)| direct && !is_of_the_link(*to))
        };
        routes.extend(answers.unwrap_or_default().iter().filter_map(route));
    }
    Ok(routes)
}

fn is_of_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_loopback(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_loopback() || address.is_multicast(),
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    v4().or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}
