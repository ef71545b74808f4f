//! Bridges pass netfilter by, unless br_netfilter is loaded and its switches are on.
//!
//! A bridge's own `nf_call_iptables` reads 1 also where br_netfilter is not loaded, so nothing rests on it: the module is
//! there when its directory is.

use std::{fs, io, path::Path};

const SWITCHES: &str = "/proc/sys/net/bridge";

/// Why pods on one bridge could talk without anybody seeing it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is a bridge, and no br_netfilter.
    #[error("traffic between pods on the bridge {0} passes netfilter by: run `modprobe br_netfilter` on the node")]
    NotLoaded(String),
    /// A switch that is off and stays off.
    #[error("{path} can not be set to 1 ({source}): traffic between pods on a bridge would pass netfilter by")]
    Switch {
        /// The file.
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
    for switch in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let path = format!("{SWITCHES}/{switch}");
        let failed = |source| Error::Switch { path: path.clone(), source };
        if fs::read_to_string(&path).map_err(failed)?.trim() != "1" {
            fs::write(&path, "1").map_err(failed)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Names of the bridges in this network namespace, as far as /sys shows it.
pub fn bridges() -> Vec<String> {
    let interfaces = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let bridges = interfaces.filter(|interface| interface.path().join("bridge").is_dir());
    bridges.map(|bridge| bridge.file_name().to_string_lossy().into_owned()).collect()
}
