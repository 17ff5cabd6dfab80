//! Probes: what is sent to a target and what an answer means. The trait [`Probe`] and the registry [`PROBES`].
//!
//! Contract of the family. A target of the plan is (address, port, protocol number); a probe serves the targets of the
//! numbers in [`Probe::protocols`]. A plan holds probes whose numbers are disjoint, so every target has one probe: where
//! one port is asked several questions, those beyond the first are targets of their own, under the private numbers of
//! [`Protocol`]. `templates` runs once per scan; `classify` is a pure function of the reply's bytes and of the
//! [`Judge`], and names the target by the plan's number. A reply is believed only when it brings back the target's
//! cookie; everything it proves is in the record's proof grade. `samples` are golden replies: the tests below judge
//! each of them and every prefix of each, and have every frame of every probe quoted by ICMP errors of every length.
//!
//! Invariant: probes never see a link, a clock or the key itself.

mod arp;
mod connect;
pub mod fault;
pub mod frame;
mod icmp;
mod ip;
mod ip_body;
mod nd;
pub mod payload;
pub mod sample;
mod sctp;
mod tcp;
mod udp;
mod udp_payload;

use std::net::IpAddr;
use std::sync::Arc;

use crate::batch::{Assigned, LANES, Secrets, Source, low_32};
use crate::cookie::{Cookie, CookieKey, CookieLanes, SourcePorts};
use crate::event::{Invalid, Proof, Reason, Record, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::Segment;

pub use connect::Connect;
pub use tcp::{Layout, Tcp};
pub use udp_payload::UdpPayloads;

/// Every probe, in the order of `--help`.
pub const PROBES: &[&'static dyn Probe] = &[
    &tcp::SYN,
    &tcp::FIN,
    &tcp::NULL,
    &tcp::XMAS,
    &tcp::ACK,
    &tcp::WINDOW,
    &tcp::MAIMON,
    &udp_payload::UDP,
    &sctp::INIT,
    &sctp::COOKIE_ECHO,
    &ip::PROTOCOL,
    &icmp::PING,
    &arp::SWEEP,
    &nd::SOLICIT,
    &tcp::PING_SYN,
    &tcp::PING_ACK,
    &udp::PING,
    &sctp::PING,
    &ip::PING,
];

/// One kind of probe.
pub trait Probe: Send + Sync {
    /// The name on the command line and in the manifest.
    fn name(&self) -> &'static str;

    /// One line for `--help`, at most 60 characters.
    fn about(&self) -> &'static str;

    /// The protocol numbers of the targets it probes: more than one when it has several questions for one port.
    fn protocols(&self) -> &[Protocol];

    /// The frames it sends from one source, each with the targets it is for. Empty when it cannot ask anything of the
    /// source's family.
    fn templates(&self, source: &Source, dress: &Dress) -> Vec<Assigned>;

    /// What a segment says that was received at `time_ns` (nanoseconds since the Unix epoch).
    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement;

    /// What each of many segments says: the dynamic call is made once for all of them.
    fn classify_all(&self, segments: &[(u64, Segment<'_>)], judge: &Judge, judgements: &mut Vec<Judgement>) {
        judgements.clear();
        judgements.extend(segments.iter().map(|(time_ns, segment)| self.classify(*time_ns, segment, judge)));
    }

    /// What it means when no answer comes.
    fn silence(&self) -> State;

    /// A port that golden replies are about.
    fn example(&self) -> Port {
        Port { protocol: self.protocols()[0], number: 443 }
    }

    /// Golden replies to a probe of `target`, a target of this probe's, as `judge` would have sent it. Empty for a
    /// family this probe does not know.
    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample>;
}

/// A row of the registry stands in a plan as it is, and so does one that is made when it is first used.
impl<P: std::ops::Deref<Target: Probe> + Send + Sync> Probe for P {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn about(&self) -> &'static str {
        (**self).about()
    }

    fn protocols(&self) -> &[Protocol] {
        (**self).protocols()
    }

    fn templates(&self, source: &Source, dress: &Dress) -> Vec<Assigned> {
        (**self).templates(source, dress)
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        (**self).classify(time_ns, segment, judge)
    }

    fn classify_all(&self, segments: &[(u64, Segment<'_>)], judge: &Judge, judgements: &mut Vec<Judgement>) {
        (**self).classify_all(segments, judge, judgements);
    }

    fn silence(&self) -> State {
        (**self).silence()
    }

    fn example(&self) -> Port {
        (**self).example()
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        (**self).samples(target, judge)
    }
}

/// The probe of that name, for a plan.
pub fn by_name(name: &str) -> Option<Arc<dyn Probe>> {
    if name == Connect::NAME {
        return Some(Arc::new(Connect));
    }
    let row = PROBES.iter().find(|probe| probe.name() == name)?;
    Some(Arc::new(*row))
}

/// The frames of several probes from several sources: what a link is opened with, in this order.
pub fn templates(probes: &[Arc<dyn Probe>], sources: &[Source], dress: &Dress) -> Vec<Assigned> {
    probes.iter().flat_map(|probe| sources.iter().flat_map(|source| probe.templates(source, dress))).collect()
}

/// A SYN without options whose frame is padded with zeroes to so many bytes; `None` when it cannot be so long or short.
pub fn padded_syn(source: &Source, dress: &Dress, bytes: u16) -> Option<crate::batch::Template> {
    tcp::padded_syn(source, dress, bytes.into())
}

/// The frames that close half-open connections, from several sources: [`crate::batch::Batch`] carries in the sequence number
/// what the SYN-ACK acknowledged.
pub fn resets(sources: &[Source], dress: &Dress) -> Vec<crate::batch::Template> {
    sources.iter().map(|source| tcp::reset(source, dress)).collect()
}

/// How a probe looks, where the user has a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dress {
    /// The TCP options of a SYN.
    pub layout: Layout,
    /// Time to live (hop limit).
    pub ttl: u8,
}

impl Default for Dress {
    fn default() -> Dress {
        Dress { layout: Layout::Mss, ttl: 64 }
    }
}

/// What a segment turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing that claims to answer this probe.
    NotOurs,
    /// Claims to answer and does not.
    Invalid(Invalid),
    /// A reply.
    Reply(Record),
}

/// A golden reply.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What it is.
    pub name: &'static str,
    /// The target it is about.
    pub target: Target,
    /// The whole Ethernet frame.
    pub frame: Vec<u8>,
    /// What it means.
    pub expected: Expected,
}

/// What a golden reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// As [`Judgement::NotOurs`].
    NotOurs,
    /// As [`Judgement::Invalid`].
    Invalid(Invalid),
    /// A reply with this state, reason and grade; the judge of the samples has 14 bits of source ports and two passes.
    Reply(State, Reason, Proof),
}

