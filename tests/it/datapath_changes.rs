//! Lists of changes on the real maps: what they lead to, what is left where an agent is killed or a map is full.
use crate::{datapath_random::any_table, root::root_or_return};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use ringfence::{
    datapath::{Config, Datapath, Error, Sizes},
    policy::{
        change::{Change, changes},
        table::{Address, FIRST_ID, Table},
    },
};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// A directory of pins that goes with the test.
struct Pins(PathBuf);

impl Pins {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("ringfence-test-{}-{name}", std::process::id()));
        Pins(dir)
    }

    fn open(&self) -> Datapath {
        Datapath::open(&Config { bpffs: Some(self.0.clone()), ..Config::default() }).unwrap()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        Datapath::detach(&self.0).unwrap();
        let _ = nix::mount::umount(&self.0);
        let _ = fs::remove_dir(&self.0);
    }
}

/// Pairs that an agent could have: what an id means is the same in both.
fn pair(runner: &mut TestRunner) -> (Table, Table) {
    let (old, mut new) = (any_table(), any_table()).new_tree(runner).unwrap().current();
    for (key, admission) in &mut new.admissions {
        if let Some(before) = old.admissions.get(key) {
            *admission = *before;
        }
    }
    for (key, rule) in &mut new.ports {
        if let Some(before) = old.ports.get(key) {
            *rule = *before;
        }
    }
    (old, new)
}

#[test]
fn changes_lead_to_the_new_table() {
    root_or_return!();
    let mut runner = TestRunner::deterministic();
    let mut datapath = Datapath::open(&Config::default()).unwrap();
    for _ in 0..25 {
        let (old, new) = pair(&mut runner);
        let before = datapath.table().unwrap();
        datapath.apply(&changes(&before, &Table::default())).unwrap();
        datapath.apply(&changes(&Table::default(), &old)).unwrap();
        assert_eq!(datapath.table().unwrap(), old);
        let generation = datapath.generation();
        let steps = changes(&old, &new);
        assert_eq!(datapath.apply(&steps).unwrap(), generation + u64::from(!steps.is_empty()));
        assert_eq!(datapath.table().unwrap(), new);
    }
}

#[test]
fn a_successor_finds_the_state_that_was_published() {
    root_or_return!();
    let pins = Pins::new("successor");
    let mut runner = TestRunner::deterministic();
    for round in 0..12 {
        let (old, new) = pair(&mut runner);
        let mut datapath = pins.open();
        let found = datapath.table().unwrap();
        datapath.apply(&changes(&found, &Table::default())).unwrap();
        datapath.apply(&changes(&Table::default(), &old)).unwrap();
        let steps = changes(&old, &new);
        let published = steps.iter().position(|step| *step == Change::Publish).unwrap_or(steps.len());
        // Somewhere in the list, and just around the one store.
        for end in [round * steps.len() / 12, published, (published + 1).min(steps.len())] {
            datapath.apply(&steps[..end]).unwrap();
            drop(datapath);
            datapath = pins.open();
            let found = datapath.table().unwrap();
            let wanted = if end > published { &new } else { &old };
            // Entries that nothing points to may be there; whatever a packet asks is answered by one of the two.
            for (address, what) in &wanted.addresses {
                assert_eq!(found.addresses.get(address), Some(what), "round {round}, {end} of {} steps", steps.len());
            }
            for address in found.addresses.keys() {
                assert_eq!(found.meaning(*address), wanted.meaning(*address), "{address}");
            }
            for (prefix, meaning) in &found.networks {
                assert_eq!(*meaning, wanted.network(*prefix), "{prefix}");
            }
            datapath.apply(&changes(&found, wanted)).unwrap();
            assert_eq!(datapath.table().unwrap(), *wanted);
            if end > published {
                break;
            }
        }
    }
}

fn pod(number: u32) -> (IpAddr, Address) {
    let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    (address, Address { ifindex: number, ..Address::default() })
}

