//! The real programs on made-up packets, without interfaces or traffic (BPF_PROG_TEST_RUN).
//!
//! A test run sets neither the interface nor the conntrack state of a packet; the program takes both from the trial
//! then. It judges by whatever [`Datapath::apply`] put into its maps.

use super::{
    Config, Datapath, Error,
    abi::{self, bss},
    port::Side,
};
use libbpf_rs::{MapCore, MapFlags, ProgramInput, ProgramMut};
use std::time::Duration;

/// What conntrack says of a packet (`enum ip_conntrack_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conntrack {
    /// Nothing: it is off, or the packet is invalid.
    None,
    /// Of a connection that has seen both directions.
    Established,
    /// It has to do with another connection, and goes the way of that one's first packet.
    Related,
    /// The first of its connection.
    New,
    /// The other direction.
    Reply,
    /// It has to do with another connection, and goes against its first packet.
    RelatedReply,
}

/// A packet and how it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// From the IP header on.
    pub bytes: Vec<u8>,
    /// Which of the two hooks it is shown to: IPv6's or IPv4's.
    pub ipv6: bool,
    /// Interface that it came in by, 0 = the node itself sent it.
    pub ifindex: u32,
    /// Port of a bridge that it came in by, 0 = of none.
    pub port: u32,
    /// Interface that it leaves by, 0 = not known.
    pub out: u32,
    /// Port of a bridge that it leaves by, 0 = not known.
    pub out_port: u32,
    /// What conntrack says.
    pub conntrack: Conntrack,
    /// Nothing of it is in the linear part of the buffer.
    pub scattered: bool,
}

/// The program, attached to nothing.
#[derive(Debug)]
pub struct Trial {
    /// Its maps.
    pub datapath: Datapath,
    /// What the program remembers it finds once more; a packet on which it would judge otherwise is an error.
    pub doubts: bool,
}

impl Trial {
    /// Loads the program, which is never to be attached: it would believe the trial and not its packets. It doubts what it
    /// remembers.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let datapath = Datapath::load(config, true)?;
        Ok(Self { datapath, doubts: true })
    }

    /// Whether the packet passes.
    pub fn accepts(&self, frame: &Frame) -> Result<bool, Error> {
        self.run(frame, 1).map(|(accepts, _)| accepts)
    }

    /// The same a number of times, with the mean time of one.
    pub fn run(&self, frame: &Frame, times: u32) -> Result<(bool, Duration), Error> {
        self.at_hook(self.datapath.program.itself(), frame, times).map(|(answer, time)| (answer == 1, time))
    }

    /// Whether the packet leaves by the port that it leaves by, a number of times, with the mean time of one.
    pub fn leaves(&self, frame: &Frame, times: u32) -> Result<(bool, Duration), Error> {
        const TCX_DROP: u32 = 2;
        let program = self.datapath.program.of(Side::Leaves);
        self.test(program, frame, ProgramInput { repeat: times, ..Default::default() })
            .map(|(answer, time)| (answer != TCX_DROP, time))
    }

    /// The mean times of programs that do nothing, at the hook and at a port.
    pub fn nothing(&self, frame: &Frame, times: u32) -> Result<[Duration; 2], Error> {
        let [hook, port] = self.datapath.program.nothing();
        let port = self.test(port, frame, ProgramInput { repeat: times, ..Default::default() })?;
        Ok([self.at_hook(hook, frame, times)?.1, port.1])
    }

    fn at_hook(&self, program: &ProgramMut<'_>, frame: &Frame, times: u32) -> Result<(u32, Duration), Error> {
        const NF_INET_POST_ROUTING: u8 = 4;
        // struct nf_hook_state begins with hook and pf; the kernel wants the rest to be zero.
        let mut state = [0u8; 48];
        state[0] = NF_INET_POST_ROUTING;
        state[1] = if frame.ipv6 { 10 } else { 2 };
        self.test(program, frame, ProgramInput { context_in: Some(&mut state), repeat: times, ..Default::default() })
    }

    fn test(&self, program: &ProgramMut<'_>, frame: &Frame, input: ProgramInput<'_>) -> Result<(u32, Duration), Error> {
        let trial = abi::trial {
            conntrack: word(frame.conntrack),
            ifindex: frame.ifindex,
            port: frame.port,
            out: frame.out,
            out_port: frame.out_port,
            scattered: frame.scattered.into(),
            doubts: self.doubts.into(),
            mistaken: 0,
            pad: 0,
            generated: [],
        };
        let globals = &self.datapath.program.maps().bss;
        globals
            .update(&0u32.to_ne_bytes(), bytemuck::bytes_of(&bss { trial }), MapFlags::ANY)
            .map_err(|_| Error::last("setting up the test run"))?;
        let mut data = [0u8; 14].to_vec();
        data[12..].copy_from_slice(if frame.ipv6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        data.extend_from_slice(&frame.bytes);
        let input = ProgramInput { data_in: Some(&data), ..input };
        let output = program.test_run(input).map_err(|_| Error::last("the test run"))?;
        let after = globals.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten();
        match after.as_deref().and_then(|bytes| bytemuck::try_pod_read_unaligned::<bss>(bytes).ok()) {
            Some(bss { trial: abi::trial { mistaken: 0, .. } }) => Ok((output.return_value, output.duration)),
            _ => Err(Error::Misfit("what the program remembers is not what it finds".to_owned())),
        }
    }
}

/// As `skb->_nfct` has it: an address that nobody follows, and the state in its low bits.
fn word(conntrack: Conntrack) -> u64 {
    const ENTRY: u64 = 0x1000;
    match conntrack {
        Conntrack::None => 0,
        Conntrack::Established => ENTRY,
        Conntrack::Related => ENTRY | 1,
        Conntrack::New => ENTRY | 2,
        Conntrack::Reply => ENTRY | 3,
        Conntrack::RelatedReply => ENTRY | 4,
    }
}
