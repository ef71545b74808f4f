//! The end of a cable: frames go out and are heard as they are, whatever a network stack thinks of them.
//!
//! [`Wire`] is one interface of a namespace; [`ip`] and its neighbours build packets that no socket would send.

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
    },
    sys::time::{TimeVal, TimeValLike},
};
use ringfence::demo::lab::Lab;
use std::{
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;

/// One interface of a namespace.
pub(super) struct Wire {
    socket: OwnedFd,
    at: LinkAddr,
    pub(super) mac: [u8; 6],
}

impl Wire {
    /// `eth0` of a pod, or `cni0` of a node.
    pub(super) fn of(lab: &Lab, space: &str) -> Self {
        let name = if space.starts_with("node") { "cni0" } else { "eth0" };
        lab.within(space, || {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20)).unwrap();
            let links = getifaddrs().unwrap().filter(|interface| interface.interface_name == name);
            let at = links.filter_map(|link| link.address?.as_link_addr().copied()).next().unwrap();
            Wire { socket, at, mac: at.addr().unwrap() }
        })
        .unwrap()
    }

    /// An IP packet in a frame to another interface.
    pub(super) fn send(&self, to: &Wire, packet: &[u8]) {
        self.send_to(to.mac, packet);
    }

    /// An IP packet in a frame to a MAC address.
    pub(super) fn send_to(&self, mac: [u8; 6], packet: &[u8]) {
        let kind = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        self.send_as(self.mac, mac, kind, packet);
    }

    /// Anything in a frame, from whomever.
    pub(super) fn send_as(&self, from: [u8; 6], to: [u8; 6], kind: [u8; 2], content: &[u8]) {
        let frame = [&to[..], &from, &kind, content].concat();
        sendto(self.socket.as_raw_fd(), &frame, &self.at, MsgFlags::empty()).unwrap();
    }

    /// An IP packet of this kind that came in within so long.
    pub(super) fn hears(&self, within: Duration, is: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let begun = Instant::now();
        let mut frame = [0; 2048];
        while begun.elapsed() < within {
            let Ok(length) = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) else { continue };
            let has_ip = matches!(frame[12..14], [0x08, 0x00] | [0x86, 0xdd]);
            if length > 14 && has_ip && frame[6..12] != self.mac && is(&frame[14..length]) {
                return Some(frame[14..length].to_vec());
            }
        }
        None
    }

    /// Whether a packet with this in it comes in.
    pub(super) fn hears_of(&self, mark: &[u8]) -> bool {
        self.hears(Duration::from_millis(150), |packet| has(packet, mark)).is_some()
    }
}

/// Whether a packet has this in it.
pub(super) fn has(packet: &[u8], mark: &[u8]) -> bool {
    packet.windows(mark.len()).any(|window| window == mark)
}

/// A header with right sums, and what comes after it.
pub(super) fn ip(protocol: u8, from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    ip_with(64, protocol, from, to, payload)
}

/// The same with a hop limit.
pub(super) fn ip_with(hops: u8, protocol: u8, from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = payload.len().try_into().unwrap();
            let mut header = Ipv4Header::new(length, hops, IpNumber(protocol), from.octets(), to.octets()).unwrap();
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut packet).unwrap();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: payload.len().try_into().unwrap(),
                next_header: IpNumber(protocol),
                hop_limit: hops,
                source: from.octets(),
                destination: to.octets(),
            };
            header.write(&mut packet).unwrap();
        }
        _ => panic!("two families"),
    }
    packet.extend_from_slice(payload);
    packet
}

/// A UDP header with the right sum, and what it carries.
pub(super) fn udp(from: IpAddr, to: IpAddr, source: u16, port: u16, body: &[u8]) -> Vec<u8> {
    let header = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = (8 + body.len()).try_into().unwrap();
            let ip = Ipv4Header::new(length, 64, IpNumber::UDP, from.octets(), to.octets()).unwrap();
            UdpHeader::with_ipv4_checksum(source, port, &ip, body).unwrap()
        }
        (from, to) => {
            let bytes = ip(17, from, to, &[]);
            UdpHeader::with_ipv6_checksum(source, port, &Ipv6Header::from_slice(&bytes).unwrap().0, body).unwrap()
        }
    };
    [&header.to_bytes()[..], body].concat()
}

/// An ICMP message of the family of `from`; `rest` is the second word of its header.
pub(super) fn icmp(from: IpAddr, to: IpAddr, [kind, code]: [u8; 2], rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest, body].concat();
    let sum = if from.is_ipv4() {
        sum(&message)
    } else {
        // The pseudo header: addresses, length, next header.
        let mut pseudo = ip(ICMPV6, from, to, &[])[8..40].to_vec();
        pseudo.extend((message.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, ICMPV6]);
        pseudo.extend(&message);
        self::sum(&pseudo)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
