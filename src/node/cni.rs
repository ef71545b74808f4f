//! The CNI result cache: which pod got which addresses, behind which interface, before its first process runs.
//!
//! libcni writes one JSON file for each interface that it made, after it made it and before any container starts, and takes
//! it away with the interface. [`Cache::read`] reads those that are new; nothing is written. A file that can not be used is a
//! mistake with a name, and the others count.

use crate::policy::model::{Key, Uid};
use ipnet::IpNet;
use nix::libc;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read},
    net::IpAddr,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The largest file that is read: results hold the network's configuration, too, and are some KiB long.
const LARGEST: u64 = 256 << 10;
/// So many files at most: a node has some hundred.
pub const MOST: usize = 10_000;
/// The interface of the pod network. Others (net1, ...) are none of Kubernetes'.
const PRIMARY: &str = "eth0";

/// What a file says: the sandbox of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The pod.
    pub key: Key,
    /// Which one of that name.
    pub uid: Option<Uid>,
    /// Names of interfaces that were made for it on the node: its own among them, and maybe a bridge.
    pub interfaces: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// When the file was written, in ns: of two for one pod the later counts.
    pub written: i128,
}

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum Mistake {
    #[error("it can not be read: {0}")]
    Unreadable(String),
    #[error("it is no file")]
    NoFile,
    #[error("it has {0} bytes, and {LARGEST} are read at most")]
    TooLarge(u64),
    #[error("it is no result of CNI: {0}")]
    NoResult(String),
    #[error("it says {0:?} where a name should be")]
    NoName(String),
    #[error("it names no interface of the node: traffic of {0} does not pass the node's netfilter")]
    NoInterface(Key),
}

/// The directory, and what was read of it.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    files: BTreeMap<OsString, (Stamp, Contents)>,
}

/// `None`: no pod's primary interface.
type Contents = Result<Option<Sandbox>, Mistake>;

/// A file that is written again has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    written: i128,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let written = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Stamp { inode: metadata.ino(), length: metadata.len(), written }
    }
}

impl Cache {
    /// A cache that nothing was read of yet.
    pub fn new(directory: PathBuf) -> Self {
        Cache { directory, files: BTreeMap::new() }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads what is new, and forgets what has gone.
    ///
    /// # Errors
    /// A directory that can not be read, or that holds more than [`MOST`] files. What was known stays known.
    pub fn read(&mut self) -> io::Result<()> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            if files.len() == MOST {
                return Err(io::Error::other(format!("it holds more than {MOST} files")));
            }
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            let (name, stamp) = (entry.file_name(), Stamp::of(&metadata));
            let known = self.files.get(&name).filter(|(known, _)| *known == stamp);
            let contents = match known {
                Some((_, contents)) => contents.clone(),
                // It is being written.
                None if metadata.is_file() && stamp.length == 0 => continue,
                None => read(&entry.path(), stamp.written),
            };
            if let (None, Err(mistake)) = (known, &contents) {
                tracing::warn!("{} is not used: {mistake}", entry.path().display());
            }
            files.insert(name, (stamp, contents));
        }
        self.files = files;
        Ok(())
    }

    /// The pods that it knows, and the interfaces that were made for them.
    pub fn sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        self.files.values().filter_map(|(_, contents)| contents.as_ref().ok()?.as_ref())
    }

    /// Files that are not used, and why.
    pub fn mistakes(&self) -> impl Iterator<Item = (PathBuf, &Mistake)> {
        let wrong = self.files.iter().filter_map(|(name, (_, contents))| Some((name, contents.as_ref().err()?)));
        wrong.map(|(name, mistake)| (self.directory.join(name), mistake))
    }
}

fn read(path: &Path, written: i128) -> Contents {
    let unreadable = |error: io::Error| Mistake::Unreadable(error.to_string());
    // What is no file is not waited for, and what somebody links to is not followed.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(Mistake::NoFile),
        // It went while the directory was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Mistake::NoFile);
    }
    if metadata.len() > LARGEST {
        return Err(Mistake::TooLarge(metadata.len()));
    }
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).map_err(unreadable)?;
    sandbox(&text, written)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    if_name: String,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    #[serde(default)]
    result: Added,
}

