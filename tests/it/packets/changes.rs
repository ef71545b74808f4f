//! Changes under a download: it ends with what admitted it, in either direction, and nothing else touches it.

use super::{
    in_lab,
    site::{Enforced, Site, peer, policy},
};
use crate::root::root_or_return;
use ringfence::policy::{
    cluster::{Cluster, Event},
    model::{Direction, Key, Labels, Name, Namespace},
};
use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// `client` loads from `web` without an end, some 4 MB a second.
struct Download {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    server: JoinHandle<u64>,
    client: JoinHandle<()>,
}

impl Download {
    fn begin(site: &Site, address: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let listener = site.lab.within("web", || TcpListener::bind((address, 80)).unwrap()).unwrap();
        let to = SocketAddr::new(address, 80);
        let mut from =
            site.lab.within("client", || TcpStream::connect_timeout(&to, Duration::from_secs(2)).unwrap()).unwrap();
        let server = thread::spawn({
            let stop = stop.clone();
            move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(&[7; 4096]).unwrap();
                    sent += 4096;
                    thread::sleep(Duration::from_millis(1));
                }
                sent
            }
        });
        let client = thread::spawn({
            let received = received.clone();
            move || {
                let mut buffer = [0; 65536];
                while let Ok(length) = from.read(&mut buffer)
                    && length > 0
                {
                    received.fetch_add(length as u64, Ordering::Relaxed);
                }
            }
        });
        Download { stop, received, server, client }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether it goes on within some seconds: what was cut waits for its next attempt, and that comes later and later.
    fn moves(&self) -> bool {
        let (before, begun) = (self.received(), Instant::now());
        while begun.elapsed() < Duration::from_secs(8) {
            if self.received() > before + 20_000 {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Whether nothing comes any more, but for what had arrived already.
    fn stands(&self) -> bool {
        thread::sleep(Duration::from_millis(30));
        let before = self.received();
        thread::sleep(Duration::from_millis(300));
        self.received() == before
    }

    /// Ends it. How much was sent, and how much received.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.server.join().unwrap();
        self.client.join().unwrap();
        (sent, self.received.load(Ordering::Relaxed))
    }
}

const TEAM: &str = "team";

/// The cluster with the namespace in a team, and `client` under this label.
fn of_team(mut cluster: Cluster, team: &str, client: &str) -> Cluster {
    let namespace: &mut Namespace = cluster.namespaces.get_mut("shop").unwrap();
    let own = namespace.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
    namespace.labels = own.chain([(Name::from(TEAM), Name::from(team))]).collect();
    cluster.pods.get_mut(&Key::new("shop", "client")).unwrap().labels = Labels::from_iter([("app", client)]);
    cluster
}

/// Takes away what admits the download and gives it back, and says which directions were dropped meanwhile.
fn cut_and_mend(node: &mut Enforced, download: &Download, [admitted, denied]: [&Cluster; 2]) -> Vec<(bool, String)> {
    assert!(download.moves());
    node.drops();
    node.change(denied);
    assert!(download.stands());
    let dropped = node.drops().into_iter().map(|(event, by)| {
        let side = event.side.map_or("", Direction::as_str);
        (event.reply, format!("{side} by {}", by.join(", ")))
    });
    let dropped = dropped.collect();
    node.change(admitted);
    assert!(download.moves(), "it was to go on");
    dropped
}

#[test]
fn a_download_ends_with_what_admits_it_and_goes_on_with_it() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1)]);
        let team = "{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: client}}}";
        let ingress = policy("web", &format!("ingress: [{{from: [{team}], ports: [{{port: 80}}]}}]"));
        let egress = |to: &str| {
            policy("client", &format!("policyTypes: [Egress], egress: [{{to: [{}], ports: [{{port: 80}}]}}]", peer(to)))
        };
        let cluster = |policies: &str| of_team(site.cluster(policies), "a", "client");
        let admitted = cluster(&(ingress.clone() + &egress("web")));
        let mut node = site.enforce("node1", "");
        node.change(&admitted);
        let download = Download::begin(&site, site.host("web").ipv4.into());
        for (what, denied, by) in [
            (
                "the rule of its server",
                cluster(&(policy("web", "policyTypes: [Ingress]") + &egress("web"))),
                "ingress by shop/web",
            ),
            ("the rule of its client", cluster(&(ingress.clone() + &egress("nobody"))), "egress by shop/client"),
            ("the client's label", of_team(admitted.clone(), "a", "other"), "ingress by shop/web"),
            ("the namespace's label", of_team(admitted.clone(), "b", "client"), "ingress by shop/web"),
        ] {
            let dropped = cut_and_mend(&mut node, &download, [&admitted, &denied]);
            // Replies are all that is under way: they are judged as what they answer.
            assert!(dropped.contains(&(true, by.to_owned())), "{what}: {dropped:?}");
        }
        let (sent, received) = download.end();
        assert_eq!(sent, received);
    });
}

/// TCP segments that were sent again in a namespace.
fn sent_again(site: &Site, space: &str) -> u64 {
    let text = site.lab.within(space, || std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap()).unwrap();
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

#[test]
fn a_download_that_is_admitted_does_not_notice_a_thousand_policies_that_come_and_go() {
    root_or_return!();
    in_lab(|lab| {
        let site = Site::new(lab, &[("client", 1), ("web", 1), ("other", 1), ("far", 2)]);
        let web = policy("web", &format!("ingress: [{{from: [{}], ports: [{{port: 80}}]}}]", peer("client")));
        let mut node = site.enforce("node1", &web);
        let download = Download::begin(&site, site.host("web").ipv6.into());
        assert!(download.moves());
        let before = [sent_again(&site, "web"), sent_again(&site, "client")];
        let generation = node.datapath.generation();
        // Each is about another block and port of `other`, so each of them changes what the kernel has.
        let example = site
            .cluster(&policy("other", "ingress: [{from: [{ipBlock: {cidr: 10.9.0.0/16}}], ports: [{port: 7000}]}]"));
        let example = &example.policies[&Key::new("shop", "other")];
        let unrelated = |number: u16| {
            let mut policy = example.clone();
            let rule = &mut policy.ingress.as_mut().unwrap()[0];
            let [high, low] = number.to_be_bytes();
            let cidr = format!("10.{}.{low}.0/24", 9 + high).parse().unwrap();
            rule.peers =
                vec![ringfence::policy::model::Peer::Block(ringfence::policy::model::Block { cidr, except: vec![] })];
            rule.ports[0].port = ringfence::policy::model::PortSpec::Range(7000 + number, 7000 + number);
            (Key::new("shop", format!("other-{number}")), policy)
        };
        let mut changes = 0;
        for come in [true, false] {
            for some in (0..1000).collect::<Vec<u16>>().chunks(25) {
                node.tell(some.iter().map(|number| {
                    let (key, policy) = unrelated(*number);
                    Event::Policy(key, come.then_some(policy))
                }));
                changes += 1;
            }
        }
        assert_eq!(node.datapath.generation() - generation, changes);
        assert!(download.moves());
        assert_eq!([sent_again(&site, "web"), sent_again(&site, "client")], before, "nothing was sent twice");
        // A gap would be seen.
        node.change(&site.cluster(&policy("web", "policyTypes: [Ingress]")));
        assert!(download.stands());
        node.change(&site.cluster(&web));
        assert!(download.moves() && sent_again(&site, "web") > before[0]);
        let (sent, received) = download.end();
        println!("{sent} bytes through {changes} changes");
        assert_eq!(sent, received);
    });
}
