//! The SYN probe (half-open scan): SYN-ACK means open, RST closed, an ICMP error filtered.

use std::net::IpAddr;

use super::{Dress, Expected, Judge, Judgement, Probe, Sample};
use crate::batch::{Source, Template, low_32};
use crate::event::{Invalid, Reason, Record, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::ethernet::{self, Mac};
use crate::wire::icmp::{self, Quoted};
use crate::wire::tcp::{self, flag};
use crate::wire::{Malformed, Segment, Transport, checksum, ipv4, ipv6};

/// The registry row.
pub(super) struct TcpSyn;

/// Which options a SYN carries. A frame of up to 60 bytes costs the same on Ethernet, so the MSS option is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Maximum segment size 1460 only: 58 bytes of frame.
    #[default]
    Mss,
    /// MSS, window scale 8, SACK permitted, in the order of Windows: 66 bytes.
    Windows,
    /// MSS, SACK permitted, timestamps, window scale 7, in the order of Linux: 74 bytes. Replies tell the round-trip
    /// time.
    Linux,
    /// No options: 54 bytes. Some hosts do not answer such a SYN.
    Bare,
}

impl Layout {
    /// Every layout with its name on the command line.
    pub const ALL: [(Layout, &'static str); 4] = [
        (Layout::Mss, "mss"),
        (Layout::Windows, "windows"),
        (Layout::Linux, "linux"),
        (Layout::Bare, "bare"),
    ];

    /// The option bytes, and where among them the timestamp value stands.
    fn options(self) -> (&'static [u8], Option<usize>) {
        match self {
            Layout::Mss => (&[2, 4, 5, 0xb4], None),
            Layout::Windows => (&[2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2], None),
            Layout::Linux => (&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7], Some(8)),
            Layout::Bare => (&[], None),
        }
    }
}

impl Probe for TcpSyn {
    fn name(&self) -> &'static str {
        "syn"
    }

    fn about(&self) -> &'static str {
        "half-open TCP: SYN, no connection is made (default)"
    }

    fn protocol(&self) -> Protocol {
        Protocol::TCP
    }

    fn template(&self, source: &Source, dress: &Dress) -> Template {
        let (options, timestamp) = dress.layout.options();
        let segment = tcp::header(flag::SYN, WINDOW, options);
        let length = u16::try_from(segment.len()).expect("a TCP header has at most 60 bytes");
        let mut frame = Vec::with_capacity(128);
        match source.address {
            IpAddr::V4(address) => {
                frame.extend(ethernet::header(Mac::default(), source.mac, ethernet::IPV4));
                let mut header = ipv4::header(&ipv4::Fields {
                    source: address,
                    destination: [0; 4].into(),
                    protocol: Protocol::TCP.0,
                    ttl: dress.ttl,
                    identification: 0,
                    payload_length: length,
                });
                header[10..12].fill(0);
                frame.extend(header);
            }
            IpAddr::V6(address) => {
                frame.extend(ethernet::header(Mac::default(), source.mac, ethernet::IPV6));
                frame.extend(ipv6::header(address, [0; 16].into(), Protocol::TCP.0, dress.ttl, length));
            }
        }
        frame.extend(segment);
        Template::tcp(frame, timestamp.map(|offset| tcp::HEADER + offset))
    }

    #[inline]
    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        if !judge.is_ours(segment.destination) {
            return Judgement::NotOurs;
        }
        match &segment.transport {
            Transport::Tcp(header) => answer(time_ns, segment, header, judge),
            Transport::Icmp(message) => match icmp_verdict(message) {
                Some(verdict) => icmp_answer(time_ns, segment, message.quoted_v4(), (verdict, judge)),
                None => Judgement::NotOurs,
            },
            Transport::Icmpv6(message) => match icmpv6_verdict(message) {
                Some(verdict) => icmp_answer(time_ns, segment, message.quoted_v6(), (verdict, judge)),
                None => Judgement::NotOurs,
            },
            Transport::Other(_) => Judgement::NotOurs,
        }
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        samples::all(target, judge)
    }
}

