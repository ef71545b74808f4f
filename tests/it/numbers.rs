//! What an agent costs: measurements, no verdicts. `make bench` runs them, one after the other.

use crate::{
    agent::Agent,
    datapath_interfaces, datapath_program,
    kube::{fake::Fake, objects},
    large,
    packets::in_lab,
    root::root_or_return,
};
use ringfence::{
    datapath::{Config, Datapath, trial::Frame},
    policy::{
        change::changes,
        cluster::{Cluster, Event},
        model::{Block, Peer, Rule},
        state::State,
        table::{Address, Admission, IdentityId, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, Table},
    },
};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener},
    thread,
    time::{Duration, Instant},
};

/// Median, and the tenth and the ninetieth part.
fn spread(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort_unstable();
    [5, 1, 9].map(|tenth| times[(times.len() - 1) * tenth / 10])
}

/// A pod of this node whose policy admits a thousand identities, among 20,000 addresses of them. `rules` tells two
/// contents of the policy apart, which differ in every one of its entries.
fn thousand(rules: u32) -> Table {
    let address = |number: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number));
    let mut table = Table::default();
    for number in 0..20_000 {
        let meaning = Meaning { identity: IdentityId(1 + number % 1000), ..Meaning::default() };
        table.addresses.insert(address(number), Address { meaning, ifindex: 0 });
    }
    let policy = PolicyId(100 + rules);
    let local = Meaning { ingress: policy, local: true, ..Meaning::default() };
    table.addresses.insert(address(70_000), Address { meaning: local, ifindex: 0 });
    let set = PortSetId(1 + rules);
    table.ports.insert((set, PortPrefix { protocol: 6, port: 80, bits: 16 }), RuleId(200 + rules));
    for identity in 1..=1000 {
        table.admissions.insert((policy, IdentityId(identity)), Admission { ports: set, any: None });
    }
    table
}

/// Goal: with both ends isolated, hook and port together at most 140 ns above programs that do nothing. The first packet of
/// its kind in a generation comes next to it, which is not remembered yet, and the node's own.
#[test]
#[ignore = "a measurement"]
fn a_packet_between_two_isolated_pods() {
    root_or_return!();
    let mut trial = datapath_program::trial(&datapath_interfaces::bound());
    let (from, to) = (datapath_program::JAILED, datapath_program::WEB);
    let packet = Frame {
        ifindex: 4,
        port: datapath_interfaces::JAIL,
        out: 4,
        out_port: datapath_interfaces::WEBS,
        ..datapath_program::tcp(from, to, 80)
    };
    let of_node = Frame { ifindex: 0, ..packet.clone() };
    let mut times = [(); 7].map(|()| Vec::new());
    for _ in 0..21 {
        let [accepts, passes] = trial.nothing(&packet, 200_000).unwrap();
        let mut runs = vec![accepts, passes];
        for doubts in [false, true] {
            trial.doubts = doubts;
            runs.extend([trial.run(&packet, 200_000), trial.leaves(&packet, 200_000)].map(|run| run.unwrap().1));
        }
        runs.push(trial.run(&of_node, 200_000).unwrap().1);
        assert!(trial.accepts(&packet).unwrap());
        for (times, run) in times.iter_mut().zip(runs) {
            times.push(run);
        }
    }
    let [nothing, nothing_at_port, hook, port, found, found_at_port, own] = times.map(spread);
    println!("test runs of one packet: median, 10th and 90th percentile of 21");
    let lines = [
        ("nothing, at the hook", nothing),
        ("nothing, at a port", nothing_at_port),
        ("hook, both isolated", hook),
        ("port", port),
        ("hook, not remembered", found),
        ("port, not remembered", found_at_port),
        ("hook, of the node", own),
    ];
    for (what, times) in lines {
        println!("  {what:20} {times:?}");
    }
    let above = |hook: [Duration; 3], port: [Duration; 3]| hook[0] + port[0] - nothing[0] - nothing_at_port[0];
    println!("  both, above nothing: {:?}; not remembered {:?}", above(hook, port), above(found, found_at_port));
}

/// What a new pod waits for: a program at its interface, and it in force.
#[test]
#[ignore = "a measurement"]
fn an_interface_more() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let pods: Vec<_> = (0..40).map(|number| lab.pod(1, &format!("pod{number}")).unwrap()).collect();
        let measure = || {
            let mut datapath = Datapath::open(&Config::default()).unwrap();
            datapath.attach().unwrap();
            let mut table = Table::default();
            let mut times = Vec::new();
            for pod in &pods {
                let before = table.clone();
                table.interfaces.insert(pod.ifindex, Meaning { local: true, ..Meaning::default() });
                datapath.settle().unwrap();
                let begun = Instant::now();
                datapath.publish(&changes(&before, &table)).unwrap();
                times.push(begun.elapsed());
            }
            let mut successor = Datapath::open(&Config::default()).unwrap();
            successor.apply(&changes(&Table::default(), &table)).unwrap();
            let begun = Instant::now();
            successor.attach().unwrap();
            println!("one interface more, in force: {:?} (median, 10th, 90th of 40)", spread(times));
            println!("40 interfaces at once: {:?}", begun.elapsed());
        };
        lab.within("node1", measure).unwrap();
    });
}

