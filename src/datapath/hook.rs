//! The place in the kernel where the program stands: POST_ROUTING, once for each family of addresses.
//!
//! Two priorities, so that a successor can be attached beside its predecessor before that one goes.

use super::error::Error;
use libbpf_rs::{Link, NF_INET_POST_ROUTING, NFPROTO_IPV4, NFPROTO_IPV6, NetfilterOpts, ProgramMut};
use nix::errno::Errno;

/// Before source NAT, which is at 100. One is in use, the other is for the successor.
pub(super) const PRIORITIES: [i32; 2] = [50, 51];

/// Let the kernel put fragments together before the hook.
const BPF_F_NETFILTER_IP_DEFRAG: u32 = 1;

/// A family of addresses that the hook is attached for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(super) const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }

    fn number(self) -> i32 {
        match self {
            Family::Ipv4 => NFPROTO_IPV4,
            Family::Ipv6 => NFPROTO_IPV6,
        }
    }
}

/// Attaches at one of the two priorities that is free; the other one is left for the successor, or is the predecessor's.
pub(super) fn attach(program: &ProgramMut<'_>, family: Family) -> Result<(Link, i32), Error> {
    for priority in PRIORITIES {
        let place = NetfilterOpts {
            protocol_family: family.number(),
            hooknum: NF_INET_POST_ROUTING,
            priority,
            flags: BPF_F_NETFILTER_IP_DEFRAG,
            ..NetfilterOpts::default()
        };
        match program.attach_netfilter_with_opts(place).map_err(|_| Errno::last()) {
            Ok(link) => return Ok((link, priority)),
            Err(Errno::EBUSY) => {}
            Err(Errno::EPERM) => return Err(Error::NotPermitted("attaching to POST_ROUTING".into())),
            Err(refused) => return Err(Error::NoHook(refused)),
        }
    }
    Err(Error::Taken { priorities: PRIORITIES, family: family.name() })
}
