//! Whether packets of pods pass the hook by: a switch of its own, a flowtable, a program that redirects.
//!
//! What is known to do it is found by its name ([`known`]). Whatever else does it shows in the counters: an interface of a
//! pod carries packets in both directions while the hook sees next to none ([`Counters::compare`]). Only both directions
//! count, because a pod that talks to its own node is not seen by the hook on the way there, and nobody is asked about ARP.

use super::{
    interfaces::{self, Interface},
    netlink::{Attributes, attributes, list},
};
use nix::{errno::Errno, libc, sys::socket::SockProtocol};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

const NFT_MSG_GETFLOWTABLE: i32 = 23;
const NFTA_FLOWTABLE_TABLE: u16 = 1;
const NFTA_FLOWTABLE_NAME: u16 = 2;

/// Fewer packets say nothing.
const ENOUGH: u64 = 100;
/// The hook may see fewer packets than an interface, where they are put together on the way (64 at most); but not so much
/// fewer.
const FEWER: u64 = 100;
/// How long what was seen counts: traffic comes and goes.
const LASTING: Duration = Duration::from_secs(60);

/// Packets that the hook has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    /// Those that the node itself sent, to its pods or elsewhere.
    pub of_node: u64,
    /// All others.
    pub of_others: u64,
}

/// Counters as they were a moment ago.
#[derive(Debug, Default)]
pub struct Counters {
    before: Option<(BTreeMap<u32, [u64; 2]>, Judged)>,
    seen: Option<(Instant, String)>,
}

impl Counters {
    /// What passes the hook by, each in one line. `pods` are the interfaces of pods, `judged` the packets that the hook has
    /// seen so far.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn look(&mut self, pods: &BTreeSet<u32>, judged: Judged) -> Result<Vec<String>, Errno> {
        let all = interfaces::all()?;
        let mut found = known(&all, pods);
        self.compare(&all, pods, judged, Instant::now());
        found.extend(self.seen.as_ref().map(|(_, what)| what.clone()));
        Ok(found)
    }

    fn compare(&mut self, all: &BTreeMap<u32, Interface>, pods: &BTreeSet<u32>, judged: Judged, now: Instant) {
        let packets = pods.iter().filter_map(|index| Some((*index, all.get(index)?.packets)));
        let packets: BTreeMap<u32, [u64; 2]> = packets.collect();
        let before = self.before.replace((packets.clone(), judged));
        self.seen = self.seen.take().filter(|(since, _)| now.duration_since(*since) < LASTING);
        let Some((before, judged_before)) = before else { return };
        let of_node = judged.of_node.saturating_sub(judged_before.of_node);
        let of_others = judged.of_others.saturating_sub(judged_before.of_others);
        let both_ways = |index: &u32, [came, went]: [u64; 2]| {
            let [came_before, went_before] = before.get(index)?;
            Some(came.saturating_sub(*came_before).min(went.saturating_sub(*went_before)))
        };
        let most = packets.iter().filter_map(|(index, now)| Some((both_ways(index, *now)?, *index))).max();
        // Not with the node, and not with anybody whom the hook sees.
        let unseen = |moved: u64| moved >= ENOUGH && of_others * FEWER < moved && of_node * 2 < moved;
        let Some((moved, index)) = most.filter(|(moved, _)| unseen(*moved)) else { return };
        let name = all.get(&index).map(|one| one.name.as_str()).unwrap_or_default();
        let what = format!(
            "traffic of pods passes the hook by: {name} carried {moved} packets each way while it saw {of_others}; take away \
             what redirects them (`tc filter show dev {name} ingress`), or enforce with another engine"
        );
        self.seen = Some((now, what));
    }
}

/// What is known to hand packets on before netfilter's last hook.
fn known(all: &BTreeMap<u32, Interface>, pods: &BTreeSet<u32>) -> Vec<String> {
    let mut found = Vec::new();
    let on_switch = pods.iter().filter_map(|index| {
        let one = all.get(index)?;
        all.get(&one.master?).filter(|master| master.kind == "openvswitch").map(|_| one)
    });
    if let Some(one) = on_switch.into_iter().next() {
        let name = &one.name;
        found.push(format!(
            "Open vSwitch carries the traffic of pods ({name} is a port of it), past netfilter: use a CNI plugin whose traffic \
             the kernel routes or bridges"
        ));
    }
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETFLOWTABLE) as u16;
    // Where there is no nf_tables there are no flowtables.
    let tables = list(SockProtocol::NetlinkNetFilter, kind, &[0; 4], &Attributes::default()).unwrap_or_default();
    for table in tables {
        let text = |wanted: u16| {
            let value = attributes(table.get(4..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)?;
            Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned())
        };
        let (of, name) =
            (text(NFTA_FLOWTABLE_TABLE).unwrap_or_default(), text(NFTA_FLOWTABLE_NAME).unwrap_or_default());
        found.push(format!(
            "the flowtable {name} of the nf_tables table {of} hands packets of established connections on before the hook: \
             delete it, with the rules that fill it"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(packets: [u64; 2]) -> BTreeMap<u32, Interface> {
        [(4, Interface { name: "veth4".to_owned(), kind: "veth".to_owned(), packets, ..Interface::default() })].into()
    }

    #[test]
    fn packets_in_both_directions_that_the_hook_does_not_see_are_told_for_a_minute() {
        let pods = BTreeSet::from([4]);
        let mut counters = Counters::default();
        let start = Instant::now();
        let mut look = |packets, of_others, of_node, seconds| {
            let judged = Judged { of_node, of_others };
            counters.compare(&veth(packets), &pods, judged, start + Duration::from_secs(seconds));
            counters.seen.as_ref().map(|(_, what)| what.clone())
        };
        assert_eq!(look([5000, 5000], 0, 0, 0), None, "there is nothing to compare with");
        assert_eq!(look([6000, 6000], 2000, 0, 1), None, "the hook sees it");
        assert_eq!(look([6000, 9000], 2000, 0, 2), None, "one way: it may be ARP, or for the node");
        assert_eq!(look([6050, 9050], 2000, 0, 3), None, "too few");
        assert_eq!(look([7050, 9950], 2000, 900, 4), None, "with the node");
        let told = look([9050, 10_850], 2001, 950, 5).unwrap();
        assert!(told.contains("veth4 carried 900 packets each way while it saw 1;"), "{told}");
        assert!(look([9050, 10_850], 3000, 950, 30).is_some());
        assert_eq!(look([9050, 10_850], 3000, 950, 66), None);
    }

    #[test]
    fn a_port_of_open_vswitch_is_told() {
        let mut all = veth([0; 2]);
        all.get_mut(&4).unwrap().master = Some(3);
        all.insert(3, Interface { kind: "openvswitch".to_owned(), ..Interface::default() });
        assert!(known(&all, &[4].into())[0].contains("veth4 is a port of it"));
        assert_eq!(known(&all, &[].into()), Vec::<String>::new());
    }
}
