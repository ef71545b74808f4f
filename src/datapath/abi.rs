//! Between the kernel's types and ours.
//!
//! The types are generated from `bpf/ringfence.h` and defined nowhere else; here are only their conversions from and to
//! the values of [`crate::policy::table`].

use crate::policy::table::{
    Address, Admission, FIRST_ID, IdentityId, Meaning, PolicyId, PortPrefix, PortSetId, RuleId,
};
use bytemuck::{Pod, Zeroable};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[allow(unreachable_pub, reason = "generated")]
#[allow(clippy::undocumented_unsafe_blocks, clippy::expect_used, clippy::unwrap_used, clippy::panic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/ringfence.skel.rs"));
}
pub(super) use generated::{
    RingfenceMaps, RingfenceSkel, RingfenceSkelBuilder,
    types::{
        address, admission, admission_key, admits, bss, control, counter, event, layout, meaning, means, network,
        port_key, range_key, reason, report, side, slot, trial, verdict,
    },
};

/// Values that cross the border as the bytes that they are.
macro_rules! plain {
    ($($name:ident)*) => {$(
        // SAFETY: the type is `repr(C)` and made of integers and arrays of them, for which zero is a value.
        unsafe impl Zeroable for $name {}
        // SAFETY: as above, and its members fill it without padding, as the asserts on the sizes below show.
        unsafe impl Pod for $name {}
    )*};
}
plain! { means admits report layout verdict reason side address network meaning slot admission_key admission }
plain! { port_key range_key counter control event trial bss }

const _: () = {
    assert!(size_of::<address>() == 16);
    assert!(size_of::<network>() == 4 + 1 + 16 + 3);
    assert!(size_of::<meaning>() == 5 * 4);
    assert!(size_of::<slot>() == 8 + 2 * size_of::<meaning>());
    assert!(size_of::<admission_key>() == 8);
    assert!(size_of::<admission>() == 12);
    assert!(size_of::<port_key>() == 4 + 2 + 1 + 1);
    assert!(size_of::<range_key>() == 4 + 4 + 1 + 2 + 1);
    assert!(size_of::<counter>() == 4 * 8);
    assert!(size_of::<control>() == 8 + 4 + 4);
    assert!(size_of::<event>() == 2 * 8 + 2 * 16 + 2 * 2 + 4 + 6 * 4);
    assert!(size_of::<trial>() == 8 + 8 * 4);
    assert!(size_of::<bss>() == size_of::<trial>());
    assert!(reason::FIRST_ID.0 == FIRST_ID);
};

impl From<IpAddr> for address {
    fn from(ip: IpAddr) -> Self {
        let bytes = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        address { bytes }
    }
}

impl From<address> for IpAddr {
    fn from(key: address) -> Self {
        IpAddr::from(key.bytes).to_canonical()
    }
}

impl From<IpNet> for network {
    fn from(net: IpNet) -> Self {
        let mut key = network { prefixlen: 8 + u32::from(net.prefix_len()), ..network::zeroed() };
        match net.network() {
            IpAddr::V4(ip) => {
                key.family = 4;
                key.bytes[..4].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                key.family = 6;
                key.bytes = ip.octets();
            }
        }
        key
    }
}

impl network {
    /// The prefix, if the key is one.
    pub(super) fn prefix(&self) -> Option<IpNet> {
        let length = u8::try_from(self.prefixlen.checked_sub(8)?).ok()?;
        let [a, b, c, d, ..] = self.bytes;
        match self.family {
            4 => Ipv4Net::new(Ipv4Addr::new(a, b, c, d), length).ok().map(IpNet::V4),
            6 => Ipv6Net::new(Ipv6Addr::from(self.bytes), length).ok().map(IpNet::V6),
            _ => None,
        }
    }
}

impl From<Address> for meaning {
    fn from(Address { meaning: it, ifindex }: Address) -> Self {
        let local = if it.local { means::MEANS_LOCAL.0 } else { 0 };
        let closed = if it.closed { means::MEANS_CLOSED.0 } else { 0 };
        meaning {
            identity: it.identity.0,
            ingress: it.ingress.0,
            egress: it.egress.0,
            flags: means(local | closed),
            ifindex,
        }
    }
}

impl From<meaning> for Address {
    fn from(it: meaning) -> Self {
        let meaning = Meaning {
            identity: IdentityId(it.identity),
            ingress: PolicyId(it.ingress),
            egress: PolicyId(it.egress),
            local: it.flags.0 & means::MEANS_LOCAL.0 != 0,
            closed: it.flags.0 & means::MEANS_CLOSED.0 != 0,
        };
        Address { meaning, ifindex: it.ifindex }
    }
}

impl From<(PolicyId, IdentityId)> for admission_key {
    fn from((policy, identity): (PolicyId, IdentityId)) -> Self {
        admission_key { policy: policy.0, identity: identity.0 }
    }
}

impl From<admission_key> for (PolicyId, IdentityId) {
    fn from(key: admission_key) -> Self {
        (PolicyId(key.policy), IdentityId(key.identity))
    }
}

impl From<admission> for Admission {
    fn from(it: admission) -> Self {
        Admission { ports: PortSetId(it.port_set), any: (it.any != 0).then_some(RuleId(it.any)) }
    }
}

/// Where a port prefix lives: single ports are found by hash, all others by their longest prefix.
pub(super) enum PortPlace {
    Port(port_key),
    Range(range_key),
}

impl From<(PortSetId, PortPrefix)> for PortPlace {
    fn from((set, at): (PortSetId, PortPrefix)) -> Self {
        if at.bits >= 16 {
            PortPlace::Port(port_key { port_set: set.0, port: at.port.to_be(), protocol: at.protocol, pad: 0 })
        } else {
            PortPlace::Range(range_key {
                prefixlen: 40 + u32::from(at.bits),
                port_set: set.0.to_ne_bytes(),
                protocol: at.protocol,
                port: at.port.to_be_bytes(),
                pad: 0,
            })
        }
    }
}

impl From<port_key> for (PortSetId, PortPrefix) {
    fn from(key: port_key) -> Self {
        (PortSetId(key.port_set), PortPrefix { protocol: key.protocol, port: u16::from_be(key.port), bits: 16 })
    }
}

impl From<range_key> for (PortSetId, PortPrefix) {
    fn from(key: range_key) -> Self {
        // 40 to 55: only the conversion above makes such keys.
        let bits = key.prefixlen.saturating_sub(40).min(16) as u8;
        let port = u16::from_be_bytes(key.port);
        (PortSetId(u32::from_ne_bytes(key.port_set)), PortPrefix { protocol: key.protocol, port, bits })
    }
}