/// What is needed to believe a reply.
#[derive(Debug, Clone)]
pub struct Judge {
    key: CookieKey,
    ports: SourcePorts,
    passes: u8,
    sources: Vec<IpAddr>,
}

impl Judge {
    /// A judge of replies to probes from `sources` and `ports`, in `passes` passes.
    pub fn new(key: CookieKey, ports: SourcePorts, passes: u8, sources: Vec<IpAddr>) -> Judge {
        Judge { key, ports, passes, sources }
    }

    /// Whether a segment to this address is for us.
    #[inline]
    pub fn is_ours(&self, address: IpAddr) -> bool {
        self.sources.contains(&address)
    }

    /// How many passes there are.
    pub fn passes(&self) -> u8 {
        self.passes
    }

    /// Whether a port is one that probes come from.
    #[inline]
    pub fn is_source_port(&self, port: u16) -> bool {
        self.ports.contains(port)
    }

    /// The cookie of a target and the pass of a probe that came from `port`; `None` when no probe to this target
    /// comes from there.
    #[inline]
    pub fn verify(&self, target: &Target, port: u16) -> Option<(Cookie, u8)> {
        let cookie = self.key.cookie(target);
        self.pass(cookie, port).map(|pass| (cookie, pass))
    }

    /// The pass of a probe that carried this cookie and came from `port`; `None` when none does.
    #[inline]
    pub fn pass(&self, cookie: Cookie, port: u16) -> Option<u8> {
        self.ports.pass(cookie, port, self.passes)
    }

    /// The cookies of IPv4 targets of one protocol, all at once.
    #[inline]
    pub fn cookies_v4(
        &self,
        addresses: &[u32; LANES],
        ports: &[u16; LANES],
        protocol: Protocol,
        cookies: &mut CookieLanes,
    ) {
        self.key.cookies(addresses, ports, &[protocol.0; LANES], cookies);
    }

    /// The grade of a reply that brought back the source port and `bits` more secret bits.
    #[inline]
    pub fn proof(&self, bits: u32) -> Proof {
        match bits + self.ports.bits(self.passes) {
            0..24 => Proof::Weak,
            24..40 => Proof::Medium,
            40.. => Proof::Strong,
        }
    }

