//! The SCTP probes (RFC 9260). INIT: an INIT-ACK is open, an ABORT closed. COOKIE-ECHO: an ABORT is closed, and filters that
//! stop INITs may let it through.
//!
//! The cookie is the initiate tag of an INIT, which every answer has as its verification tag; of a COOKIE-ECHO the
//! verification tag itself, which an ABORT out of the blue reflects (section 8.4).

use std::net::IpAddr;

use super::fault::{self, Question, Verified};
use super::{Dress, Expected, Judge, Judgement, Probe, Sample, frame, sample, verdict};
use crate::batch::{Assigned, Carry, Field, Source, Sum, Template};
use crate::event::{Invalid, Proof, Reason, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::icmp::Quoted;
use crate::wire::sctp::{self, chunk};
use crate::wire::{Segment, Transport};

/// An SCTP probe.
pub(super) struct Sctp {
    name: &'static str,
    about: &'static str,
    protocols: [Protocol; 1],
    /// Type of its chunk.
    chunk: u8,
    question: Question,
}

/// The registry rows.
pub(super) const INIT: Sctp = Sctp {
    name: "init",
    about: "SCTP INIT: INIT-ACK is open, ABORT closed",
    protocols: [Protocol::SCTP],
    chunk: chunk::INIT,
    question: Question::Port,
};
pub(super) const COOKIE_ECHO: Sctp = Sctp {
    name: "cookie-echo",
    about: "SCTP COOKIE-ECHO: closed ports answer",
    chunk: chunk::COOKIE_ECHO,
    ..INIT
};
pub(super) const PING: Sctp = Sctp {
    name: "ping-init",
    about: "host discovery by SCTP INIT",
    protocols: [Protocol::PING_SCTP],
    question: Question::Host,
    ..INIT
};

impl Probe for Sctp {
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
        let template = match self.chunk {
            chunk::INIT => init(source, dress, None),
            _ => cookie_echo(source, dress),
        };
        vec![Assigned { protocol: self.protocols[0], ports: None, template }]
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        if !judge.is_ours(segment.destination) {
            return Judgement::NotOurs;
        }
        match &segment.transport {
            Transport::Sctp(packet) => self.answer((time_ns, segment), packet, judge),
            _ => fault::judge((time_ns, segment), judge, self.question, |quoted| self.verify(quoted, judge)),
        }
    }

    fn silence(&self) -> State {
        if self.chunk == chunk::INIT { State::Filtered } else { State::OpenFiltered }
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        samples(self, target, judge)
    }
}

/// An INIT as small as one may be: no parameters. `port` is a destination for all targets.
pub(super) fn init(source: &Source, dress: &Dress, port: Option<u16>) -> Template {
    let mut packet = vec![0; sctp::HEADER];
    // Type, flags, length; initiate tag; window of 32,768 bytes; 10 streams out, 2,048 in; first number.
    packet.extend([chunk::INIT, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 10, 8, 0, 0, 0, 0, 0]);
    let mut fields = vec![Field { at: 0, carry: Carry::SourcePort }];
    match port {
        Some(port) => packet[2..4].copy_from_slice(&port.to_be_bytes()),
        None => fields.push(Field { at: 2, carry: Carry::DestinationPort }),
    }
    fields.push(Field { at: IN_INIT[0], carry: Carry::Sequence });
    // The first number only has to differ: a half of it keeps the fields in the first cache line of the frame.
    fields.push(Field { at: 28, carry: Carry::Low });
    Template::new(frame::packet(source, dress, Protocol::SCTP.0, &packet), &fields, Sum::Crc32c)
}

fn cookie_echo(source: &Source, dress: &Dress) -> Template {
    let mut packet = vec![0; sctp::HEADER];
    packet.extend([chunk::COOKIE_ECHO, 0, 0, 8, 0, 0, 0, 0]);
    let fields = [
        Field { at: 0, carry: Carry::SourcePort },
        Field { at: 2, carry: Carry::DestinationPort },
        Field { at: IN_COOKIE_ECHO[0], carry: Carry::Sequence },
        Field { at: IN_COOKIE_ECHO[1], carry: Carry::Sequence },
    ];
    Template::new(frame::packet(source, dress, Protocol::SCTP.0, &packet), &fields, Sum::Crc32c)
}

/// Whether a quoted INIT or COOKIE-ECHO is one of ours, and how many secret bits say so: `None` when one is wrong. What an
/// INIT carries stands behind the eight bytes that every router quotes.
pub(super) fn verify_quote(transport: &[u8], places: &[usize], sequence: u32) -> Option<u32> {
    let mut quoted = places.iter().filter_map(|&at| transport.get(at..at + 4)).peekable();
    let bits = if quoted.peek().is_some() { 32 } else { 0 };
    quoted.all(|bytes| bytes == sequence.to_be_bytes()).then_some(bits)
}

/// Where the sequence stands in an INIT: initiate tag.
pub(super) const IN_INIT: &[usize] = &[16];
/// Where it stands in a COOKIE-ECHO: verification tag and cookie.
const IN_COOKIE_ECHO: &[usize] = &[4, 16];

