//! Just enough netlink to change nf_tables or an interface, and to hear what the kernel says of it.

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::os::fd::{AsRawFd, OwnedFd};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
/// Length, type, flags, sequence number, port.
const HEADER: usize = 16;
const NFPROTO_INET: u8 = 1;

/// Attributes of a message.
#[derive(Debug, Default, Clone)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// A string, as C has it.
    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        self.raw(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// A number in network order.
    pub(super) fn number(self, kind: u16, number: u32) -> Self {
        self.raw(kind, &number.to_be_bytes())
    }

    /// A number below 256.
    pub(super) fn byte(self, kind: u16, number: u8) -> Self {
        self.raw(kind, &[number])
    }

    /// Attributes within one.
    pub(super) fn nested(self, kind: u16, inner: Attributes) -> Self {
        self.raw(kind | NLA_F_NESTED, &inner.0)
    }

    fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        // Longer values do not occur: names and numbers.
        self.0.extend(((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// Messages that take effect together or not at all.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    messages: u32,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Batch { bytes: Vec::new(), messages: 0 };
        batch.bound(libc::NFNL_MSG_BATCH_BEGIN as u16);
        batch
    }

    /// A message of nf_tables (`NFT_MSG_*`) for the inet family.
    pub(super) fn message(mut self, kind: libc::c_int, flags: libc::c_int, attributes: Attributes) -> Self {
        self.messages += 1;
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16;
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags as u16;
        put(&mut self.bytes, kind, flags, self.messages, &nfgenmsg(NFPROTO_INET, 0), &attributes);
        self
    }

    /// Sends it and waits until every message is acknowledged. The socket owns what was marked as owned.
    pub(super) fn send(mut self) -> Result<OwnedFd, Errno> {
        self.bound(libc::NFNL_MSG_BATCH_END as u16);
        exchange(SockProtocol::NetlinkNetFilter, &self.bytes, self.messages)
    }

    fn bound(&mut self, kind: u16) {
        let header = nfgenmsg(0, libc::NFNL_SUBSYS_NFTABLES as u16);
        put(&mut self.bytes, kind, NLM_F_REQUEST, self.messages, &header, &Attributes::default());
    }
}

/// Changes an interface of this thread's network namespace, by its index.
pub(super) fn change_link(index: u32, attributes: &Attributes) -> Result<(), Errno> {
    // struct ifinfomsg: family and type any, the index, no flags.
    let header = [[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat();
    let mut bytes = Vec::new();
    put(&mut bytes, libc::RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, &header, attributes);
    exchange(SockProtocol::NetlinkRoute, &bytes, 1).map(drop)
}

/// Sends messages and waits until so many are acknowledged.
fn exchange(protocol: SockProtocol, bytes: &[u8], messages: u32) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(5))?;
    connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(socket.as_raw_fd(), bytes, MsgFlags::empty())?;
    let mut answers = vec![0u8; 16384];
    let mut acknowledged = 0;
    while acknowledged < messages {
        let length = recv(socket.as_raw_fd(), &mut answers, MsgFlags::empty())?;
        acknowledged += read(&answers[..length])?;
    }
    Ok(socket)
}

fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// struct nlmsghdr, then the header of the subsystem, then attributes.
fn put(bytes: &mut Vec<u8>, kind: u16, flags: u16, number: u32, header: &[u8], attributes: &Attributes) {
    bytes.extend(((HEADER + header.len() + attributes.0.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(header);
    bytes.extend(&attributes.0);
}

/// How many messages are acknowledged here, or the first error.
fn read(mut answers: &[u8]) -> Result<u32, Errno> {
    let mut acknowledged = 0;
    while let Some((header, rest)) = answers.split_first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if kind == NLMSG_ERROR {
            let error = rest.first_chunk::<4>().map_or(-(Errno::EBADMSG as i32), |code| i32::from_ne_bytes(*code));
            if error != 0 {
                return Err(Errno::from_raw(-error));
            }
            acknowledged += 1;
        }
        answers = answers.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(acknowledged)
}