/// Goal: 10 ms until it is in force.
#[test]
#[ignore = "a measurement"]
fn one_policy_change_that_touches_a_thousand_identities() {
    root_or_return!();
    let tables = [thousand(0), thousand(1)];
    let steps = [changes(&tables[0], &tables[1]), changes(&tables[1], &tables[0])];
    let mut datapath = Datapath::open(&Config::default()).unwrap();
    datapath.apply(&changes(&Table::default(), &tables[0])).unwrap();
    let (mut in_force, mut settled, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..40 {
        let begun = Instant::now();
        datapath.publish(&steps[round % 2]).unwrap();
        in_force.push(begun.elapsed());
        datapath.settle().unwrap();
        settled.push(begun.elapsed());
    }
    // Without a pause: each waits for the packets that saw the one before it.
    for round in 0..40 {
        let begun = Instant::now();
        datapath.publish(&steps[round % 2]).unwrap();
        at_once.push(begun.elapsed());
    }
    datapath.settle().unwrap();
    let steps = steps[0].len();
    println!("one policy, 1,000 identities, {steps} steps: median, 10th and 90th percentile of 40");
    println!("  in force          {:?}", spread(in_force));
    println!("  and cleared away  {:?}", spread(settled));
    println!("  one after another {:?}", spread(at_once));
}

/// Every address of 100,000 pods gets another identity, as no policy of the node said 0.0.0.0/0 before.
#[test]
#[ignore = "a measurement"]
fn the_first_policy_that_says_everybody() {
    root_or_return!();
    let cluster = large::LARGE.cluster();
    let mut state = State::new(large::NODE.into(), Cluster::default(), Table::default());
    let mut datapath = Datapath::open(&Config::default()).unwrap();
    datapath.apply(&state.apply(Cluster::default().events_to(cluster.clone()))).unwrap();
    state.confirm();
    let mut here = cluster.pods.iter().filter(|(_, pod)| pod.node.as_deref() == Some(large::NODE));
    let (key, plain) = here
        .find_map(|(of, pod)| {
            let mut policies = cluster.policies.iter().filter(|(key, _)| key.namespace == of.namespace);
            policies.find(|(_, policy)| policy.selector.matches(&pod.labels))
        })
        .unwrap();
    let mut everybody = plain.clone();
    let all = Peer::Block(Block { cidr: "0.0.0.0/0".parse().unwrap(), except: vec![] });
    everybody.ingress.get_or_insert_default().push(Rule { peers: vec![all], ports: vec![] });
    let (mut thought, mut in_force, mut settled, mut steps) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..12 {
        let policy = if round % 2 == 0 { &everybody } else { plain };
        let begun = Instant::now();
        let changes = state.apply([Event::Policy(key.clone(), Some(policy.clone()))]);
        thought.push(begun.elapsed());
        steps = changes.len();
        datapath.publish(&changes).unwrap();
        in_force.push(begun.elapsed());
        datapath.settle().unwrap();
        settled.push(begun.elapsed());
        state.confirm();
    }
    println!("the first 0.0.0.0/0, {steps} steps: median, 10th and 90th percentile of 12");
    println!("  what changes      {:?}", spread(thought));
    println!("  in force          {:?}", spread(in_force));
    println!("  and cleared away  {:?}", spread(settled));
}

/// What a process has in memory, in MB: `VmRSS:` now, `VmHWM:` at most.
pub(crate) fn memory(of: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap();
    let line = status.lines().find_map(|all| all.strip_prefix(line)).unwrap();
    line.trim().split(' ').next().unwrap().parse::<u64>().unwrap() / 1024
}

/// Goal: 150 MB.
#[test]
#[ignore = "a measurement"]
fn an_agent_of_a_large_cluster() {
    root_or_return!();
    in_lab(|mut lab| {
        lab.node(1).unwrap();
        let fake = Fake::on(lab.within("node1", || TcpListener::bind("127.0.0.1:0").unwrap()).unwrap());
        let cluster = large::LARGE.cluster();
        objects::objects(&cluster).into_iter().for_each(|object| fake.put(object));
        fake.compact();
        let directory = tempfile::tempdir().unwrap();
        let config = fake.kubeconfig(directory.path());
        let begun = Instant::now();
        let agent = Agent::of_node(&lab, "node1", large::NODE, &["--kubeconfig".as_ref(), config.as_os_str()]);
        while agent.get("readyz").0 != 200 {
            assert!(begun.elapsed() < Duration::from_secs(120), "{}", agent.get("readyz").1);
            thread::sleep(Duration::from_millis(100));
        }
        println!("{} pods, {} policies: ready after {:?}", cluster.pods.len(), cluster.policies.len(), begun.elapsed());
        println!("  resident {} MB, at most {} MB", memory(agent.pid(), "VmRSS:"), memory(agent.pid(), "VmHWM:"));
        let mut times = Vec::new();
        for turn in 0..100_u32 {
            let (key, mut pod) = large::LARGE.pod(3, 3);
            pod.addresses = vec![Ipv4Addr::from(0x0ac8_0000 + turn).into()];
            let before = agent.status()["enforced"].as_u64().unwrap();
            let begun = Instant::now();
            fake.put(objects::pod(&key, &pod));
            while agent.status()["enforced"].as_u64().unwrap() == before {
                thread::sleep(Duration::from_micros(200));
            }
            times.push(begun.elapsed());
        }
        println!("  a pod's new address, from the API server to the kernel: {:?} (median, 10th, 90th)", spread(times));
        println!("  resident {} MB after that", memory(agent.pid(), "VmRSS:"));
    });
}