    /// What the frame of a probe carries.
    pub fn secrets(&self, target: &Target, pass: u8) -> Secrets {
        let cookie = self.key.cookie(target);
        Secrets {
            source_port: self.ports.port(cookie, pass),
            sequence: cookie.sequence(),
            identification: cookie.identification(),
        }
    }

    /// What the frame of a probe carried that came from `port`, with its pass; `None` when no probe to this target comes
    /// from there.
    #[inline]
    pub fn verify_secrets(&self, target: &Target, port: u16) -> Option<(Secrets, Cookie, u8)> {
        let (cookie, pass) = self.verify(target, port)?;
        let (sequence, identification) = (cookie.sequence(), cookie.identification());
        Some((Secrets { source_port: port, sequence, identification }, cookie, pass))
    }

    /// The address that probes to the family of an address come from, if there is one.
    pub fn source(&self, family_of: IpAddr) -> Option<IpAddr> {
        self.sources.iter().copied().find(|source| source.is_ipv4() == family_of.is_ipv4())
    }

    /// The source port of a probe.
    pub fn source_port(&self, target: &Target, pass: u8) -> u16 {
        self.ports.port(self.key.cookie(target), pass)
    }

    /// The cookie of a target, to write a probe or a golden reply.
    pub fn cookie(&self, target: &Target) -> Cookie {
        self.key.cookie(target)
    }
}