#[test]
fn a_full_map_leaves_the_state_whole() {
    root_or_return!();
    let sizes = Sizes {
        addresses: Some(8),
        interfaces: Some(1),
        networks: Some(3),
        admissions: Some(4),
        ports: Some(4),
        ranges: Some(4),
        counters: Some(300),
    };
    let mut datapath = Datapath::open(&Config { sizes, ..Config::default() }).unwrap();
    let mut old = Table { addresses: (0..6).map(pod).collect(), ..Table::default() };
    old.networks.insert("10.0.0.0/8".parse().unwrap(), Default::default());
    datapath.apply(&changes(&Table::default(), &old)).unwrap();

    let mut runner = TestRunner::deterministic();
    let mut refused = std::collections::BTreeSet::new();
    for round in 0..60 {
        let mut new = any_table().new_tree(&mut runner).unwrap().current();
        // Rules come first in a list: without them the others get their turn.
        if round % 2 == 0 {
            new.admissions.clear();
            new.ports.clear();
        }
        if round % 4 == 0 {
            new.networks = old.networks.clone();
        }
        if round % 8 == 0 {
            new.addresses = old.addresses.clone();
        }
        // Some of the old ones change their meaning on the way, some stay.
        for (address, what) in new.addresses.values().copied().zip(0..6).collect::<Vec<_>>() {
            new.addresses.insert(pod(what).0, address);
        }
        match datapath.apply(&changes(&old, &new)) {
            Ok(_) => {
                assert_eq!(datapath.table().unwrap(), new);
                datapath.apply(&changes(&new, &old)).unwrap();
            }
            Err(Error::Full { map, entries }) => {
                assert!(entries <= 12, "{map}");
                refused.insert(map);
            }
            Err(other) => panic!("{other}"),
        }
        assert_eq!(datapath.table().unwrap(), old);
    }
    assert_eq!(refused, ["addresses", "admissions", "interfaces", "networks", "ports", "ranges"].into());
    // Nothing leaked: there is as much room as there was.
    let full = Table { addresses: (0..8).map(pod).collect(), ..old.clone() };
    datapath.apply(&changes(&old, &full)).unwrap();
    assert_eq!(datapath.table().unwrap(), full);
}

/// Slots that a packet may still hold are not given away, but they come back.
#[test]
fn a_change_that_is_tried_again_and_again_uses_nothing_up() {
    root_or_return!();
    let sizes = Sizes { addresses: Some(8), interfaces: Some(1), networks: Some(1), ..Sizes::default() };
    let mut datapath = Datapath::open(&Config { sizes, ..Config::default() }).unwrap();
    let too_many = Table { addresses: (0..9).map(pod).collect(), ..Table::default() };
    for _ in 0..4 {
        let error = datapath.apply(&changes(&Table::default(), &too_many)).unwrap_err();
        assert!(matches!(error, Error::Full { map: "addresses", .. }), "{error}");
    }
    let full = Table { addresses: (0..8).map(pod).collect(), ..Table::default() };
    datapath.apply(&changes(&Table::default(), &full)).unwrap();
    assert_eq!(datapath.table().unwrap(), full);
}

#[test]
fn ids_beyond_the_counters_are_refused() {
    root_or_return!();
    let sizes = Sizes { counters: Some(FIRST_ID + 1), ..Sizes::default() };
    let mut datapath = Datapath::open(&Config { sizes, ..Config::default() }).unwrap();
    let (address, mut what) = pod(1);
    what.meaning.local = true;
    what.meaning.ingress.0 = FIRST_ID + 1;
    let new = Table { addresses: [(address, what)].into(), ..Table::default() };
    let error = datapath.apply(&changes(&Table::default(), &new)).unwrap_err();
    assert!(matches!(error, Error::Full { map: "counters", .. }), "{error}");
    assert_eq!(datapath.table().unwrap(), Table::default());
}

#[test]
fn detach_takes_everything_away_and_may_be_said_twice() {
    root_or_return!();
    let pins = Pins::new("detach");
    Datapath::detach(&pins.0).unwrap();
    drop(pins.open());
    assert!(pins.0.join("maps-v2/slots").exists());
    Datapath::detach(&pins.0).unwrap();
    assert!(!pins.0.join("maps-v2").exists() && !pins.0.join("links").exists());
    Datapath::detach(&pins.0).unwrap();
}

/// `cargo test --test it many -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn many_entries() {
    root_or_return!();
    let mut datapath = Datapath::open(&Config::default()).unwrap();
    let mut timed = |what: &str, old: &Table, new: &Table| {
        let steps = changes(old, new);
        let begin = std::time::Instant::now();
        datapath.apply(&steps).unwrap();
        println!("{what}: {} steps in {:?}", steps.len(), begin.elapsed());
        let begin = std::time::Instant::now();
        assert_eq!(datapath.table().unwrap(), *new);
        println!("  read back in {:?}", begin.elapsed());
    };
    let none = Table::default();
    let mut many = Table { addresses: (0..60_000).map(pod).collect(), ..Table::default() };
    for number in 0..16_000u32 {
        let prefix = ipnet::Ipv4Net::new(Ipv4Addr::from(0xac00_0000 + (number << 8)), 24).unwrap();
        many.networks.insert(prefix.into(), Default::default());
    }
    timed("60,000 addresses, 16,000 networks", &none, &many);
    let mut one = many.clone();
    one.addresses.insert(pod(1).0, pod(2).1);
    timed("one address", &many, &one);
    timed("all away", &one, &none);
}
