//! What the agent of a node tells the others, as an object: addresses of its pods that the API does not say yet.
//!
//! `Sightings -> ConfigMap`, by [`object`], and back by [`read`]. A pod is a line by its uid: `shop/web 10.244.1.7 fd00::7`.
//! What can not be read is a mistake with words, and the rest counts.

use super::{convert, watch::is_name};
use crate::{
    finding::printable,
    policy::{
        cluster::Sightings,
        model::{Key, Name, Uid},
    },
};
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// The label that these objects have.
pub const LABEL: &str = "ringfence.dev/addresses";
/// What their names begin with; the node's name is the rest.
pub const PREFIX: &str = "ringfence-node-";
/// So many addresses one of them holds. A node starts no more pods at once; those that are too many are known by their status.
pub const MOST: usize = 512;

/// The pod that an agent runs in, which its object belongs to: pod and object are of one namespace, and gone together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    name: String,
    uid: String,
}

impl FromStr for Owner {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no NAME/UID of a pod");
        let (name, uid) = text.split_once('/').ok_or_else(wrong)?;
        let owner = Self { name: name.to_owned(), uid: uid.to_owned() };
        if is_name(name) && is_name(uid) { Ok(owner) } else { Err(wrong()) }
    }
}

/// The object of a node. It goes with the pod of its agent.
pub fn object(node: &str, owner: &Owner, seen: &Sightings) -> Value {
    let mut lines = Map::new();
    for (address, (key, uid)) in seen.iter().take(MOST) {
        let line = lines.entry(format!("{:032x}", uid.0)).or_insert_with(|| key.to_string().into());
        *line = format!("{} {address}", line.as_str().unwrap_or_default()).into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": format!("{PREFIX}{node}"),
            "labels": {LABEL: ""},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid}],
        },
        "data": lines,
    })
}

/// The node that an object is of; none if its name is no such one.
pub fn node(object: &Value) -> Option<Name> {
    let name = object["metadata"]["name"].as_str()?.strip_prefix(PREFIX)?;
    (!name.is_empty()).then(|| name.into())
}

/// What an object says, and what of it can not be read.
pub fn read(object: &Value) -> (Sightings, Vec<String>) {
    let (mut seen, mut mistakes) = (Sightings::new(), Vec::new());
    for (uid, line) in object["data"].as_object().into_iter().flatten() {
        let Some((uid, key, addresses)) = pod(uid, line) else {
            let line = format!("{uid}: {line}").chars().take(100).collect::<String>();
            mistakes.push(format!("{} is no uid, name and addresses of a pod", printable(&line)));
            continue;
        };
        for address in addresses {
            match convert::address(address) {
                None => mistakes.push(format!("{} is no address", printable(address))),
                Some(_) if seen.len() == MOST => {
                    mistakes.push(format!("it holds more than {MOST} addresses"));
                    return (seen, mistakes);
                }
                Some(address) if seen.insert(address, (key.clone(), uid)).is_some() => {
                    mistakes.push(format!("it says {address} of two pods"));
                }
                Some(_) => {}
            }
        }
    }
    (seen, mistakes)
}

fn pod<'a>(uid: &str, line: &'a Value) -> Option<(Uid, Key, impl Iterator<Item = &'a str>)> {
    let mut words = line.as_str()?.split(' ');
    let (namespace, name) = words.next()?.split_once('/')?;
    let is_name = |part: &str| !part.is_empty() && part.len() <= 253;
    (is_name(namespace) && is_name(name)).then_some((uid.parse().ok()?, Key::new(namespace, name), words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        "agent-x/0b5e-1".parse().unwrap()
    }

    #[test]
    fn what_is_told_is_what_is_heard() {
        let (web, api) = ((Key::new("shop", "web"), Uid(7)), (Key::new("shop", "api"), Uid(u128::MAX)));
        let seen = [("10.1.0.7", &web), ("fd00::7", &web), ("10.1.0.9", &api)];
        let seen: Sightings = seen.map(|(address, pod)| (address.parse().unwrap(), pod.clone())).into();
        let object = object("n1", &owner(), &seen);
        assert_eq!(object["data"]["00000000000000000000000000000007"], "shop/web 10.1.0.7 fd00::7");
        assert_eq!((node(&object), read(&object)), (Some("n1".into()), (seen, vec![])));
    }

    #[test]
    fn an_object_belongs_to_the_pod_of_its_agent_and_to_nobody_else() {
        let object = object("n1", &owner(), &Sightings::new());
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "agent-x", "uid": "0b5e-1"});
        assert_eq!(object["metadata"]["ownerReferences"], json!([pod]));
        for wrong in ["", "/", "agent-x", "agent-x/", "/0b5e-1", "agent-x/0b5e-1/2", "$(POD_NAME)/$(POD_UID)"] {
            assert!(wrong.parse::<Owner>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_left_out_and_named() {
        let uid = format!("{:032x}", 1);
        for (data, with) in [
            (json!({"web": "shop/web 10.1.0.1"}), "web: \"shop/web 10.1.0.1\" is no uid"),
            (json!({&uid: "web 10.1.0.1"}), "is no uid, name"),
            (json!({&uid: "shop/ 10.1.0.1"}), "is no uid, name"),
            (json!({&uid: 7}), "is no uid, name"),
            (json!({&uid: "shop/web 10.1.0"}), "10.1.0 is no address"),
            (json!({&uid: "shop/web \u{1b}[31m"}), "is no address"),
        ] {
            let (seen, mistakes) = read(&json!({"data": data}));
            assert_eq!((seen.len(), mistakes.len()), (0, 1), "{mistakes:?}");
            assert!(mistakes[0].contains(with) && !mistakes[0].contains(char::is_control), "{mistakes:?}");
        }
        let two = json!({"data": {&uid: "shop/web 10.1.0.1", format!("{:032x}", 2): "shop/api 10.1.0.1 10.1.0.2"}});
        let (seen, mistakes) = read(&two);
        assert_eq!((seen.len(), mistakes), (2, vec!["it says 10.1.0.1 of two pods".to_owned()]));
        for wrong in [json!({}), json!({"data": [1]}), json!(7)] {
            assert_eq!(read(&wrong), (Sightings::new(), vec![]));
        }
        for wrong in ["ringfence-node-", "kube-root-ca.crt"] {
            assert_eq!(node(&json!({"metadata": {"name": wrong}})), None);
        }
    }

    #[test]
    fn it_is_bounded_on_both_sides() {
        let seen: Sightings = (0..600u32)
            .map(|n| (std::net::Ipv4Addr::from(n).into(), (Key::new("shop", format!("p{n}")), Uid(n.into()))))
            .collect();
        assert_eq!(object("n1", &owner(), &seen)["data"].as_object().unwrap().len(), MOST);
        let addresses = seen.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let (heard, mistakes) = read(&json!({"data": {format!("{:032x}", 1): format!("shop/web {addresses}")}}));
        assert_eq!((heard.len(), mistakes.len()), (MOST, 1));
    }
}