/// A result of CNI 0.3 or later.
#[derive(Default, Deserialize)]
struct Added {
    #[serde(default)]
    interfaces: Vec<Made>,
    #[serde(default)]
    ips: Vec<Given>,
}

#[derive(Deserialize)]
struct Made {
    #[serde(default)]
    name: String,
    /// The network namespace that it is in; the node's own if empty.
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Given {
    interface: Option<usize>,
    address: String,
}

/// What a file says. `None`: of an interface that is not the primary one of a pod.
fn sandbox(text: &[u8], written: i128) -> Contents {
    let cached: Cached = serde_json::from_slice(text).map_err(|error| Mistake::NoResult(error.to_string()))?;
    if cached.kind != "cniCacheV1" {
        return Err(Mistake::NoResult(format!("its kind is {:?}", cached.kind)));
    }
    let argument = |wanted: &str| {
        let found = cached.cni_args.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let (namespace, name) = (argument("K8S_POD_NAMESPACE"), argument("K8S_POD_NAME"));
    // Somebody else who uses libcni makes interfaces for what is no pod.
    if cached.if_name != PRIMARY || (namespace.is_empty() && name.is_empty()) {
        return Ok(None);
    }
    for part in [namespace, name] {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if part.is_empty() || part.len() > 253 || !part.bytes().all(plain) {
            return Err(Mistake::NoName(part.chars().take(64).collect()));
        }
    }
    let key = Key::new(namespace, name);
    let Added { interfaces, ips } = cached.result;
    let of_the_pod = |given: &&Given| match given.interface {
        Some(index) => interfaces.get(index).is_some_and(|made| made.name == PRIMARY && !made.sandbox.is_empty()),
        None => true,
    };
    let mut addresses = Vec::new();
    for given in ips.iter().filter(of_the_pod) {
        let address = given.address.parse::<IpNet>().map(|net| net.addr()).or_else(|_| given.address.parse());
        let wrong = |_| Mistake::NoResult(format!("{:?} is no address", given.address));
        addresses.push(address.map_err(wrong)?);
    }
    let of_the_node = interfaces.iter().filter(|made| made.sandbox.is_empty() && !made.name.is_empty());
    let interfaces: Vec<String> = of_the_node.map(|made| made.name.clone()).collect();
    if interfaces.is_empty() {
        return Err(Mistake::NoInterface(key));
    }
    Ok(Some(Sandbox { key, uid: argument("K8S_POD_UID").parse().ok(), interfaces, addresses, written }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// As containerd and the bridge plugin write it.
    fn bridge() -> Value {
        json!({
            "kind": "cniCacheV1",
            "containerId": "0a1b",
            "config": "e30=",
            "ifName": "eth0",
            "networkName": "cbr0",
            "netns": "/var/run/netns/cni-1",
            "cniArgs": [
                ["IgnoreUnknown", "1"],
                ["K8S_POD_NAMESPACE", "shop"],
                ["K8S_POD_NAME", "web"],
                ["K8S_POD_INFRA_CONTAINER_ID", "0a1b"],
                ["K8S_POD_UID", "7d2f9a52-5c8e-4d0e-8c3d-3f6f0f0a4a11"]
            ],
            "result": {
                "cniVersion": "1.0.0",
                "interfaces": [
                    {"mac": "02:00:00:00:00:01", "name": "cni0"},
                    {"mac": "02:00:00:00:00:02", "name": "veth1"},
                    {"mac": "02:00:00:00:00:03", "name": "eth0", "sandbox": "/var/run/netns/cni-1"}
                ],
                "ips": [
                    {"address": "10.244.1.10/24", "gateway": "10.244.1.1", "interface": 2},
                    {"address": "fd00:1::a/64", "interface": 2}
                ],
                "dns": {}
            }
        })
    }

    fn said(value: &Value) -> Contents {
        sandbox(value.to_string().as_bytes(), 7)
    }

    #[test]
    fn a_result_says_pod_interfaces_and_addresses() {
        let expected = Sandbox {
            key: Key::new("shop", "web"),
            uid: "7d2f9a525c8e4d0e8c3d3f6f0f0a4a11".parse().ok(),
            interfaces: vec!["cni0".to_owned(), "veth1".to_owned()],
            addresses: vec!["10.244.1.10".parse().unwrap(), "fd00:1::a".parse().unwrap()],
            written: 7,
        };
        assert!(expected.uid.is_some());
        assert_eq!(said(&bridge()), Ok(Some(expected)));
    }

    #[test]
    fn the_ptp_plugin_makes_one_interface_on_the_node_and_older_versions_say_the_family() {
        let mut ptp = bridge();
        ptp["result"] = json!({
            "cniVersion": "0.3.1",
            "interfaces": [{"name": "veth9", "mac": "02:00:00:00:00:02"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [{"version": "4", "interface": 1, "address": "10.244.1.11/24", "gateway": "10.244.1.1"}]
        });
        let sandbox = said(&ptp).unwrap().unwrap();
        assert_eq!((sandbox.interfaces, sandbox.addresses), (vec!["veth9".to_owned()], vec![[10, 244, 1, 11].into()]));
    }

    #[test]
    fn other_interfaces_of_a_pod_and_what_is_no_pod_are_left_alone() {
        for (field, value) in [("ifName", json!("net1")), ("ifName", json!("lo")), ("cniArgs", json!([["a", "b"]]))] {
            let mut other = bridge();
            other[field] = value;
            assert_eq!(said(&other), Ok(None));
        }
        let mut other = bridge();
        other["result"]["interfaces"][2]["name"] = json!("net1");
        assert_eq!(said(&other).unwrap().unwrap().addresses, Vec::<IpAddr>::new());
    }

    #[test]
    fn what_can_not_be_used_says_why() {
        let wrong = |field: &str, value: Value| {
            let mut wrong = bridge();
            *wrong.pointer_mut(field).unwrap() = value;
            said(&wrong).unwrap_err().to_string()
        };
        assert!(wrong("/kind", json!("x")).contains("its kind is \"x\""));
        assert!(wrong("/cniArgs/1/1", json!("../etc")).contains("\"../etc\" where a name should be"));
        assert!(wrong("/cniArgs/1/1", json!("")).contains("\"\" where a name should be"));
        assert!(wrong("/result/ips/0/address", json!("x")).contains("\"x\" is no address"));
        assert!(wrong("/result/interfaces", json!([])).contains("traffic of shop/web does not pass"));
        assert!(wrong("/result", json!("x")).contains("no result of CNI"));
        assert!(sandbox(b"{", 0).is_err() && sandbox(&[0xff; 8], 0).is_err());
    }

    #[test]
    fn the_directory_is_read_as_it_changes_and_one_file_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut cache = Cache::new(directory.path().to_owned());
        let keys = |cache: &Cache| cache.sandboxes().map(|s| s.key.name.to_string()).collect::<Vec<_>>();
        fs::write(path("cbr0-1-eth0"), bridge().to_string()).unwrap();
        fs::write(path("cbr0-2-eth0"), "{").unwrap();
        fs::write(path("cbr0-3-eth0"), "").unwrap();
        fs::write(path("cbr0-4-eth0"), vec![b' '; LARGEST as usize + 1]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path("cbr0-5-eth0")).unwrap();
        nix::unistd::mkfifo(&path("cbr0-6-eth0"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(path("cbr0-7-eth0")).unwrap();
        cache.read().unwrap();
        assert_eq!(keys(&cache), ["web"]);
        let wrong: Vec<_> = cache.mistakes().map(|(path, _)| path).collect();
        assert_eq!(wrong, [2, 4, 5, 6, 7].map(|n| path(&format!("cbr0-{n}-eth0"))));
        fs::write(path("cbr0-3-eth0"), bridge().to_string().replace("web", "api")).unwrap();
        fs::remove_file(path("cbr0-1-eth0")).unwrap();
        fs::remove_file(path("cbr0-2-eth0")).unwrap();
        cache.read().unwrap();
        assert_eq!((keys(&cache), cache.mistakes().count()), (vec!["api".to_owned()], 4));
        drop(directory);
        assert!(cache.read().is_err());
        assert_eq!(keys(&cache), ["api"], "what was known stays known");
    }
}
