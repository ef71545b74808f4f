//! Just enough netlink to change nf_tables or an interface, to ask what there is, and to hear what the kernel says of it.

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect, recv, send,
            setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::os::fd::{AsRawFd, OwnedFd};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 16;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// How often a list is asked for that changes while it is read; the last answer is taken.
const TRIES: usize = 3;
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

    /// A number as the CPU orders it.
    pub(super) fn native(self, kind: u16, number: i32) -> Self {
        self.raw(kind, &number.to_ne_bytes())
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

/// Everything of a kind that this thread's network namespace has: what stands behind the headers of netlink. `header` is the
/// subsystem's.
pub(super) fn list(
    protocol: SockProtocol,
    kind: u16,
    header: &[u8],
    attributes: &Attributes,
) -> Result<Vec<Vec<u8>>, Errno> {
    let mut request = Vec::new();
    put(&mut request, kind, NLM_F_REQUEST | NLM_F_DUMP, 1, header, attributes);
    let mut answers = vec![0u8; 1 << 17];
    let mut found = Vec::new();
    for _ in 0..TRIES {
        found.clear();
        let socket = open(protocol)?;
        strict(&socket)?;
        send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
        let (mut done, mut interrupted) = (false, false);
        while !done {
            let length = recv(socket.as_raw_fd(), &mut answers, MsgFlags::empty())?;
            for (kind, flags, payload) in messages(&answers[..length]) {
                interrupted |= flags & NLM_F_DUMP_INTR != 0;
                match kind {
                    NLMSG_DONE => done = true,
                    NLMSG_ERROR => return Err(refusal(payload).unwrap_or(Errno::EBADMSG)),
                    _ => found.push(payload.to_vec()),
                }
            }
        }
        if !interrupted {
            break;
        }
    }
    Ok(found)
}

/// What the kernel tells by itself of interfaces, addresses and routes of a network namespace.
#[derive(Debug)]
pub(super) struct News(OwnedFd);

impl News {
    /// Listens to these groups (`RTMGRP_*`).
    pub(super) fn of(groups: libc::c_int) -> Result<Self, Errno> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups.cast_unsigned()))?;
        Ok(News(socket))
    }

    /// Waits until something is told, and takes all of it; what it is has to be asked.
    pub(super) fn wait(&self) -> Result<(), Errno> {
        let mut flags = MsgFlags::empty();
        loop {
            match recv(self.0.as_raw_fd(), &mut [0; 4096], flags) {
                // More was told than the socket could hold.
                Ok(_) | Err(Errno::ENOBUFS) => flags = MsgFlags::MSG_DONTWAIT,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Attributes in what the kernel says, by their kind.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, _) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn open(protocol: SockProtocol) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(5))?;
    connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

/// Lists are filtered by what the request says, and not silently all of them (Linux 4.20).
fn strict(socket: &OwnedFd) -> Result<(), Errno> {
    const NETLINK_GET_STRICT_CHK: libc::c_int = 12;
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one integer, which outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            NETLINK_GET_STRICT_CHK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(answer).map(drop)
}

/// Sends messages and waits until so many are acknowledged.
fn exchange(protocol: SockProtocol, bytes: &[u8], messages: u32) -> Result<OwnedFd, Errno> {
    let socket = open(protocol)?;
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
fn read(answers: &[u8]) -> Result<u32, Errno> {
    let mut acknowledged = 0;
    for (_, _, payload) in messages(answers).filter(|(kind, ..)| *kind == NLMSG_ERROR) {
        match refusal(payload) {
            Some(error) => return Err(error),
            None => acknowledged += 1,
        }
    }
    Ok(acknowledged)
}

/// Kind, flags and payload of each message.
fn messages(mut answers: &[u8]) -> impl Iterator<Item = (u16, u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = answers.split_first_chunk::<HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let flags = u16::from_ne_bytes([header[6], header[7]]);
        let payload = answers.get(HEADER..length)?;
        answers = answers.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, flags, payload))
    })
}

/// The error in an acknowledgement.
fn refusal(payload: &[u8]) -> Option<Errno> {
    let code = payload.first_chunk::<4>().map_or(-(Errno::EBADMSG as i32), |code| i32::from_ne_bytes(*code));
    (code != 0).then(|| Errno::from_raw(-code))
}
