//! The oracles: slow, naive bookkeepers that know nothing of swath. They read frames with etherparse, keep every probe
//! they saw, and judge every answer by what was really sent, as a scanner with a memory would.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::case::Case;

/// What a target turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Word {
    Open,
    Closed,
    Filtered,
}

type Target = (u32, u16);

/// What one run put on the wire and got back.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// How often each target was probed, and when last.
    probed: HashMap<Target, (u8, u64)>,
    /// The sequence number of every probe and when it left, by target and source port.
    pub(crate) sent: HashMap<(Target, u16), (u32, u64)>,
    /// Every answer that proves something: its target, and how long after the probe it came.
    pub(crate) answers: Vec<(Target, u64)>,
    pub(crate) frames: u64,
    pub(crate) questions: u64,
    /// For the rate law: frames so far less what was earned, and the lowest that ever was.
    lowest: Option<i128>,
    /// What undamaged frames prove, with the source ports of the probes they answer.
    pub(crate) proved: HashMap<(Target, Word), BTreeSet<u16>>,
    /// Targets about which a damaged frame came.
    pub(crate) damaged: BTreeSet<Target>,
    pub(crate) delivered: u64,
    /// Everything that went over the wire in either direction, in order.
    pub(crate) trace: Trace,
}

/// A fold of everything that happened: two runs of one seed have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace(pub(crate) u64);

impl Default for Trace {
    fn default() -> Trace {
        Trace(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    pub(crate) fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.add(u64::from_le_bytes(padded));
        }
    }
}

/// What the scan was allowed to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Law {
    pub(crate) rate_milli: Option<u64>,
    pub(crate) sigma: u64,
    /// The least time between two probes of one target; 0 says nothing.
    pub(crate) gap_ns: u64,
}