impl Sctp {
    fn target(&self, address: IpAddr, number: u16) -> Target {
        Target { address, port: Port { protocol: self.protocols[0], number } }
    }

    fn answer(&self, received: (u64, &Segment<'_>), packet: &sctp::Packet<'_>, judge: &Judge) -> Judgement {
        // On loopback we hear our own probes.
        let own_probe = packet.kind == self.chunk && judge.is_ours(received.1.source);
        if !judge.is_source_port(packet.destination_port) || own_probe {
            return Judgement::NotOurs;
        }
        let target = self.target(received.1.source, packet.source_port);
        let verified = judge.verify(&target, packet.destination_port);
        let Some((_, pass)) = verified.filter(|(cookie, _)| cookie.sequence() == packet.verification_tag)
        else {
            return Judgement::Invalid(Invalid::BadCookie);
        };
        let host = self.question == Question::Host;
        let (state, reason) = match packet.kind {
            chunk::INIT_ACK if self.chunk == chunk::INIT && host => (State::Up, Reason::INIT_ACK),
            chunk::INIT_ACK if self.chunk == chunk::INIT => (State::Open, Reason::INIT_ACK),
            chunk::ABORT if host => (State::Up, Reason::ABORT),
            chunk::ABORT => (State::Closed, Reason::ABORT),
            _ => return Judgement::Invalid(Invalid::UnexpectedFlags),
        };
        Judgement::Reply(verdict(received, target, (state, reason), (judge.proof(32), pass)))
    }

    fn verify(&self, quoted: &Quoted<'_>, judge: &Judge) -> Verified {
        if quoted.protocol != Protocol::SCTP.0 {
            return Verified::NotOurs;
        }
        let Some((source_port, destination_port, _)) = quoted.transport_head() else {
            return Verified::Wrong;
        };
        if !judge.is_source_port(source_port) {
            return Verified::NotOurs;
        }
        let target = self.target(quoted.destination, destination_port);
        let Some((cookie, pass)) = judge.verify(&target, source_port) else { return Verified::Wrong };
        let places = if self.chunk == chunk::INIT { IN_INIT } else { IN_COOKIE_ECHO };
        match verify_quote(quoted.transport, places, cookie.sequence()) {
            Some(bits) => Verified::Right { target, cookie, pass, bits },
            None => Verified::Wrong,
        }
    }
}

fn samples(probe: &Sctp, target: &Target, judge: &Judge) -> Vec<Sample> {
    let us = judge.source(target.address).expect("a source of the family");
    let frame = sample::probe_frame(probe, target, judge, 0).expect("a template");
    let tag = judge.cookie(target).sequence();
    let reply = |kind: u8, tag: u32| {
        let mut packet = vec![0; sctp::HEADER];
        packet[0..2].copy_from_slice(&target.port.number.to_be_bytes());
        packet[2..4].copy_from_slice(&judge.source_port(target, 1).to_be_bytes());
        packet[4..8].copy_from_slice(&tag.to_be_bytes());
        packet.extend([kind, 0, 0, 4]);
        let crc = sctp::crc32c(&packet);
        packet[8..12].copy_from_slice(&crc.to_le_bytes());
        sample::packet(target.address, us, Protocol::SCTP.0, &packet)
    };
    let host = probe.question == Question::Host;
    let closed = if host { State::Up } else { State::Closed };
    let init_ack = match (probe.chunk, host) {
        (chunk::INIT, true) => Expected::Reply(State::Up, Reason::INIT_ACK, Proof::Strong),
        (chunk::INIT, false) => Expected::Reply(State::Open, Reason::INIT_ACK, Proof::Strong),
        _ => Expected::Invalid(Invalid::UnexpectedFlags),
    };
    let bad = Expected::Invalid(Invalid::BadCookie);
    let prohibited = if us.is_ipv4() { [3, 13] } else { [1, 1] };
    let error = |quoted| sample::error(sample::router(us), us, prohibited, &frame, quoted);
    let filtered = |proof| Expected::Reply(State::Filtered, Reason::ADMIN_PROHIBITED, proof);
    let eight = if probe.chunk == chunk::INIT { Proof::Medium } else { Proof::Strong };
    [
        ("INIT-ACK", reply(chunk::INIT_ACK, tag), init_ack),
        ("ABORT", reply(chunk::ABORT, tag), Expected::Reply(closed, Reason::ABORT, Proof::Strong)),
        ("ABORT with another tag", reply(chunk::ABORT, tag ^ 1), bad),
        ("INIT-ACK with another tag", reply(chunk::INIT_ACK, tag ^ 0x8000), bad),
        ("INIT", reply(chunk::INIT, tag), Expected::Invalid(Invalid::UnexpectedFlags)),
        ("prohibited, 8 bytes quoted", error(8), filtered(eight)),
        ("prohibited, all quoted", error(64), filtered(Proof::Strong)),
        ("quote that is too short", error(7), Expected::Invalid(Invalid::UnmatchedIcmp)),
    ]
    .map(|(name, frame, expected)| Sample { name, target: *target, frame, expected })
    .to_vec()
}