/// Judges a TCP segment that is addressed to us.
fn answer(time_ns: u64, segment: &Segment<'_>, header: &tcp::Header<'_>, judge: &Judge) -> Judgement {
    let port = header.destination_port();
    // On loopback we hear our own probes; one to a port of the same range would look like an answer.
    let own_probe = header.flags() == flag::SYN
        && judge.is_source_port(header.source_port())
        && judge.is_ours(segment.source);
    if !judge.is_source_port(port) || own_probe {
        return Judgement::NotOurs;
    }
    let target = tcp_target(segment.source, header.source_port());
    let Some((cookie, pass)) = judge.verify(&target, port) else {
        return Judgement::Invalid(Invalid::BadCookie);
    };
    let sequence = cookie.sequence();
    let next = sequence.wrapping_add(1);
    let acknowledged = header.acknowledgement();
    let (state, reason, bits) = match (header.has(flag::SYN), header.has(flag::ACK), header.has(flag::RST)) {
        // RFC 9293 section 3.10.7.3: a SYN-ACK acknowledges exactly our SYN.
        (true, true, false) if acknowledged == next => (State::Open, Reason::SYN_ACK, 32),
        // A RST acknowledges the SYN (RFC 9293 section 3.10.7.1); some stacks acknowledge its first number.
        (false, true, true) if acknowledged == next || acknowledged == sequence => {
            (State::Closed, Reason::RESET, 31)
        }
        (true, true, false) | (false, true, true) => return Judgement::Invalid(Invalid::BadCookie),
        (false, false, true) => return Judgement::Invalid(Invalid::RstWithoutAck),
        _ => return Judgement::Invalid(Invalid::UnexpectedFlags),
    };
    let options = header.options();
    let mut record = Record::new(target, segment.source, state, reason);
    record.time_ns = time_ns;
    record.proof = judge.proof(bits);
    record.ttl = segment.ttl;
    record.ip_id = segment.identification;
    record.window = header.window();
    record.mss = options.mss.unwrap_or(0);
    record.window_scale = options.window_scale.unwrap_or(Record::NO_SCALE);
    record.options_hash = options.layout_hash;
    record.rtt_us = options.timestamps.map_or(0, |(_, echoed)| round_trip_us(time_ns, echoed));
    record.pass = pass;
    Judgement::Reply(record)
}

/// Judges an ICMP error by everything it quotes.
fn icmp_answer(
    time_ns: u64,
    segment: &Segment<'_>,
    quoted: Result<Quoted<'_>, Malformed>,
    (reason, judge): (Reason, &Judge),
) -> Judgement {
    let Ok(quoted) = quoted else { return Judgement::Invalid(Invalid::UnmatchedIcmp) };
    let Some((source_port, destination_port, sequence)) = quoted.transport_head() else {
        return Judgement::Invalid(Invalid::UnmatchedIcmp);
    };
    // An error about a connection of this host's own is none of ours.
    if quoted.protocol != Protocol::TCP.0 || !judge.is_source_port(source_port) {
        return Judgement::NotOurs;
    }
    let target = tcp_target(quoted.destination, destination_port);
    let verified = judge
        .verify(&target, source_port)
        .filter(|(cookie, _)| cookie.sequence() == sequence && judge.is_ours(quoted.source));
    let Some((_, pass)) = verified else { return Judgement::Invalid(Invalid::UnmatchedIcmp) };
    let mut record = Record::new(target, segment.source, State::Filtered, reason);
    record.time_ns = time_ns;
    record.proof = judge.proof(32);
    record.ttl = segment.ttl;
    record.ip_id = segment.identification;
    record.pass = pass;
    Judgement::Reply(record)
}

/// The round-trip time that an echoed timestamp tells; 0 when it is not ours or older than a minute.
fn round_trip_us(time_ns: u64, echoed: u32) -> u32 {
    let now = low_32(time_ns / 1000);
    let elapsed = now.wrapping_sub(echoed);
    if echoed != 0 && elapsed < 60_000_000 { elapsed.max(1) } else { 0 }
}