impl Oracle {
    /// A frame leaves the scanner.
    pub(crate) fn leaves(&mut self, now_ns: u64, frame: &[u8], case: &Case, law: &Law) -> Result<(), String> {
        self.trace.add(now_ns);
        self.trace.bytes(frame);
        self.count_towards_the_law(now_ns, law)?;
        let packet = SlicedPacket::from_ethernet(frame)
            .map_err(|error| format!("a frame nobody can read: {error}"))?;
        let ip = match &packet.net {
            Some(NetSlice::Arp(question)) => {
                self.questions += 1;
                let wanted = question.target_protocol_addr();
                let wanted =
                    u32::from_be_bytes(wanted.try_into().map_err(|_| "an ARP request for no IPv4 address")?);
                return allowed(wanted, case);
            }
            Some(NetSlice::Ipv4(ip)) => ip,
            other => return Err(format!("a frame of another kind left: {other:?}")),
        };
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return Err("no TCP header".into()) };
        let header = ip.header().to_header();
        if header.calc_header_checksum() != header.header_checksum {
            return Err("a wrong IP checksum".into());
        }
        if tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).ok()
            != Some(tcp.checksum())
        {
            return Err("a wrong TCP checksum".into());
        }
        if !tcp.syn() || tcp.ack() || tcp.rst() || tcp.fin() {
            return Err("a probe that is no SYN".into());
        }
        self.frames += 1;
        let target = (u32::from_be_bytes(ip.header().destination()), tcp.destination_port());
        allowed(target.0, case)?;
        if !case.targets.contains(&target) {
            return Err(format!("{}:{} is not in the plan", super::case::dotted(target.0), target.1));
        }
        self.probe(now_ns, target, (tcp.source_port(), tcp.sequence_number()), law)
    }

    fn probe(
        &mut self,
        now_ns: u64,
        target: Target,
        (port, sequence): (u16, u32),
        law: &Law,
    ) -> Result<(), String> {
        let (number, last_ns) = *self.probed.get(&target).unwrap_or(&(0, 0));
        if number != 0 && now_ns - last_ns < law.gap_ns {
            let apart = now_ns - last_ns;
            return Err(format!("{target:?} was probed again after {apart} ns, less than the gap"));
        }
        if self.sent.insert((target, port), (sequence, now_ns)).is_some() {
            return Err(format!("{target:?} was probed twice in one pass, from port {port}"));
        }
        self.probed.insert(target, (number + 1, now_ns));
        Ok(())
    }

    /// Over every window: running maximum of (frames - rate * time) less its running minimum stays below the burst.
    fn count_towards_the_law(&mut self, now_ns: u64, law: &Law) -> Result<(), String> {
        let Some(rate_milli) = law.rate_milli else { return Ok(()) };
        let earned = i128::from(now_ns) * i128::from(rate_milli);
        let level = |frames: u64| i128::from(frames) * 1_000_000_000_000 - earned;
        let before = level(self.frames + self.questions);
        let lowest = self.lowest.map_or(before, |lowest| lowest.min(before));
        self.lowest = Some(lowest);
        let excess = level(self.frames + self.questions + 1) - lowest;
        if i128::from(law.sigma) * 1_000_000_000_000 < excess {
            return Err(format!("frame {} at {now_ns} ns breaks the rate law", self.frames + self.questions));
        }
        Ok(())
    }

    /// A frame is handed to the scanner's receive loop.
    pub(crate) fn arrives(&mut self, time_ns: u64, frame: &[u8], damaged: Option<Target>) {
        self.trace.add(time_ns);
        self.trace.bytes(frame);
        self.delivered += 1;
        if let Some(target) = damaged {
            self.damaged.insert(target);
            return;
        }
        if let Some((target, word, port)) = self.judged(frame) {
            let left_ns = self.sent.get(&(target, port)).map_or(0, |(_, left_ns)| *left_ns);
            self.answers.push((target, time_ns.saturating_sub(left_ns)));
            self.proved.entry((target, word)).or_default().insert(port);
        }
    }

    /// What a frame says about a target that was really probed; none when it answers no probe.
    fn judged(&self, frame: &[u8]) -> Option<(Target, Word, u16)> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { return None };
        match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let target = (u32::from_be_bytes(ip.header().source()), tcp.source_port());
                let port = tcp.destination_port();
                let off = tcp.acknowledgment_number().wrapping_sub(self.sent.get(&(target, port))?.0);
                match (tcp.syn(), tcp.ack(), tcp.rst()) {
                    (true, true, false) if off == 1 => Some((target, Word::Open, port)),
                    // A simultaneous open: it proves nothing but the port, and its grade must say so.
                    (true, false, false) if !tcp.fin() => Some((target, Word::Open, port)),
                    (false, true, true) if off <= 1 => Some((target, Word::Closed, port)),
                    _ => None,
                }
            }
            Some(TransportSlice::Icmpv4(message)) => {
                let (kind, code) = (message.type_u8(), message.code_u8());
                let tells = match kind {
                    3 => code != 4 && code != 5 && code <= 15,
                    11 => true,
                    _ => false,
                };
                // A quote is cut off on purpose: it is read by hand, byte by byte.
                let quote = message.payload();
                let length = usize::from(quote.first()? & 0x0f) * 4;
                let transport = quote.get(length..).filter(|transport| 8 <= transport.len() && tells)?;
                let address = u32::from_be_bytes(quote.get(16..20)?.try_into().ok()?);
                let word = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
                let target = (address, word(2));
                let sequence = u32::from_be_bytes(transport[4..8].try_into().ok()?);
                (sequence == self.sent.get(&(target, word(0)))?.0).then_some((
                    target,
                    Word::Filtered,
                    word(0),
                ))
            }
            _ => None,
        }
    }

    /// The pass of a probe, from 0; none when its target was not probed in all `passes` passes. The source ports of a target
    /// follow each other in the order of the passes, at the end of the range from its beginning.
    pub(crate) fn pass_of(&self, target: Target, port: u16, passes: u8) -> Option<u8> {
        if self.probed.get(&target)?.0 != passes {
            return None;
        }
        let is_port = |port: u16| self.sent.contains_key(&(target, port));
        let before = |port: u16| if port == FIRST_PORT { LAST_PORT } else { port - 1 };
        let (mut pass, mut port) = (0, port);
        while is_port(before(port)) && pass < passes {
            port = before(port);
            pass += 1;
        }
        Some(pass)
    }

    /// Whether a target was probed at all.
    pub(crate) fn was_probed(&self, target: Target) -> bool {
        self.probed.contains_key(&target)
    }

    /// How often each target was probed.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Target, u8)> + '_ {
        self.probed.iter().map(|(target, (count, _))| (*target, *count))
    }
}

/// The source ports that the tests give swath.
pub(crate) const FIRST_PORT: u16 = 16_384;
const LAST_PORT: u16 = 32_767;

fn allowed(address: u32, case: &Case) -> Result<(), String> {
    if case.excluded.iter().any(|&(first, last)| first <= address && address <= last) {
        return Err(format!("{} is excluded and a frame is about it", Ipv4Addr::from(address)));
    }
    Ok(())
}
