//! The SYN probe (half-open scan): SYN-ACK means open, RST closed, an ICMP error filtered.

use std::net::IpAddr;

use super::fault::{self, Question, Verified};
use super::{Dress, Expected, Judge, Judgement, Probe, Sample, frame, round_trip_us, sample};
use crate::batch::{Assigned, Source, Template};
use crate::event::{Invalid, Proof, Reason, Record, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::icmp::Quoted;
use crate::wire::tcp::{self, flag};
use crate::wire::{Segment, Transport};

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

    fn protocols(&self) -> &[Protocol] {
        &[Protocol::TCP]
    }

    fn templates(&self, source: &Source, dress: &Dress) -> Vec<Assigned> {
        let (options, timestamp) = dress.layout.options();
        let segment = tcp::header(flag::SYN, WINDOW, options);
        let frame = frame::packet(source, dress, Protocol::TCP.0, &segment);
        let template = Template::tcp(frame, timestamp.map(|offset| tcp::HEADER + offset));
        vec![Assigned { protocol: Protocol::TCP, ports: None, template }]
    }

    #[inline]
    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        if !judge.is_ours(segment.destination) {
            return Judgement::NotOurs;
        }
        match &segment.transport {
            Transport::Tcp(header) => answer(time_ns, segment, header, judge),
            _ => fault::judge((time_ns, segment), judge, Question::Port, |quoted| verify(quoted, judge)),
        }
    }

    fn silence(&self) -> State {
        State::Filtered
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        samples::all(target, judge)
    }
}

/// A RST as a host sends it that has no socket for a SYN-ACK: its number is what was acknowledged, and it acknowledges
/// nothing (RFC 9293 section 3.10.7.1).
pub(super) fn reset(source: &Source, dress: &Dress) -> Template {
    let segment = tcp::header(flag::RST, 0, &[]);
    Template::tcp(frame::packet(source, dress, Protocol::TCP.0, &segment), None)
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

/// Whether a quoted packet is a probe of ours.
fn verify(quoted: &Quoted<'_>, judge: &Judge) -> Verified {
    if quoted.protocol != Protocol::TCP.0 {
        return Verified::NotOurs;
    }
    let Some((source_port, destination_port, sequence)) = quoted.transport_head() else {
        return Verified::Wrong;
    };
    // An error about a connection of this host's own is none of ours.
    if !judge.is_source_port(source_port) {
        return Verified::NotOurs;
    }
    let target = tcp_target(quoted.destination, destination_port);
    match judge.verify(&target, source_port) {
        Some((cookie, pass)) if cookie.sequence() == sequence => {
            Verified::Right { target, cookie, pass, bits: 32 }
        }
        _ => Verified::Wrong,
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
        let open = Expected::Reply(State::Open, Reason::SYN_ACK, Proof::Strong);
        let closed = Expected::Reply(State::Closed, Reason::RESET, Proof::Strong);
        let bad = |invalid| Expected::Invalid(invalid);
        let tcp = |name, flags, acknowledged, expected| Sample {
            name,
            target: *target,
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
        let Some(probe) = sample::probe_frame(&TcpSyn, target, judge, 0) else { return samples };
        let Some(us) = judge.source(target.address).filter(std::net::IpAddr::is_ipv4) else { return samples };
        let error = |name, message, quoted, expected| Sample {
            name,
            target: *target,
            frame: sample::error(sample::router(us), us, message, &probe, quoted),
            expected,
        };
        for (name, message, reason) in [
            ("network unreachable", [3, 0], Reason::NET_UNREACH),
            ("host unreachable", [3, 1], Reason::HOST_UNREACH),
            ("protocol unreachable", [3, 2], Reason::PROTO_UNREACH),
            ("port unreachable", [3, 3], Reason::PORT_UNREACH),
            ("network prohibited", [3, 9], Reason::NET_PROHIBITED),
            ("host prohibited", [3, 10], Reason::HOST_PROHIBITED),
            ("communication prohibited", [3, 13], Reason::ADMIN_PROHIBITED),
            ("precedence cut-off", [3, 15], Reason::DEST_UNREACH),
            ("time exceeded", [11, 0], Reason::TIME_EXCEEDED),
        ] {
            samples.push(error(name, message, 8, Expected::Reply(State::Filtered, reason, Proof::Strong)));
        }
        samples.push(error("quote that is too short", [3, 1], 7, bad(Invalid::UnmatchedIcmp)));
        samples.push(error("fragmentation needed", [3, 4], 8, Expected::NotOurs));
        samples.push(error("source quench", [4, 0], 8, Expected::NotOurs));
        samples
    }

    fn reply(target: &Target, judge: &Judge, flags: u8, acknowledged: u32) -> Vec<u8> {
        let mut segment = tcp::header(flags, 64_240, &[2, 4, 5, 0xb4, 1, 3, 3, 7]);
        segment[0..2].copy_from_slice(&target.port.number.to_be_bytes());
        segment[2..4].copy_from_slice(&judge.source_port(target, 1).to_be_bytes());
        segment[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        let us = judge.source(target.address).expect("a source of the family");
        sample::packet(target.address, us, Protocol::TCP.0, &segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::cookie::{CookieKey, SourcePorts};
    use crate::target::Cursor;
    use crate::wire::ethernet::Mac;

    /// Every layout, both families, at odd and extreme values: the stamped frame has the checksums that an
    /// independent reader computes.
    #[test]
    fn stamped_frames_carry_the_checksums_of_an_independent_reader() {
        for (layout, name) in Layout::ALL {
            for address in ["192.0.2.1", "2001:db8::1"] {
                let source = Source {
                    address: address.parse().expect("address"),
                    mac: Mac([2, 0, 0, 0, 0, 1]),
                    vlan: None,
                };
                let template = template(&source, layout);
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

    fn template(source: &Source, layout: Layout) -> Template {
        TcpSyn.templates(source, &Dress { layout, ttl: 64 }).swap_remove(0).template
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
        let source = Source { address: [192, 0, 2, 1].into(), mac: Mac([2; 6]), vlan: None };
        let sizes = Layout::ALL.map(|(layout, _)| template(&source, layout).frame_length());
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