/// What an ICMP error means for a TCP port; `None` for messages that say nothing about it. Every such error means
/// filtered, a port-unreachable included (`reference: nmap`, table 1.2).
fn icmp_verdict(message: &icmp::Message<'_>) -> Option<Reason> {
    match (message.kind, message.code) {
        (icmp::UNREACHABLE, 0) => Some(Reason::NET_UNREACH),
        (icmp::UNREACHABLE, 1) => Some(Reason::HOST_UNREACH),
        (icmp::UNREACHABLE, 2) => Some(Reason::PROTO_UNREACH),
        (icmp::UNREACHABLE, 3) => Some(Reason::PORT_UNREACH),
        (icmp::UNREACHABLE, 9) => Some(Reason::NET_PROHIBITED),
        (icmp::UNREACHABLE, 10) => Some(Reason::HOST_PROHIBITED),
        (icmp::UNREACHABLE, 13) => Some(Reason::ADMIN_PROHIBITED),
        // 3/4 (fragmentation needed) and 3/5 (source route failed) say nothing about the port.
        (icmp::UNREACHABLE, 6 | 7 | 8 | 11 | 12 | 14 | 15) => Some(Reason::DEST_UNREACH),
        (icmp::TIME_EXCEEDED, _) => Some(Reason::TIME_EXCEEDED),
        _ => None,
    }
}

/// As [`icmp_verdict`], for ICMPv6 (RFC 4443 sections 3.1 to 3.4).
fn icmpv6_verdict(message: &icmp::Message<'_>) -> Option<Reason> {
    match (message.kind, message.code) {
        (icmp::V6_UNREACHABLE, 0) => Some(Reason::NO_ROUTE),
        (icmp::V6_UNREACHABLE, 1 | 5) => Some(Reason::ADMIN_PROHIBITED),
        (icmp::V6_UNREACHABLE, 2) => Some(Reason::BEYOND_SCOPE),
        (icmp::V6_UNREACHABLE, 3) => Some(Reason::HOST_UNREACH),
        (icmp::V6_UNREACHABLE, 4) => Some(Reason::PORT_UNREACH),
        (icmp::V6_UNREACHABLE, 6) => Some(Reason::REJECT_ROUTE),
        (icmp::V6_TIME_EXCEEDED, _) => Some(Reason::TIME_EXCEEDED),
        (icmp::V6_PARAMETER_PROBLEM, 1) => Some(Reason::PARAM_PROBLEM),
        _ => None,
    }
}

fn tcp_target(address: IpAddr, number: u16) -> Target {
    Target { address, port: Port { protocol: Protocol::TCP, number } }
}

/// The largest window without scaling: what most stacks send in a SYN.
const WINDOW: u16 = 65_535;

/// Golden replies, written with `wire`'s writers and read by its readers; the independent reader is in `wire`'s own
/// tests and in the namespace tests.
mod samples {
    use super::*;

