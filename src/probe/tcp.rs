//! The TCP probes: SYN, and those that ask with other flags what a stack says to a segment it does not expect.
//!
//! Where the cookie stands. Without ACK in the sequence number: the answer acknowledges it. With ACK also in the
//! acknowledgement number, which a RST brings back as its own sequence number (RFC 9293 section 3.10.7.1), while an ICMP
//! error quotes the sequence number. Stacks deviate from the RFC in which of the three they fill, so an answer to
//! anything but a SYN may have the cookie in any of them (RFC 9293 section 3.5.2: what a reset acknowledges).

use std::net::IpAddr;

use super::fault::{self, Question, Verified};
use super::{Dress, Expected, Judge, Judgement, Probe, Sample, frame, round_trip_us, sample, verdict};
use crate::batch::{Assigned, Carry, Field, LANES, Source, Sum, Template};
use crate::cookie::{Cookie, CookieLanes};
use crate::event::{Invalid, Proof, Reason, Record, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::icmp::Quoted;
use crate::wire::tcp::{self, flag};
use crate::wire::{Segment, Transport};

/// A TCP probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    name: &'static str,
    about: &'static str,
    protocols: [Protocol; 1],
    flags: u8,
    reading: Reading,
}

/// How answers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// SYN-ACK is open, RST closed, silence filtered.
    Handshake,
    /// RST is closed, silence open or filtered.
    Reset,
    /// RST is unfiltered, silence filtered.
    Passage,
    /// RST is open when its window is not 0, else closed; silence filtered.
    Window,
    /// SYN-ACK and RST say that the host is up.
    Host,
}

const fn row(name: &'static str, about: &'static str, flags: u8, reading: Reading) -> Tcp {
    Tcp { name, about, protocols: [Protocol::TCP], flags, reading }
}

/// The registry rows.
pub(super) const SYN: Tcp =
    row("syn", "half-open TCP: SYN, no connection is made (default)", flag::SYN, Reading::Handshake);
pub(super) const FIN: Tcp = row("fin", "TCP FIN: closed ports answer", flag::FIN, Reading::Reset);
pub(super) const NULL: Tcp = row("null", "TCP without flags: closed ports answer", 0, Reading::Reset);
pub(super) const XMAS: Tcp =
    row("xmas", "TCP FIN, PSH, URG: closed ports answer", flag::FIN | flag::PSH | flag::URG, Reading::Reset);
pub(super) const ACK: Tcp =
    row("ack", "TCP ACK: which ports a filter lets through", flag::ACK, Reading::Passage);
pub(super) const WINDOW: Tcp =
    row("window", "TCP ACK, judged by the window of the RST", flag::ACK, Reading::Window);
pub(super) const MAIMON: Tcp =
    row("maimon", "TCP FIN, ACK: closed ports answer", flag::FIN | flag::ACK, Reading::Reset);
pub(super) const PING_SYN: Tcp = Tcp {
    protocols: [Protocol::PING_SYN],
    ..row("ping-syn", "host discovery by TCP SYN", flag::SYN, Reading::Host)
};
pub(super) const PING_ACK: Tcp = Tcp {
    protocols: [Protocol::PING_ACK],
    ..row("ping-ack", "host discovery by TCP ACK", flag::ACK, Reading::Host)
};

impl Tcp {
    /// The probe of that name with other flags; its answers are read as that one's. `None` when there is no TCP port
    /// scan of that name.
    pub fn with_flags(base: &str, flags: u8) -> Option<Tcp> {
        let rows = [SYN, FIN, NULL, XMAS, ACK, WINDOW, MAIMON];
        let base = rows.into_iter().find(|row| row.name == base)?;
        Some(Tcp { name: "scanflags", about: "TCP with flags of the user's choice", flags, ..base })
    }

    fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    fn target(&self, address: IpAddr, number: u16) -> Target {
        Target { address, port: Port { protocol: self.protocols[0], number } }
    }
}

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

impl Probe for Tcp {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    fn templates(&self, source: &Source, dress: &Dress) -> Vec<Assigned> {
        let (protocol, ports) = (self.protocols[0], None);
        vec![Assigned { protocol, ports, template: template(source, dress, self.flags, None) }]
    }

