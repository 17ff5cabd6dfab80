//! UDP as host discovery asks it, and what every UDP probe is made of. The scan of ports is in `udp_payload`.
//!
//! Silence tells nothing: open ports keep silent too, when they do not understand the question.

use std::net::IpAddr;

use super::fault::{self, Question, Verified};
use super::{Dress, Expected, Judge, Judgement, Probe, Sample, frame, sample, verdict};
use crate::batch::{Assigned, Carry, Field, Source, Sum, Template};
use crate::event::{Invalid, Proof, Reason, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::icmp::Quoted;
use crate::wire::udp::{self, Datagram};
use crate::wire::{Segment, Transport};

/// A UDP probe without payload.
pub(super) struct Udp {
    name: &'static str,
    about: &'static str,
    protocols: [Protocol; 1],
    question: Question,
}

/// The registry row.
pub(super) const PING: Udp = Udp {
    name: "ping-udp",
    about: "host discovery by UDP to a port that is closed",
    protocols: [Protocol::PING_UDP],
    question: Question::Host,
};

impl Probe for Udp {
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
        let template = template(source, dress, &[], &[]);
        vec![Assigned { protocol: self.protocols[0], ports: None, template }]
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        if !judge.is_ours(segment.destination) {
            return Judgement::NotOurs;
        }
        match &segment.transport {
            Transport::Udp(datagram) => self.answer((time_ns, segment), datagram, judge),
            _ => fault::judge((time_ns, segment), judge, self.question, |quoted| {
                verify(quoted, judge, self.protocols[0])
            }),
        }
    }

    fn silence(&self) -> State {
        State::OpenFiltered
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        samples((self, self.question), target, judge)
    }
}

impl Udp {
    fn answer(&self, received: (u64, &Segment<'_>), datagram: &Datagram<'_>, judge: &Judge) -> Judgement {
        if !judge.is_source_port(datagram.destination_port) {
            return Judgement::NotOurs;
        }
        let target = target(self.protocols[0], received.1.source, datagram.source_port);
        let verified = judge.verify(&target, datagram.destination_port).map(|(_, pass)| pass);
        let Some(pass) = planted!(10, Some(0), verified) else {
            return Judgement::Invalid(Invalid::BadCookie);
        };
        let state = if self.question == Question::Host { State::Up } else { State::Open };
        let proof = (judge.proof(0), pass);
        Judgement::Reply(verdict(received, target, (state, Reason::UDP_RESPONSE), proof))
    }
}

/// A datagram to every target's port with a payload; `fields` count from the first byte of the UDP header.
pub(super) fn template(source: &Source, dress: &Dress, payload: &[u8], fields: &[Field]) -> Template {
    let head = [Field { at: 0, carry: Carry::SourcePort }, Field { at: 2, carry: Carry::DestinationPort }];
    let datagram = [&udp::header(payload.len())[..], payload].concat();
    let frame = frame::packet(source, dress, Protocol::UDP.0, &datagram);
    Template::new(frame, &[&head[..], fields].concat(), Sum::Datagram)
}

/// Whether a quoted packet is a UDP probe of ours under a protocol number of the plan.
pub(super) fn verify(quoted: &Quoted<'_>, judge: &Judge, protocol: Protocol) -> Verified {
    if quoted.protocol != Protocol::UDP.0 {
        return Verified::NotOurs;
    }
    let Some((source_port, destination_port, _)) = quoted.transport_head() else { return Verified::Wrong };
    if !judge.is_source_port(source_port) {
        return Verified::NotOurs;
    }
    let target = target(protocol, quoted.destination, destination_port);
    match judge.verify(&target, source_port) {
        Some((cookie, pass)) => Verified::Right { target, cookie, pass, bits: 0 },
        None => Verified::Wrong,
    }
}

fn target(protocol: Protocol, address: IpAddr, number: u16) -> Target {
    Target { address, port: Port { protocol, number } }
}

/// Golden answers that say nothing, and errors, for a probe that asks `question`.
pub(super) fn samples(
    (probe, question): (&dyn Probe, Question),
    target: &Target,
    judge: &Judge,
) -> Vec<Sample> {
    let us = judge.source(target.address).expect("a source of the family");
    let frame = sample::probe_frame(probe, target, judge, 0).expect("a template");
    let router = sample::router(us);
    let datagram = |port: u16| {
        let mut bytes = [&udp::header(4)[..], b"here"].concat();
        bytes[0..2].copy_from_slice(&target.port.number.to_be_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        sample::packet(target.address, us, Protocol::UDP.0, &bytes)
    };
    let host = question == Question::Host;
    let (open, closed) = if host { (State::Up, State::Up) } else { (State::Open, State::Closed) };
    let right = judge.source_port(target, 1);
    let (port, way, cut) = if us.is_ipv4() { ([3, 3], [3, 13], [3, 1]) } else { ([1, 4], [1, 1], [1, 3]) };
    let way = (way, Expected::Reply(State::Filtered, Reason::ADMIN_PROHIBITED, Proof::Medium));
    let filtered = Expected::Reply(State::Filtered, Reason::PORT_UNREACH, Proof::Medium);
    let closed = Expected::Reply(closed, Reason::PORT_UNREACH, Proof::Medium);
    let error = |from, message, quoted| sample::error(from, us, message, &frame, quoted);
    [
        ("answer", datagram(right), Expected::Reply(open, Reason::UDP_RESPONSE, Proof::Weak)),
        ("answer to another port", datagram(right ^ 0x100), Expected::Invalid(Invalid::BadCookie)),
        ("port unreachable from the target", error(target.address, port, 8), closed),
        ("port unreachable from a router", error(router, port, 8), filtered),
        ("prohibited", error(router, way.0, 8), way.1),
        ("quote that is too short", error(router, cut, 7), Expected::Invalid(Invalid::UnmatchedIcmp)),
    ]
    .map(|(name, frame, expected)| Sample { name, target: *target, frame, expected })
    .to_vec()
}
