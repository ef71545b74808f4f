//! What the kernel tells as it happens: dropped packets, the first ones of connections that policies in audit would deny,
//! and on request those of all that are accepted.
//!
//! The kernel limits events for each counter, CPU and second; counters count everything.

use super::{
    Datapath, Error,
    abi::{event, reason, side, verdict},
};
use crate::policy::model::Direction;
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use nix::libc;
use std::{
    net::IpAddr,
    os::fd::{AsRawFd, RawFd},
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

/// Why a packet passed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A policy decided: it isolates and none of its rules admits, or a rule admitted.
    Policy,
    /// Headers that can not be read.
    Malformed,
    /// A fragment that was not put together before the hook.
    Fragment,
    /// An address of this node's pod ranges that is no known pod.
    Closed,
    /// A router advertisement or redirect that a pod sent.
    Redirect,
    /// Sent by the node itself.
    Node,
    /// Neighbour discovery, multicast listener reports.
    Neighbour,
    /// Neither end is isolated here.
    Open,
    /// A pod to itself.
    Itself,
    /// It came in by an interface that its source is not bound to.
    Spoofed,
    /// It would leave by an interface that its destination is not bound to.
    Astray,
    /// A VLAN tag keeps it from the hook.
    Tagged,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 12] = [
        Reason::Policy,
        Reason::Malformed,
        Reason::Fragment,
        Reason::Closed,
        Reason::Redirect,
        Reason::Node,
        Reason::Neighbour,
        Reason::Open,
        Reason::Itself,
        Reason::Spoofed,
        Reason::Astray,
        Reason::Tagged,
    ];

    /// Its place in the counters. [`Reason::Policy`] is not counted there: the policy or rule is.
    pub fn id(self) -> u32 {
        self.raw().0
    }

    /// In a word, as metrics and flows name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Policy => "policy",
            Reason::Malformed => "malformed",
            Reason::Fragment => "fragment",
            Reason::Closed => "closed",
            Reason::Redirect => "redirect",
            Reason::Node => "node",
            Reason::Neighbour => "neighbour",
            Reason::Open => "open",
            Reason::Itself => "self",
            Reason::Spoofed => "spoofed",
            Reason::Astray => "astray",
            Reason::Tagged => "tagged",
        }
    }

    fn raw(self) -> reason {
        match self {
            Reason::Policy => reason::REASON_POLICY,
            Reason::Malformed => reason::REASON_MALFORMED,
            Reason::Fragment => reason::REASON_FRAGMENT,
            Reason::Closed => reason::REASON_CLOSED,
            Reason::Redirect => reason::REASON_REDIRECT,
            Reason::Node => reason::REASON_NODE,
            Reason::Neighbour => reason::REASON_NEIGHBOUR,
            Reason::Open => reason::REASON_OPEN,
            Reason::Itself => reason::REASON_SELF,
            Reason::Spoofed => reason::REASON_SPOOFED,
            Reason::Astray => reason::REASON_ASTRAY,
            Reason::Tagged => reason::REASON_TAGGED,
        }
    }
}

/// One packet. Source and destination are those of the connection's first packet: a reply is told as what it answers, an
/// ICMP error as the packet that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// Since the boot, without the time asleep (CLOCK_MONOTONIC).
    pub time: Duration,
    /// The generation of the state that the packet saw.
    pub generation: u64,
    /// Source address, `::` if the headers could not be read.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port; the type of an ICMP message.
    pub source_port: u16,
    /// Destination port; the code of an ICMP message.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// The packet went from destination to source.
    pub reply: bool,
    /// Whether it passed.
    pub accepted: bool,
    /// Whether it passed only because the policy is in audit.
    pub audited: bool,
    /// Why.
    pub reason: Reason,
    /// The side that decided.
    pub side: Option<Direction>,
    /// The policy that denied, or would; or the rule that admitted; 0 = nobody was asked.
    pub id: u32,
    /// Bytes of the packet from the IP header on.
    pub length: u32,
    /// Interface that it came in by: the port, where that is one of a bridge.
    pub ifindex: u32,
}

impl From<event> for Event {
    fn from(raw: event) -> Self {
        let decided_by = match raw.side {
            side::SIDE_INGRESS => Some(Direction::Ingress),
            side::SIDE_EGRESS => Some(Direction::Egress),
            _ => None,
        };
        Event {
            time: Duration::from_nanos(raw.time),
            generation: raw.generation,
            source: raw.source.into(),
            destination: raw.destination.into(),
            source_port: raw.source_port,
            destination_port: raw.destination_port,
            protocol: raw.protocol,
            reply: raw.reply != 0,
            accepted: raw.verdict != verdict::VERDICT_DROP,
            audited: raw.verdict == verdict::VERDICT_AUDIT,
            reason: Reason::ALL.into_iter().find(|known| known.raw() == raw.reason).unwrap_or(Reason::Policy),
            side: decided_by,
            id: raw.id,
            length: raw.length,
            ifindex: raw.ifindex,
        }
    }
}

/// The stream of events. The kernel has one: two readers share its events.
#[derive(Debug)]
pub struct Events {
    ring: RingBuffer<'static>,
    received: Receiver<Event>,
    /// The ring waits on its descriptor.
    _map: libbpf_rs::MapHandle,
}

impl Events {
    /// At most this many are returned by one call.
    pub const BATCH: usize = 1024;

    /// What happened since the last call, oldest first; waits for something to happen, but no longer than `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Result<Vec<Event>, Error> {
        let mut events = self.take()?;
        if events.is_empty() && !timeout.is_zero() {
            self.wait(timeout);
            events = self.take()?;
        }
        Ok(events)
    }

    /// Not the ring's own poll: that would consume more than a batch.
    fn wait(&self, timeout: Duration) {
        let milliseconds = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
        let mut waiting = libc::pollfd { fd: self.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one `pollfd`, which outlives the call. Whatever it answers, the ring is looked at afterwards.
        unsafe { libc::poll(&raw mut waiting, 1, milliseconds) };
    }

    fn take(&mut self) -> Result<Vec<Event>, Error> {
        let consumed = self.ring.consume_raw_n(Self::BATCH);
        if consumed < 0 && consumed != FULL {
            return Err(Error::last("reading events"));
        }
        Ok(self.received.try_iter().collect())
    }
}

impl AsRawFd for Events {
    /// Readable when there are events.
    fn as_raw_fd(&self) -> RawFd {
        self.ring.epoll_fd()
    }
}

/// What stops the consumption of a ring.
const FULL: i32 = -(nix::errno::Errno::ENOBUFS as i32);

impl Datapath {
    /// Begins to read events.
    pub fn events(&self) -> Result<Events, Error> {
        let map = libbpf_rs::MapHandle::try_from(&self.maps.events).map_err(|_| Error::last("opening `events`"))?;
        let (sender, received) = sync_channel(Events::BATCH);
        let mut builder = RingBufferBuilder::new();
        let each = move |bytes: &[u8]| {
            if bytes.len() < size_of::<event>() {
                return 0;
            }
            let raw: event = bytemuck::pod_read_unaligned(&bytes[..size_of::<event>()]);
            if sender.try_send(Event::from(raw)).is_ok() { 0 } else { FULL }
        };
        builder.add(&map, each).map_err(|_| Error::last("reading `events`"))?;
        let ring = builder.build().map_err(|_| Error::last("reading `events`"))?;
        Ok(Events { ring, received, _map: map })
    }
}