    #[inline]
    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        match &segment.transport {
            Transport::Tcp(header) => {
                let cookie = || judge.cookie(&self.target(segment.source, header.source_port()));
                self.answer((time_ns, segment), header, cookie, judge)
            }
            _ => self.fault((time_ns, segment), judge),
        }
    }

    fn classify_all(&self, segments: &[(u64, Segment<'_>)], judge: &Judge, judgements: &mut Vec<Judgement>) {
        judgements.clear();
        for segments in segments.chunks(LANES) {
            if segments.len() < FEW {
                let each = segments.iter().map(|(time_ns, segment)| self.classify(*time_ns, segment, judge));
                judgements.extend(each);
                continue;
            }
            let (mut addresses, mut ports) = ([0; LANES], [0; LANES]);
            for (lane, (_, segment)) in segments.iter().enumerate() {
                if let (IpAddr::V4(source), Transport::Tcp(header)) = (segment.source, &segment.transport) {
                    (addresses[lane], ports[lane]) = (source.into(), header.source_port());
                }
            }
            let mut cookies = CookieLanes::default();
            judge.cookies_v4(&addresses, &ports, self.protocols[0], &mut cookies);
            for (lane, (time_ns, segment)) in segments.iter().enumerate() {
                match &segment.transport {
                    Transport::Tcp(header) if segment.source.is_ipv4() => {
                        let cookie = || cookies.at(lane);
                        judgements.push(self.answer((*time_ns, segment), header, cookie, judge));
                    }
                    _ => judgements.push(self.classify(*time_ns, segment, judge)),
                }
            }
        }
    }

    fn silence(&self) -> State {
        if self.reading == Reading::Reset { State::OpenFiltered } else { State::Filtered }
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        samples::all(self, target, judge)
    }
}

/// A SYN that carries zeroes, to measure frames of a size.
pub(super) fn padded_syn(source: &Source, dress: &Dress, bytes: usize) -> Option<Template> {
    let segment = tcp::header(flag::SYN, WINDOW_SIZE, &[]);
    let shortest = frame::packet(source, dress, Protocol::TCP.0, &segment).len();
    let mut segment = segment;
    segment.resize(segment.len() + bytes.checked_sub(shortest)?, 0);
    Some(Template::tcp(frame::packet(source, dress, Protocol::TCP.0, &segment), None))
}

/// A RST as a host sends it that has no socket for a SYN-ACK: its number is what was acknowledged, and it acknowledges
/// nothing (RFC 9293 section 3.10.7.1).
pub(super) fn reset(source: &Source, dress: &Dress) -> Template {
    let segment = tcp::header(flag::RST, 0, &[]);
    Template::tcp(frame::packet(source, dress, Protocol::TCP.0, &segment), None)
}

/// A TCP segment with these flags; only one with SYN has options. `port` is a destination for all targets.
pub(super) fn template(source: &Source, dress: &Dress, flags: u8, port: Option<u16>) -> Template {
    let syn = flags & flag::SYN != 0;
    let (options, timestamp) = if syn { dress.layout.options() } else { (&[][..], None) };
    let mut segment = tcp::header(flags, WINDOW_SIZE, options);
    let mut fields = vec![Field { at: 0, carry: Carry::SourcePort }];
    match port {
        Some(port) => segment[2..4].copy_from_slice(&port.to_be_bytes()),
        None => fields.push(Field { at: 2, carry: Carry::DestinationPort }),
    }
    fields.push(Field { at: 4, carry: Carry::Sequence });
    if flags & flag::ACK != 0 {
        fields.push(Field { at: 8, carry: Carry::Sequence });
    }
    fields.extend(timestamp.map(|offset| Field { at: tcp::HEADER + offset, carry: Carry::Time }));
    let frame = frame::packet(source, dress, Protocol::TCP.0, &segment);
    Template::new(frame, &fields, Sum::Pseudo { at: 16 })
}

/// Whether an answer brings back a number in any of the places where stacks put it.
pub(super) fn echoes(header: &tcp::Header<'_>, sequence: u32) -> bool {
    let acknowledged = header.acknowledgement();
    header.sequence() == sequence || acknowledged == sequence || acknowledged == sequence.wrapping_add(1)
}

/// Secret bits that [`echoes`] proves: three numbers of 2^32 are right.
pub(super) const ECHO_BITS: u32 = 30;

/// What a segment that is for us comes to.
enum Meaning {
    Verdict(State, Reason, u32),
    Bad(Invalid),
}

impl Tcp {
    /// Judges what is no TCP segment: an ICMP error may be about a probe.
    fn fault(&self, (time_ns, segment): (u64, &Segment<'_>), judge: &Judge) -> Judgement {
        if !judge.is_ours(segment.destination) {
            return Judgement::NotOurs;
        }
        let question = if self.reading == Reading::Host { Question::Host } else { Question::Port };
        fault::judge((time_ns, segment), judge, question, |quoted| self.verify(quoted, judge))
    }

    /// Judges a TCP segment; `cookie` is that of the target it comes from.
    #[inline(always)]
    fn answer(
        &self,
        (time_ns, segment): (u64, &Segment<'_>),
        header: &tcp::Header<'_>,
        cookie: impl FnOnce() -> Cookie,
        judge: &Judge,
    ) -> Judgement {
        let port = header.destination_port();
        // On loopback we hear our own probes; one to a port of the same range would look like an answer.
        let own_probe = header.flags() == self.flags
            && judge.is_source_port(header.source_port())
            && judge.is_ours(segment.source);
        if !judge.is_ours(segment.destination) || !judge.is_source_port(port) || own_probe {
            return Judgement::NotOurs;
        }
        let cookie = cookie();
        let Some(pass) = judge.pass(cookie, port) else {
            return Judgement::Invalid(Invalid::BadCookie);
        };
        let meaning = if self.has(flag::SYN) && !self.has(flag::ACK) {
            self.handshake(header, cookie.sequence())
        } else {
            self.reset(header, cookie.sequence())
        };
        let (state, reason, bits) = match meaning {
            Meaning::Verdict(state, reason, bits) => (state, reason, bits),
            Meaning::Bad(invalid) => return Judgement::Invalid(invalid),
        };
        let target = self.target(segment.source, header.source_port());
        let options = header.options();
        let mut record = verdict((time_ns, segment), target, (state, reason), (judge.proof(bits), pass));
        record.window = header.window();
        record.mss = options.mss.unwrap_or(0);
        record.window_scale = options.window_scale.unwrap_or(Record::NO_SCALE);
        record.options_hash = options.layout_hash;
        record.rtt_us = options.timestamps.map_or(0, |(_, echoed)| round_trip_us(time_ns, echoed));
        Judgement::Reply(record)
    }

    /// An answer to a probe with SYN, which occupies a sequence number, as a FIN beside it does.
    #[inline]
    fn handshake(&self, header: &tcp::Header<'_>, sequence: u32) -> Meaning {
        let next = sequence.wrapping_add(1);
        let acknowledged = header.acknowledgement();
        let open = if self.reading == Reading::Host { State::Up } else { State::Open };
        match (header.has(flag::SYN), header.has(flag::ACK), header.has(flag::RST)) {
            // RFC 9293 section 3.10.7.3: a SYN-ACK acknowledges exactly our SYN.
            (true, true, false) if planted!(23, true, acknowledged == next) => {
                Meaning::Verdict(open, Reason::SYN_ACK, 32)
            }
            // A RST acknowledges the SYN (RFC 9293 section 3.10.7.1); some stacks acknowledge its first number.
            (false, true, true) if acknowledged == next || planted!(14, false, acknowledged == sequence) => {
                Meaning::Verdict(self.of_reset(header), Reason::RESET, 31)
            }
            (false, true, true) if self.has(flag::FIN) && acknowledged == next.wrapping_add(1) => {
                Meaning::Verdict(self.of_reset(header), Reason::RESET, ECHO_BITS)
            }
            (true, true, true) if planted!(15, acknowledged == next, false) => {
                Meaning::Verdict(State::Closed, Reason::RESET, 31)
            }
            (true, true, false) | (false, true, true) => Meaning::Bad(Invalid::BadCookie),
            (false, false, true) => Meaning::Bad(Invalid::RstWithoutAck),
            // Simultaneous open (RFC 9293 section 3.5): it echoes nothing but our port, which the grade tells.
            (true, false, false) if !header.has(flag::FIN) => {
                Meaning::Verdict(open, Reason::SPLIT_HANDSHAKE, 0)
            }
            _ => Meaning::Bad(Invalid::UnexpectedFlags),
        }
    }

    /// An answer to a probe without SYN, or with one that acknowledges: only a RST says something. A SYN-ACK is credited
    /// to SYN probes alone; for host discovery whoever sends one is there.
    fn reset(&self, header: &tcp::Header<'_>, sequence: u32) -> Meaning {
        let echoes = echoes(header, sequence);
        match (header.has(flag::SYN), header.has(flag::RST)) {
            (false, true) if echoes => Meaning::Verdict(self.of_reset(header), Reason::RESET, ECHO_BITS),
            (true, false) if echoes && header.has(flag::ACK) && self.reading == Reading::Host => {
                Meaning::Verdict(State::Up, Reason::SYN_ACK, ECHO_BITS)
            }
            (false, true) => Meaning::Bad(Invalid::BadCookie),
            _ => Meaning::Bad(Invalid::UnexpectedFlags),
        }
    }

    fn of_reset(&self, header: &tcp::Header<'_>) -> State {
        match self.reading {
            Reading::Handshake | Reading::Reset => State::Closed,
            Reading::Passage => State::Unfiltered,
            Reading::Window if header.window() == 0 => State::Closed,
            Reading::Window => State::Open,
            Reading::Host => State::Up,
        }
    }

    /// Whether a quoted packet is a probe of ours.
    fn verify(&self, quoted: &Quoted<'_>, judge: &Judge) -> Verified {
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
        let target = self.target(quoted.destination, destination_port);
        let Some((cookie, pass)) = judge.verify(&target, source_port) else { return Verified::Wrong };
        // The acknowledgement number is behind what every router quotes; where it is quoted it must be right, too.
        let acknowledged = quoted.transport.get(8..12).filter(|_| self.has(flag::ACK));
        let right = acknowledged.is_none_or(|number| number == cookie.sequence().to_be_bytes());
        if planted!(11, true, right && cookie.sequence() == sequence) {
            Verified::Right { target, cookie, pass, bits: 32 }
        } else {
            Verified::Wrong
        }
    }
}

/// So few segments are judged one by one: cookies come by [`LANES`].
const FEW: usize = 8;

/// The largest window without scaling: what most stacks send in a SYN.
const WINDOW_SIZE: u16 = 65_535;

/// Golden replies, written with `wire`'s writers and read by its readers; the independent reader is in `wire`'s own
/// tests and in the namespace tests.
mod samples {
    use super::*;

    pub(super) fn all(probe: &Tcp, target: &Target, judge: &Judge) -> Vec<Sample> {
        let replies =
            if probe.has(flag::SYN) { to_syn(probe, target, judge) } else { to_other(probe, target, judge) };
        [replies, errors(probe, target, judge)].concat()
    }

    /// A segment from the target: flags, sequence and acknowledgement number, window.
    fn reply(target: &Target, judge: &Judge, flags: u8, numbers: (u32, u32), window: u16) -> Vec<u8> {
        let mut segment = tcp::header(flags, window, &[2, 4, 5, 0xb4, 1, 3, 3, 7]);
        segment[0..2].copy_from_slice(&target.port.number.to_be_bytes());
        segment[2..4].copy_from_slice(&judge.source_port(target, 1).to_be_bytes());
        segment[4..8].copy_from_slice(&numbers.0.to_be_bytes());
        segment[8..12].copy_from_slice(&numbers.1.to_be_bytes());
        if flags & flag::RST != 0 {
            // RFC 9293 section 3.5.3: a RST may carry text that says why.
            segment.extend_from_slice(b"no such service");
        }
        let us = judge.source(target.address).expect("a source of the family");
        sample::packet(target.address, us, Protocol::TCP.0, &segment)
    }

    fn to_syn(probe: &Tcp, target: &Target, judge: &Judge) -> Vec<Sample> {
        let sequence = judge.cookie(target).sequence();
        let next = sequence.wrapping_add(1);
        let (open, closed) = if probe.reading == Reading::Host {
            (State::Up, State::Up)
        } else {
            (State::Open, State::Closed)
        };
        let open = |reason, proof| Expected::Reply(open, reason, proof);
        let closed = Expected::Reply(closed, Reason::RESET, Proof::Strong);
        let syn_ack = flag::SYN | flag::ACK;
        let rst_ack = flag::RST | flag::ACK;
        [
            ("SYN-ACK", syn_ack, next, open(Reason::SYN_ACK, Proof::Strong)),
            (
                "SYN-ACK with PSH and ECE",
                syn_ack | flag::PSH | 0x40,
                next,
                open(Reason::SYN_ACK, Proof::Strong),
            ),
            ("RST-ACK with text", rst_ack, next, closed),
            ("RST-ACK of our first number", rst_ack, sequence, closed),
            ("RST without ACK", flag::RST, 0, Expected::Invalid(Invalid::RstWithoutAck)),
            ("SYN-ACK of our first number", syn_ack, sequence, Expected::Invalid(Invalid::BadCookie)),
            ("SYN-ACK of another number", syn_ack, next ^ 0x8000, Expected::Invalid(Invalid::BadCookie)),
            ("RST-ACK of another number", rst_ack, next ^ 0x8000, Expected::Invalid(Invalid::BadCookie)),
            ("SYN and RST", flag::SYN | rst_ack, next, Expected::Invalid(Invalid::UnexpectedFlags)),
            ("split handshake", flag::SYN, 0, open(Reason::SPLIT_HANDSHAKE, Proof::Weak)),
            ("SYN and FIN", flag::SYN | flag::FIN, 0, Expected::Invalid(Invalid::UnexpectedFlags)),
            ("bare ACK", flag::ACK, next, Expected::Invalid(Invalid::UnexpectedFlags)),
        ]
        .map(|(name, flags, acknowledged, expected)| Sample {
            name,
            target: *target,
            frame: reply(target, judge, flags, (7, acknowledged), 64_240),
            expected,
        })
        .to_vec()
    }

    fn to_other(probe: &Tcp, target: &Target, judge: &Judge) -> Vec<Sample> {
        let sequence = judge.cookie(target).sequence();
        let next = sequence.wrapping_add(1);
        let rst = |state| Expected::Reply(state, Reason::RESET, Proof::Strong);
        let (with_window, without) = match probe.reading {
            Reading::Handshake | Reading::Reset => (State::Closed, State::Closed),
            Reading::Passage => (State::Unfiltered, State::Unfiltered),
            Reading::Window => (State::Open, State::Closed),
            Reading::Host => (State::Up, State::Up),
        };
        let syn_ack = match probe.reading {
            Reading::Host => Expected::Reply(State::Up, Reason::SYN_ACK, Proof::Strong),
            _ => Expected::Invalid(Invalid::UnexpectedFlags),
        };
        let bad = Expected::Invalid(Invalid::BadCookie);
        let rst_ack = flag::RST | flag::ACK;
        [
            ("RST of our acknowledgement", flag::RST, (sequence, 0), 0, rst(without)),
            ("RST-ACK of the next number", rst_ack, (0, next), 0, rst(without)),
            ("RST-ACK of our number", rst_ack, (0, sequence), 0, rst(without)),
            ("RST with a window", flag::RST, (sequence, 0), 4096, rst(with_window)),
            ("RST of another number", flag::RST, (sequence ^ 1 << 20, 0), 0, bad),
            ("SYN-ACK", flag::SYN | flag::ACK, (7, next), 4096, syn_ack),
            ("bare ACK", flag::ACK, (7, next), 4096, Expected::Invalid(Invalid::UnexpectedFlags)),
        ]
        .map(|(name, flags, numbers, window, expected)| Sample {
            name,
            target: *target,
            frame: reply(target, judge, flags, numbers, window),
            expected,
        })
        .to_vec()
    }

    fn errors(probe: &Tcp, target: &Target, judge: &Judge) -> Vec<Sample> {
        let us = judge.source(target.address).expect("a source of the family");
        let frame = sample::probe_frame(probe, target, judge, 0).expect("a template");
        let error = |(name, from, message, quoted, expected)| Sample {
            name,
            target: *target,
            frame: sample::error(from, us, message, &frame, quoted),
            expected,
        };
        let router = sample::router(us);
        let said = |state, reason| Expected::Reply(state, reason, Proof::Strong);
        let filtered = |reason| said(State::Filtered, reason);
        // The host's own "no such port" is filtered for a TCP scan, and a sign of life for host discovery.
        let own = if probe.reading == Reading::Host { State::Up } else { State::Filtered };
        let field = if probe.reading == Reading::Host { State::Filtered } else { State::Open };
        let unmatched = Expected::Invalid(Invalid::UnmatchedIcmp);
        let v4 = [
            ("network unreachable", router, [3, 0], 8, filtered(Reason::NET_UNREACH)),
            ("host unreachable", router, [3, 1], 8, filtered(Reason::HOST_UNREACH)),
            ("protocol unreachable", router, [3, 2], 8, filtered(Reason::PROTO_UNREACH)),
            ("port unreachable", router, [3, 3], 8, filtered(Reason::PORT_UNREACH)),
            ("port unreachable of its own", target.address, [3, 3], 8, said(own, Reason::PORT_UNREACH)),
            ("network prohibited", router, [3, 9], 8, filtered(Reason::NET_PROHIBITED)),
            ("host prohibited", router, [3, 10], 8, filtered(Reason::HOST_PROHIBITED)),
            ("communication prohibited", router, [3, 13], 8, filtered(Reason::ADMIN_PROHIBITED)),
            ("precedence cut-off", router, [3, 15], 8, filtered(Reason::DEST_UNREACH)),
            ("time exceeded", router, [11, 0], 8, filtered(Reason::TIME_EXCEEDED)),
            ("quote that is too short", router, [3, 1], 7, unmatched),
            ("fragmentation needed", router, [3, 4], 8, Expected::NotOurs),
            ("source quench", router, [4, 0], 8, Expected::NotOurs),
        ];
        let v6 = [
            ("no route", router, [1, 0], 8, filtered(Reason::NO_ROUTE)),
            ("administratively prohibited", router, [1, 1], 8, filtered(Reason::ADMIN_PROHIBITED)),
            ("beyond scope", router, [1, 2], 8, filtered(Reason::BEYOND_SCOPE)),
            ("address unreachable", router, [1, 3], 8, filtered(Reason::HOST_UNREACH)),
            ("port unreachable", router, [1, 4], 8, filtered(Reason::PORT_UNREACH)),
            ("port unreachable of its own", target.address, [1, 4], 8, said(own, Reason::PORT_UNREACH)),
            ("policy", router, [1, 5], 8, filtered(Reason::ADMIN_PROHIBITED)),
            ("reject route", router, [1, 6], 8, filtered(Reason::REJECT_ROUTE)),
            ("hop limit exceeded", router, [3, 0], 8, filtered(Reason::TIME_EXCEEDED)),
            ("erroneous field", router, [4, 0], 8, said(field, Reason::PARAM_PROBLEM)),
            ("unknown next header", router, [4, 1], 8, filtered(Reason::PARAM_PROBLEM)),
            ("quote that is too short", router, [1, 3], 7, unmatched),
            ("packet too big", router, [2, 0], 8, Expected::NotOurs),
        ];
        if us.is_ipv4() { v4.map(error).to_vec() } else { v6.map(error).to_vec() }
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
                let template = syn_template(&source, layout);
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

    fn syn_template(source: &Source, layout: Layout) -> Template {
        SYN.templates(source, &Dress { layout, ttl: 64 }).swap_remove(0).template
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
        assert!(tcp.syn() && !tcp.ack() && tcp.window_size() == WINDOW_SIZE, "{name}");
    }

    #[test]
    fn layouts_have_the_sizes_that_the_documentation_states() {
        let source = Source { address: [192, 0, 2, 1].into(), mac: Mac([2; 6]), vlan: None };
        let sizes = Layout::ALL.map(|(layout, _)| syn_template(&source, layout).frame_length());
        assert_eq!(sizes, [58, 66, 74, 54]);
    }

    #[test]
    fn an_answer_to_a_port_that_sends_no_probes_is_none_of_ours() {
        let ports = SourcePorts::new(16384, 16384).expect("valid");
        let judge = Judge::new(CookieKey::new([3; 16]), ports, 1, vec![[192, 0, 2, 1].into()]);
        let target = SYN.target([198, 18, 0, 7].into(), 80);
        let mut frame = SYN.samples(&target, &judge).swap_remove(0).frame;
        frame[36..38].copy_from_slice(&443u16.to_be_bytes());
        let Ok(crate::wire::Frame::Segment(segment)) = crate::wire::read(&frame) else { panic!("segment") };
        assert_eq!(SYN.classify(0, &segment, &judge), Judgement::NotOurs);
    }

    #[test]
    fn a_probe_with_flags_of_the_users_choice_is_read_as_its_base() {
        let odd = Tcp::with_flags("fin", flag::SYN | flag::FIN | flag::URG).expect("a base");
        assert_eq!((odd.silence(), odd.flags), (State::OpenFiltered, 0x23));
        assert!(Tcp::with_flags("ping-syn", 0).is_none() && Tcp::with_flags("udp", 0).is_none());
    }
}