    pub(super) fn all(target: &Target, judge: &Judge) -> Vec<Sample> {
        let sequence = judge.cookie(target).sequence();
        let next = sequence.wrapping_add(1);
        let open = Expected::Reply(State::Open, Reason::SYN_ACK);
        let closed = Expected::Reply(State::Closed, Reason::RESET);
        let bad = |invalid| Expected::Invalid(invalid);
        let tcp = |name, flags, acknowledged, expected| Sample {
            name,
            frame: reply(target, judge, flags, acknowledged),
            expected,
        };
        let mut samples = vec![
            tcp("SYN-ACK", flag::SYN | flag::ACK, next, open),
            tcp("SYN-ACK with PSH and ECE", flag::SYN | flag::ACK | flag::PSH | 0x40, next, open),
            tcp("RST-ACK", flag::RST | flag::ACK, next, closed),
            tcp("RST-ACK of our first number", flag::RST | flag::ACK, sequence, closed),
            tcp("RST without ACK", flag::RST, 0, bad(Invalid::RstWithoutAck)),
            tcp("SYN-ACK of our first number", flag::SYN | flag::ACK, sequence, bad(Invalid::BadCookie)),
            tcp("SYN-ACK of another number", flag::SYN | flag::ACK, next ^ 0x8000, bad(Invalid::BadCookie)),
            tcp("SYN and RST", flag::SYN | flag::RST | flag::ACK, next, bad(Invalid::UnexpectedFlags)),
            tcp("bare SYN", flag::SYN, 0, bad(Invalid::UnexpectedFlags)),
            tcp("bare ACK", flag::ACK, next, bad(Invalid::UnexpectedFlags)),
        ];
        let filtered = [
            ("network unreachable", 3, 0, Reason::NET_UNREACH),
            ("host unreachable", 3, 1, Reason::HOST_UNREACH),
            ("protocol unreachable", 3, 2, Reason::PROTO_UNREACH),
            ("port unreachable", 3, 3, Reason::PORT_UNREACH),
            ("network prohibited", 3, 9, Reason::NET_PROHIBITED),
            ("host prohibited", 3, 10, Reason::HOST_PROHIBITED),
            ("communication prohibited", 3, 13, Reason::ADMIN_PROHIBITED),
            ("precedence cut-off", 3, 15, Reason::DEST_UNREACH),
            ("time exceeded", 11, 0, Reason::TIME_EXCEEDED),
        ];
        for (name, kind, code, reason) in filtered {
            let expected = Expected::Reply(State::Filtered, reason);
            samples.push(Sample { name, frame: error(target, judge, (kind, code), sequence, 8), expected });
        }
        let unmatched = bad(Invalid::UnmatchedIcmp);
        for (name, kind, code, sent, quoted, expected) in [
            (
                "quote of the whole header",
                3,
                1,
                sequence,
                20,
                Expected::Reply(State::Filtered, Reason::HOST_UNREACH),
            ),
            ("quote with another sequence number", 3, 1, sequence ^ 1, 8, unmatched),
            ("quote that is too short", 3, 1, sequence, 7, unmatched),
            ("fragmentation needed", 3, 4, sequence, 8, Expected::NotOurs),
            ("source quench", 4, 0, sequence, 8, Expected::NotOurs),
        ] {
            samples.push(Sample { name, frame: error(target, judge, (kind, code), sent, quoted), expected });
        }
        samples
    }