/// A verdict with the facts that every reply tells.
#[inline]
pub fn verdict(
    (time_ns, segment): (u64, &Segment<'_>),
    target: Target,
    (state, reason): (State, Reason),
    (proof, pass): (Proof, u8),
) -> Record {
    let mut record = Record::new(target, segment.source, state, reason);
    record.time_ns = time_ns;
    record.proof = proof;
    record.ttl = segment.ttl;
    record.ip_id = segment.identification;
    record.pass = pass;
    record
}

/// The round-trip time in microseconds that an echoed [`crate::batch::Carry::Time`] tells; 0 when it is not ours or older
/// than a minute.
pub fn round_trip_us(time_ns: u64, echoed: u32) -> u32 {
    let elapsed = low_32(time_ns / 1000).wrapping_sub(echoed);
    if echoed != 0 && elapsed < 60_000_000 { elapsed.max(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::{self, Mac};
    use crate::wire::{Frame, ipv4, ipv6, read};

    const SOURCES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
    const TARGETS: [&str; 2] = ["198.18.0.7", "2001:db8:1::7"];

    fn judge() -> Judge {
        let ports = SourcePorts::new(16384, 16384).expect("valid");
        let sources = SOURCES.map(|text| text.parse().expect("address"));
        Judge::new(CookieKey::new(*b"a key for tests!"), ports, 2, sources.to_vec())
    }

    fn judged(probe: &dyn Probe, frame: &[u8], judge: &Judge) -> Judgement {
        match read(frame) {
            Ok(Frame::Segment(segment)) => probe.classify(0, &segment, judge),
            _ => Judgement::NotOurs,
        }
    }

    /// The targets of a probe in both families, as far as it knows them.
    fn targets(probe: &dyn Probe) -> Vec<Target> {
        let addresses = TARGETS.iter().map(|text| text.parse::<IpAddr>().expect("address"));
        addresses
            .filter(|address| probe.example().exists_in(address.is_ipv6()))
            .map(|address| Target { address, port: probe.example() })
            .collect()
    }

    #[test]
    fn names_are_unique_and_descriptions_are_short() {
        for (index, probe) in PROBES.iter().enumerate() {
            assert!(PROBES[..index].iter().all(|other| other.name() != probe.name()));
            assert!(!probe.about().is_empty() && probe.about().len() <= 60, "{}", probe.name());
            assert!(!probe.protocols().is_empty() && !targets(*probe).is_empty(), "{}", probe.name());
        }
    }

    #[test]
    fn every_golden_reply_means_what_it_says() {
        for probe in PROBES {
            for target in targets(*probe) {
                let samples = probe.samples(&target, &judge());
                assert!(!samples.is_empty(), "{} has no samples of {target:?}", probe.name());
                for sample in samples {
                    let expected = match judged(*probe, &sample.frame, &judge()) {
                        Judgement::NotOurs => Expected::NotOurs,
                        Judgement::Invalid(invalid) => Expected::Invalid(invalid),
                        Judgement::Reply(record) => {
                            assert_eq!(record.target(), sample.target, "{}", sample.name);
                            Expected::Reply(record.state, record.reason, record.proof)
                        }
                    };
                    assert_eq!(expected, sample.expected, "{}: {} {target:?}", probe.name(), sample.name);
                }
            }
        }
    }

    #[test]
    fn segments_judged_together_are_judged_as_each_alone() {
        let judge = judge();
        let near = |address: IpAddr, number: u8| match address {
            IpAddr::V4(address) => IpAddr::from((u32::from(address) + u32::from(number)).to_be_bytes()),
            IpAddr::V6(address) => IpAddr::from((u128::from(address) + u128::from(number)).to_be_bytes()),
        };
        // Replies to every probe about several hosts of both families, good and bad, one behind the other.
        let frames: Vec<Vec<u8>> = (0..5)
            .flat_map(|number| PROBES.iter().map(move |probe| (number, *probe)))
            .flat_map(|(number, probe)| targets(probe).into_iter().map(move |target| (number, probe, target)))
            .map(|(number, probe, target)| {
                (probe, Target { address: near(target.address, number), ..target })
            })
            .flat_map(|(probe, target)| probe.samples(&target, &judge))
            .map(|sample| sample.frame)
            .collect();
        let segments: Vec<(u64, Segment<'_>)> = (0..)
            .zip(&frames)
            .filter_map(|(time_ns, frame)| match read(frame) {
                Ok(Frame::Segment(segment)) => Some((time_ns, segment)),
                _ => None,
            })
            .collect();
        let mut together = Vec::new();
        for probe in PROBES {
            for count in [1, 7, 8, 63, 64, 65, 1000] {
                for segments in segments.chunks(count) {
                    probe.classify_all(segments, &judge, &mut together);
                    let alone =
                        segments.iter().map(|(time_ns, segment)| probe.classify(*time_ns, segment, &judge));
                    assert!(together.iter().copied().eq(alone), "{}, {count} at once", probe.name());
                }
            }
        }
    }

    #[test]
    fn no_prefix_of_a_reply_panics_and_no_reply_convinces_another_key() {
        let stranger = Judge { key: CookieKey::new(*b"another key here"), ..judge() };
        for probe in PROBES {
            for sample in targets(*probe).iter().flat_map(|target| probe.samples(target, &judge())) {
                for length in 0..sample.frame.len() {
                    let _ = judged(*probe, &sample.frame[..length], &judge());
                }
                // What proves nothing convinces anybody: its grade says so.
                let weak = matches!(sample.expected, Expected::Reply(_, _, Proof::Weak));
                let verdict = judged(*probe, &sample.frame, &stranger);
                assert!(weak || !matches!(verdict, Judgement::Reply(_)), "{}: {}", probe.name(), sample.name);
            }
        }
    }

    /// Every frame of a probe as the stamper writes it, from both families.
    fn frames(probe: &dyn Probe) -> Vec<(Target, Vec<u8>)> {
        let both = targets(probe).into_iter();
        both.filter_map(|target| Some((target, sample::probe_frame(probe, &target, &judge(), 1)?))).collect()
    }

    /// Errors about every probe, quoting 8, 28, 128 and all bytes; and with one bit of the quote changed, which must never
    /// make it another probe's.
    #[test]
    fn an_error_is_judged_by_what_it_quotes_however_much_that_is() {
        for probe in PROBES {
            for (target, frame) in frames(*probe) {
                let us = judge().source(target.address).expect("a source");
                let router = sample::router(target.address);
                let kind = if us.is_ipv4() { [3, 1] } else { [1, 3] };
                for quoted in [8, 28, 128, usize::MAX >> 1] {
                    let error = sample::error(router, us, kind, &frame, quoted);
                    let Judgement::Reply(record) = judged(*probe, &error, &judge()) else {
                        if frame[12..14] == ethernet::ARP.to_be_bytes() || record_free(&frame) {
                            continue;
                        }
                        panic!("{}: a quote of {quoted} bytes is not recognised", probe.name());
                    };
                    assert_eq!((record.target(), record.pass, record.state), (target, 1, State::Filtered));
                    assert_eq!(record.responder(), router);
                }
                let translated = changed_identification(&frame);
                if us.is_ipv4() && 28 < translated.len() - ethernet::HEADER {
                    let error = sample::error(router, us, kind, &translated, 28);
                    let judgement = judged(*probe, &error, &judge());
                    let Judgement::Reply(record) = judgement else {
                        panic!("{}: {judgement:?}", probe.name())
                    };
                    assert_eq!(
                        record.target(),
                        target,
                        "an identification changed on the way says nothing else"
                    );
                }
            }
        }
    }

    /// Every frame of every probe, as an independent reader computes its checksums.
    #[test]
    fn stamped_frames_have_good_checksums_in_the_eyes_of_another_reader() {
        use etherparse::{NetSlice, SlicedPacket, TransportSlice};
        let mut checked = 0;
        for probe in PROBES {
            for (target, frame) in frames(*probe) {
                let packet = SlicedPacket::from_ethernet(&frame).expect("an Ethernet frame");
                let name = format!("{} {target:?}", probe.name());
                let (v4, v6) = match &packet.net {
                    Some(NetSlice::Ipv4(ip)) => {
                        let header = ip.header().to_header();
                        assert_eq!(header.calc_header_checksum(), header.header_checksum, "{name}");
                        (Some(header), None)
                    }
                    Some(NetSlice::Ipv6(ip)) => (None, Some(ip.header().to_header())),
                    _ => continue,
                };
                let (told, right) = match &packet.transport {
                    Some(TransportSlice::Tcp(tcp)) => (
                        tcp.checksum(),
                        match (&v4, &v6) {
                            (Some(ip), _) => tcp.to_header().calc_checksum_ipv4(ip, tcp.payload()),
                            (_, Some(ip)) => tcp.to_header().calc_checksum_ipv6(ip, tcp.payload()),
                            _ => continue,
                        },
                    ),
                    Some(TransportSlice::Udp(udp)) => (
                        udp.checksum(),
                        match (&v4, &v6) {
                            (Some(ip), _) => udp.to_header().calc_checksum_ipv4(ip, udp.payload()),
                            (_, Some(ip)) => udp.to_header().calc_checksum_ipv6(ip, udp.payload()),
                            _ => continue,
                        },
                    ),
                    Some(TransportSlice::Icmpv4(icmp)) => {
                        (icmp.checksum(), Ok(icmp.icmp_type().calc_checksum(icmp.payload())))
                    }
                    Some(TransportSlice::Icmpv6(icmp)) => {
                        let ip = v6.expect("IPv6");
                        (
                            icmp.checksum(),
                            icmp.icmp_type().calc_checksum(ip.source, ip.destination, icmp.payload()),
                        )
                    }
                    _ => continue,
                };
                assert_eq!(Some(told), right.ok(), "{name}");
                checked += 1;
            }
        }
        assert!(20 <= checked, "TCP, UDP, ICMP and ICMPv6 frames: {checked}");
    }

    /// Questions to the link are quoted by nobody.
    fn record_free(frame: &[u8]) -> bool {
        frame[12..14] == ethernet::IPV6.to_be_bytes() && frame[38] == 0xff
    }

    fn changed_identification(frame: &[u8]) -> Vec<u8> {
        let mut changed = frame.to_vec();
        changed[18] ^= 0x55;
        changed
    }

    /// Any single bit of the quoted transport header, but for those that carry nothing secret, makes the quote wrong.
    #[test]
    fn a_quote_with_a_wrong_port_or_number_is_refused() {
        for probe in PROBES {
            for (target, frame) in frames(*probe) {
                if frame[12..14] == ethernet::ARP.to_be_bytes() || record_free(&frame) {
                    continue;
                }
                let us = judge().source(target.address).expect("a source");
                let kind = if us.is_ipv4() { [3, 1] } else { [1, 3] };
                let transport = ethernet::HEADER + if us.is_ipv4() { ipv4::HEADER } else { ipv6::HEADER };
                let source = Source { address: us, mac: Mac::default(), vlan: None };
                let all = probe.templates(&source, &Dress::default());
                let is_it = |one: &&Assigned| {
                    let ports = one.ports.as_deref();
                    ports.is_none_or(|ports| ports.contains(&target.port.number))
                        && one.template.frame_length() == frame.len()
                };
                let blank = &all.iter().find(is_it).expect("it").template;
                for at in transport..frame.len().min(transport + 20) {
                    // Only what the stamper wrote there is secret.
                    if blank.bytes()[at] == frame[at] || blank.is_unproved(at) {
                        continue;
                    }
                    let mut wrong = frame.clone();
                    // Not the lowest bit: a source port beside the right one is that of another pass.
                    wrong[at] ^= 0x20;
                    let error = sample::error(sample::router(us), us, kind, &wrong, usize::MAX >> 1);
                    match judged(*probe, &error, &judge()) {
                        Judgement::Reply(record) => {
                            panic!(
                                "{}: byte {} of the header was wrong: {record:?}",
                                probe.name(),
                                at - transport
                            )
                        }
                        Judgement::NotOurs | Judgement::Invalid(_) => {}
                    }
                }
            }
        }
    }
}
