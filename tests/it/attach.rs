//! What is pinned and what is attached, whatever a predecessor left.
use crate::{
    packets::{flood, in_lab},
    root::root_or_return,
};
use ringfence::{
    datapath::{Config, Datapath, Error},
    node::{bridge, conntrack::Conntrack, sandbox},
    policy::{
        change::changes,
        cluster::Cluster,
        compile::{Ids, compile},
        model::*,
        table::{Address, Table},
    },
};
use std::{fs, path::Path, thread, time::Duration};

const DIR: &str = "/sys/fs/bpf/ringfence";

fn in_sandbox(test: impl FnOnce() + Send + 'static) {
    let inside = thread::spawn(|| {
        sandbox::enter().unwrap();
        test();
    });
    inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn open() -> Datapath {
    Datapath::open(&Config { bpffs: Some(DIR.into()), ..Config::default() }).unwrap()
}

fn links() -> Vec<String> {
    let entries = fs::read_dir(Path::new(DIR).join("links")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn successors_take_turns_at_two_priorities() {
    root_or_return!();
    in_sandbox(|| {
        for priority in [50, 51, 50] {
            open().attach().unwrap();
            assert_eq!(links(), [format!("ipv4-{priority}"), format!("ipv6-{priority}")]);
        }
        // The same agent again.
        let mut datapath = open();
        datapath.attach().unwrap();
        datapath.attach().unwrap();
        assert_eq!(links(), ["ipv4-50", "ipv6-50"]);
    });
}

#[test]
fn an_agent_that_was_killed_while_it_took_over_leaves_room() {
    root_or_return!();
    in_sandbox(|| {
        let (links_dir, aside) = (Path::new(DIR).join("links"), Path::new(DIR).join("aside"));
        open().attach().unwrap();
        fs::rename(&links_dir, &aside).unwrap();
        open().attach().unwrap();
        for name in ["ipv4-50", "ipv6-50"] {
            fs::rename(aside.join(name), links_dir.join(name)).unwrap();
        }
        assert_eq!(links(), ["ipv4-50", "ipv4-51", "ipv6-50", "ipv6-51"]);
        open().attach().unwrap();
        assert_eq!(links(), ["ipv4-50", "ipv6-50"]);
    });
}

#[test]
fn other_programs_at_both_priorities_are_left_alone() {
    root_or_return!();
    in_sandbox(|| {
        let mut others = [Config::default(), Config::default()].map(|config| Datapath::open(&config).unwrap());
        for other in &mut others {
            other.attach().unwrap();
        }
        let error = open().attach().unwrap_err();
        assert!(matches!(error, Error::Taken { priorities: [50, 51], .. }), "{error}");
        drop(others);
        open().attach().unwrap();
    });
}

#[test]
fn another_layout_begins_with_maps_of_its_own() {
    root_or_return!();
    in_sandbox(|| {
        let table = Table { addresses: [("10.0.0.1".parse().unwrap(), Address::default())].into(), ..Table::default() };
        let mut old = open();
        old.apply(&changes(&Table::default(), &table)).unwrap();
        old.attach().unwrap();
        assert_eq!(open().table().unwrap(), table);
        let other = Path::new(DIR).join("maps-v0");
        fs::rename(Path::new(DIR).join("maps-v2"), &other).unwrap();
        let mut new = open();
        assert_eq!(new.table().unwrap(), Table::default());
        assert_eq!((other.exists(), links()), (true, vec!["ipv4-50".into(), "ipv6-50".into()]), "until the new one is");
        new.apply(&changes(&Table::default(), &table)).unwrap();
        new.attach().unwrap();
        assert_eq!((other.exists(), links()), (false, vec!["ipv4-51".into(), "ipv6-51".into()]));
    });
}

/// The maps of the predecessor are another layout's, so the successor can not take its state over: it makes its own first.
#[test]
fn a_successor_of_another_layout_leaves_no_gap_and_loses_nothing() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let [_client, web] = ["client", "web"].map(|name| lab.pod(1, name).unwrap());
        let port = PortMatch { protocol: Protocol::Udp, port: PortSpec::Range(53, 53) };
        let rule = Rule { ports: vec![port], ..Rule::default() };
        let policy = NetworkPolicy { ingress: Some(vec![rule]), ..NetworkPolicy::default() };
        let mut cluster = Cluster::default();
        let pod = Pod { node: Some("node1".into()), addresses: vec![web.ipv4.into()], ..Pod::default() };
        cluster.pods.insert(Key::new("x", "web"), pod);
        cluster.policies.insert(Key::new("x", "web"), policy);
        let table = compile(&cluster, "node1", &mut Ids::default());
        let begin = || {
            let mut datapath = open();
            datapath.apply(&changes(&datapath.table().unwrap(), &table)).unwrap();
            datapath.attach().unwrap();
            datapath
        };
        let succeed = || Some(lab.within("node1", || (begin(), Conntrack::keep().unwrap())).unwrap());
        lab.within("node1", bridge::call_netfilter).unwrap().unwrap();
        let mut current = succeed();
        let flood = flood(&lab, web, [53, 54], || {
            for layout in 0..4 {
                thread::sleep(Duration::from_millis(200));
                let old = Path::new(DIR).join(format!("maps-v10{layout}"));
                fs::rename(Path::new(DIR).join("maps-v2"), &old).unwrap();
                // It goes on by itself until the new one is there.
                drop(current.take());
                thread::sleep(Duration::from_millis(200));
                current = succeed();
                assert!(!old.exists());
            }
        });
        drop(current);
        flood.is_fenced_without_loss();
    });
}