    fn reply(target: &Target, judge: &Judge, flags: u8, acknowledged: u32) -> Vec<u8> {
        let mut segment = tcp::header(flags, 64_240, &[2, 4, 5, 0xb4, 1, 3, 3, 7]);
        segment[0..2].copy_from_slice(&target.port.number.to_be_bytes());
        segment[2..4].copy_from_slice(&judge.source_port(target, 1).to_be_bytes());
        segment[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        packet(target.address, judge.sources[0], Protocol::TCP, &segment)
    }

    fn error(target: &Target, judge: &Judge, message: (u8, u8), sequence: u32, quoted: usize) -> Vec<u8> {
        let mut segment = tcp::header(flag::SYN, WINDOW, &[]);
        segment[0..2].copy_from_slice(&judge.source_port(target, 0).to_be_bytes());
        segment[2..4].copy_from_slice(&target.port.number.to_be_bytes());
        segment[4..8].copy_from_slice(&sequence.to_be_bytes());
        let original = packet(judge.sources[0], target.address, Protocol::TCP, &segment);
        let mut body = vec![message.0, message.1, 0, 0, 0, 0, 0, 0];
        body.extend_from_slice(&original[ethernet::HEADER..ethernet::HEADER + ipv4::HEADER + quoted]);
        let sum = checksum::finish(checksum::sum(&body));
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        packet([192, 0, 2, 254].into(), judge.sources[0], Protocol::ICMP, &body)
    }

    /// An Ethernet frame between two IPv4 addresses; IPv6 samples need no more than their own constructor later.
    fn packet(source: IpAddr, destination: IpAddr, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) else { return Vec::new() };
        let mut frame = ethernet::header(Mac([2; 6]), Mac([4; 6]), ethernet::IPV4).to_vec();
        frame.extend(ipv4::header(&ipv4::Fields {
            source,
            destination,
            protocol: protocol.0,
            ttl: 57,
            identification: 0x1234,
            payload_length: u16::try_from(payload.len()).expect("samples are short"),
        }));
        frame.extend_from_slice(payload);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::cookie::{CookieKey, SourcePorts};
    use crate::target::Cursor;

    /// Every layout, both families, at odd and extreme values: the stamped frame has the checksums that an
    /// independent reader computes.
    #[test]
    fn stamped_frames_carry_the_checksums_of_an_independent_reader() {
        for (layout, name) in Layout::ALL {
            for address in ["192.0.2.1", "2001:db8::1"] {
                let source =
                    Source { address: address.parse().expect("address"), mac: Mac([2, 0, 0, 0, 0, 1]) };
                let template = TcpSyn.template(&source, &Dress { layout, ttl: 64 });
                let mut batch = Batch::empty();
                batch.resize(64);
                for lane in 0..64 {
                    let spread = (lane as u32).wrapping_mul(0x9e37_79b9);
                    batch.cursor[lane] = Cursor(0);
                    batch.destination_v4[lane] = if lane == 0 { u32::MAX } else { spread };
                    batch.destination_v6[lane] = u128::from(spread) << 64 | u128::from(!spread);
                    batch.destination_port[lane] = (spread >> 7) as u16;
                    batch.source_port[lane] = (spread >> 11) as u16;
                    batch.sequence[lane] = if lane == 1 { u32::MAX } else { spread.rotate_left(9) };
                    batch.identification[lane] = (spread >> 3) as u16;
                }
                batch.time_us = 0xfedc_ba98;
                for lane in 0..64 {
                    let mut slot = [0xaa; 128];
                    let length = template.stamp(&batch, lane, Mac([4; 6]), &mut slot);
                    assert_eq!(length, template.frame_length());
                    check(&slot[..length], name);
                }
            }
        }
    }

    fn check(frame: &[u8], name: &str) {
        let packet = etherparse::SlicedPacket::from_ethernet(frame).expect(name);
        let Some(etherparse::TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("{name}: TCP") };
        match &packet.net {
            Some(etherparse::NetSlice::Ipv4(ip)) => {
                let header = ip.header().to_header();
                assert_eq!(header.calc_header_checksum(), header.header_checksum, "{name}");
                assert!(header.dont_fragment && header.time_to_live == 64);
                let sum = tcp.to_header().calc_checksum_ipv4(&header, &[]).expect("short");
                assert_eq!(sum, tcp.checksum(), "{name}");
            }
            Some(etherparse::NetSlice::Ipv6(ip)) => {
                let sum = tcp.to_header().calc_checksum_ipv6(&ip.header().to_header(), &[]).expect("short");
                assert_eq!(sum, tcp.checksum(), "{name} over IPv6");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(tcp.syn() && !tcp.ack() && tcp.window_size() == WINDOW, "{name}");
    }

    #[test]
    fn layouts_have_the_sizes_that_the_documentation_states() {
        let source = Source { address: [192, 0, 2, 1].into(), mac: Mac([2; 6]) };
        let sizes = Layout::ALL
            .map(|(layout, _)| TcpSyn.template(&source, &Dress { layout, ttl: 64 }).frame_length());
        assert_eq!(sizes, [58, 66, 74, 54]);
    }

    #[test]
    fn an_answer_to_a_port_that_sends_no_probes_is_none_of_ours() {
        let ports = SourcePorts::new(16384, 16384).expect("valid");
        let judge = Judge::new(CookieKey::new([3; 16]), ports, 1, vec![[192, 0, 2, 1].into()]);
        let target = tcp_target([198, 18, 0, 7].into(), 80);
        let mut frame = TcpSyn.samples(&target, &judge).swap_remove(0).frame;
        frame[36..38].copy_from_slice(&443u16.to_be_bytes());
        let Ok(crate::wire::Frame::Segment(segment)) = crate::wire::read(&frame) else { panic!("segment") };
        assert_eq!(TcpSyn.classify(0, &segment, &judge), Judgement::NotOurs);
    }
}
