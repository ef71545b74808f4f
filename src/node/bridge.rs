//! Bridges pass netfilter by, unless br_netfilter is loaded and its switches are on.
//!
//! There is a switch for the network namespace, which is on from the start, and one for each bridge; either is enough. The
//! first needs a writable /proc/sys, which a container has only if it is privileged. The second needs CAP_NET_ADMIN, and is
//! there when the bridge is: a new one is switched on when somebody looks next.
//!
//! A bridge's own switch reads 1 also where br_netfilter is not loaded: the module is there when its directory is.

use super::netlink::{Attributes, change_link};
use nix::errno::Errno;
use std::{fs, io, path::Path};

const SWITCHES: &str = "/proc/sys/net/bridge";
const INTERFACES: &str = "/sys/class/net";

const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;

/// Why pods on one bridge could talk without anybody seeing it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is a bridge, and no br_netfilter.
    #[error("traffic between pods on the bridge {0} passes netfilter by: run `modprobe br_netfilter` on the node")]
    NotLoaded(String),
    /// Switches that are off and stay off.
    #[error(
        "bridge {bridge} does not call netfilter ({on_bridge}), and {path} can not be set to 1 ({source}): \
         run `sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1` on the node"
    )]
    Switch {
        /// The switch of the network namespace.
        path: String,
        /// Why it stays off.
        source: io::Error,
        /// The bridge.
        bridge: String,
        /// Why its own switch stays off.
        on_bridge: Errno,
    },
    /// A switch that can not even be read.
    #[error("{path} can not be read ({source}): nobody knows whether bridges call netfilter")]
    Unknown {
        /// The switch.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Makes bridges of this network namespace call netfilter for both families. Returns whether anything had to be changed.
pub fn call_netfilter() -> Result<bool, Error> {
    if !Path::new(SWITCHES).exists() {
        return match bridges().into_iter().next() {
            Some(bridge) => Err(Error::NotLoaded(bridge)),
            None => Ok(false),
        };
    }
    let mut changed = false;
    let mut refused = None;
    for switch in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let path = format!("{SWITCHES}/{switch}");
        if !is_on(&path)? {
            match fs::write(&path, "1") {
                Ok(()) => changed = true,
                Err(why) => refused = Some((path, why)),
            }
        }
    }
    let Some((path, source)) = refused else { return Ok(changed) };
    for bridge in bridges() {
        match switch_on(&bridge) {
            Ok(switched) => changed |= switched,
            // A bridge that has gone meanwhile carries nothing.
            Err(_) if !Path::new(INTERFACES).join(&bridge).exists() => {}
            Err(on_bridge) => return Err(Error::Switch { path, source, bridge, on_bridge }),
        }
    }
    Ok(changed)
}

fn is_on(path: &str) -> Result<bool, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Unknown { path: path.to_owned(), source })?;
    Ok(text.trim() == "1")
}

/// Sets a bridge's own switches. Returns whether they were not all on.
fn switch_on(bridge: &str) -> Result<bool, Errno> {
    let own = |switch| fs::read_to_string(format!("{INTERFACES}/{bridge}/bridge/{switch}"));
    if ["nf_call_iptables", "nf_call_ip6tables"].into_iter().all(|switch| own(switch).is_ok_and(|s| s.trim() == "1")) {
        return Ok(false);
    }
    let switches = Attributes::default().byte(IFLA_BR_NF_CALL_IPTABLES, 1).byte(IFLA_BR_NF_CALL_IP6TABLES, 1);
    let info = Attributes::default().text(IFLA_INFO_KIND, "bridge").nested(IFLA_INFO_DATA, switches);
    let index = nix::net::if_::if_nametoindex(bridge)?;
    change_link(index, &Attributes::default().nested(IFLA_LINKINFO, info))?;
    Ok(true)
}

/// Names of the bridges in this network namespace, as far as /sys shows it.
pub fn bridges() -> Vec<String> {
    let interfaces = fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    let bridges = interfaces.filter(|interface| interface.path().join("bridge").is_dir());
    bridges.map(|bridge| bridge.file_name().to_string_lossy().into_owned()).collect()
}
