//! The IP protocol probe: which protocols a host speaks. The target's port number is the protocol.
//!
//! A protocol that answers gets a packet that its stack answers: an echo request, an IGMP query, a TCP ACK, an empty UDP
//! datagram, an SCTP INIT. The others get what is whole and harmless ([`ip_body`]). An answer in such a protocol brings
//! nothing back: its grade is weak.
//!
//! IPv6 numbers that are extension headers get nothing: who reads a header follows it to the next, and answers about that.

use std::net::IpAddr;

use super::fault::{self, Question, Verified};
use super::{
    Dress, Expected, Judge, Judgement, Probe, Sample, frame, icmp, ip_body, sample, sctp, tcp, verdict,
};
use crate::batch::{Assigned, Carry, Field, Secrets, Source, Sum, Template};
use crate::event::{Proof, Reason, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::icmp::{ECHO, Message, Quoted, V6_ECHO};
use crate::wire::tcp::flag;
use crate::wire::{Segment, Transport, udp};

/// An IP protocol probe.
pub(super) struct Ip {
    name: &'static str,
    about: &'static str,
    protocols: [Protocol; 1],
    question: Question,
}

/// The registry rows.
pub(super) const PROTOCOL: Ip = Ip {
    name: "ip",
    about: "IP protocols: which of them the host speaks",
    protocols: [Protocol::IP],
    question: Question::Protocol,
};
pub(super) const PING: Ip = Ip {
    name: "ping-ip",
    about: "host discovery by IP protocols",
    protocols: [Protocol::PING_IP],
    question: Question::Host,
};

impl Probe for Ip {
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
        let assigned = |number: u8| {
            let (protocol, ports) = (self.protocols[0], Some(vec![number.into()]));
            Assigned { protocol, ports, template: template(source, dress, number) }
        };
        (0..=u8::MAX).map(assigned).collect()
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        if !judge.is_ours(segment.destination) {
            return Judgement::NotOurs;
        }
        let fault =
            fault::judge((time_ns, segment), judge, self.question, |quoted| self.verify(quoted, judge));
        if fault == Judgement::NotOurs { self.answer((time_ns, segment), judge) } else { fault }
    }

    fn silence(&self) -> State {
        State::OpenFiltered
    }

    fn example(&self) -> Port {
        Port { protocol: self.protocols[0], number: 99 }
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        samples(self, target, judge)
    }
}

fn template(source: &Source, dress: &Dress, number: u8) -> Template {
    let v6 = source.address.is_ipv6();
    let bare = |payload: &[u8], fields: &[Field], sum| {
        Template::new(frame::packet(source, dress, number, payload), fields, sum)
    };
    match number {
        1 if !v6 => icmp::echo(source, dress).expect("an echo exists in both families"),
        58 if v6 => icmp::echo(source, dress).expect("an echo exists in both families"),
        6 => tcp::template(source, dress, flag::ACK, Some(WEB)),
        17 => {
            let mut datagram = udp::header(0);
            datagram[2..4].copy_from_slice(&UNUSED.to_be_bytes());
            bare(&datagram, &[Field { at: 0, carry: Carry::SourcePort }], Sum::Datagram)
        }
        132 => sctp::init(source, dress, Some(WEB)),
        _ => {
            let ip_body::Body { bytes, fields, sum } = ip_body::body(number, v6);
            bare(bytes, fields, sum)
        }
    }
}

/// What a probe of a protocol carries, as far as it came back: the secret bits that are right, and whether the source port is
/// among what is right; `None` when something is wrong. The bits of source port and identification are not counted.
fn quoted_bits(number: u8, v6: bool, transport: &[u8], secrets: &Secrets) -> Option<(u32, bool)> {
    let quoted = |carry: Carry, at: usize| {
        let field = transport.get(at..at + carry.length())?;
        Some(carry.is_in(field, secrets))
    };
    let is = |carry: Carry, at: usize| quoted(carry, at) == Some(true);
    match number {
        1 | 58 if (number == 58) == v6 => {
            let message = Message::new(transport).ok()?;
            let body = if message.body.len() < 4 { &[] } else { message.body };
            let echo = message.kind == if v6 { V6_ECHO[0] } else { ECHO[0] };
            icmp::verify_echo(message.rest, body, secrets).filter(|_| echo).map(|bits| (bits, true))
        }
        6 => (is(Carry::SourcePort, 0) && is(Carry::Sequence, 4)).then_some((32, true)),
        17 => is(Carry::SourcePort, 0).then_some((0, true)),
        132 if is(Carry::SourcePort, 0) => {
            sctp::verify_quote(transport, sctp::IN_INIT, secrets.sequence).map(|bits| (bits, true))
        }
        132 => None,
        _ => ip_body::body(number, v6).quoted(quoted),
    }
}

impl Ip {
    fn target(&self, address: IpAddr, number: u8) -> Target {
        Target { address, port: Port { protocol: self.protocols[0], number: number.into() } }
    }

    /// Whether a quoted packet is a probe of ours. One that carries nothing but its identification (IPv6: flow label) is
    /// known by that alone.
    fn verify(&self, quoted: &Quoted<'_>, judge: &Judge) -> Verified {
        let target = self.target(quoted.destination, quoted.protocol);
        let v6 = quoted.destination.is_ipv6();
        // Every pass has another source port; what carries none tells no pass.
        for pass in 0..judge.passes() {
            let secrets = judge.secrets(&target, pass);
            let Some((bits, by_port)) = quoted_bits(quoted.protocol, v6, quoted.transport, &secrets) else {
                continue;
            };
            let known = quoted.identification == secrets.identification;
            if known || 0 < bits || by_port {
                return Verified::Right { target, cookie: judge.cookie(&target), pass, bits };
            }
        }
        // It may be another probe of this scan (TCP, UDP): that one says so itself.
        Verified::NotOurs
    }

    /// Judges a packet that is no error: any answer in the protocol.
    fn answer(&self, received: (u64, &Segment<'_>), judge: &Judge) -> Judgement {
        let segment = received.1;
        let Some(number) = segment.transport.protocol() else { return Judgement::NotOurs };
        let target = self.target(segment.source, number);
        let port =
            |port: u16| judge.is_source_port(port).then(|| judge.verify_secrets(&target, port)).flatten();
        let proved = match &segment.transport {
            Transport::Tcp(header) if header.source_port() == WEB => port(header.destination_port())
                .filter(|(secrets, _, _)| tcp::echoes(header, secrets.sequence))
                .map(|(_, _, pass)| (judge.proof(tcp::ECHO_BITS), pass)),
            Transport::Udp(datagram) if datagram.source_port == UNUSED => {
                port(datagram.destination_port).map(|(_, _, pass)| (judge.proof(0), pass))
            }
            Transport::Sctp(packet) if packet.source_port == WEB => port(packet.destination_port)
                .filter(|(secrets, _, _)| secrets.sequence == packet.verification_tag)
                .map(|(_, _, pass)| (judge.proof(32), pass)),
            Transport::Icmp(message) | Transport::Icmpv6(message)
                if [ECHO[1], V6_ECHO[1]].contains(&message.kind) =>
            {
                let [high, low, ..] = message.rest;
                port(u16::from_be_bytes([high, low])).and_then(|(secrets, _, pass)| {
                    let bits = icmp::verify_echo(message.rest, message.body, &secrets)?;
                    Some((judge.proof(bits), pass))
                })
            }
            // On loopback we hear our own probes.
            Transport::Other { payload, .. } if !judge.is_ours(segment.source) || payload.is_empty() => {
                Some((Proof::Weak, 0))
            }
            _ => None,
        };
        let Some(proof) = proved else { return Judgement::NotOurs };
        let state = if self.question == Question::Host { State::Up } else { State::Open };
        Judgement::Reply(verdict(received, target, (state, Reason::PROTO_RESPONSE), proof))
    }
}

/// The port that TCP and SCTP probes go to.
const WEB: u16 = 80;
/// The port that UDP probes go to: one where hardly anything listens.
const UNUSED: u16 = u16::from_be_bytes(ip_body::UNUSED);

fn samples(probe: &Ip, target: &Target, judge: &Judge) -> Vec<Sample> {
    let us = judge.source(target.address).expect("a source of the family");
    let host = probe.question == Question::Host;
    let (open, closed) = if host { (State::Up, State::Up) } else { (State::Open, State::Closed) };
    let frame = sample::probe_frame(probe, target, judge, 0).expect("a template");
    let router = sample::router(us);
    let number = target.port.number.to_be_bytes()[1];
    let (unknown, prohibited) = if us.is_ipv4() { ([3, 2], [3, 13]) } else { ([4, 1], [1, 1]) };
    let reason = if us.is_ipv4() { Reason::PROTO_UNREACH } else { Reason::PARAM_PROBLEM };
    let error = |from, message, quoted| sample::error(from, us, message, &frame, quoted);
    let filtered = |reason, proof| Expected::Reply(State::Filtered, reason, proof);
    let mut samples = vec![
        (
            "answer in the protocol",
            *target,
            sample::packet(target.address, us, number, b"something"),
            Expected::Reply(open, Reason::PROTO_RESPONSE, Proof::Weak),
        ),
        (
            "protocol unreachable from the target",
            *target,
            error(target.address, unknown, 8),
            Expected::Reply(closed, reason, Proof::Strong),
        ),
        (
            "protocol unreachable from a router",
            *target,
            error(router, unknown, 8),
            filtered(reason, Proof::Strong),
        ),
        (
            "prohibited",
            *target,
            error(router, prohibited, 8),
            filtered(Reason::ADMIN_PROHIBITED, Proof::Strong),
        ),
        ("quote that is too short", *target, error(router, prohibited, 4), Expected::NotOurs),
    ];
    // Each protocol with a header of its own, quoted in eight bytes.
    let strong = [6, 47, 88, 89].map(|number| (number, Proof::Strong));
    let medium = [4, 17, 33, 41, 132, 136, 137].map(|number| (number, Proof::Medium));
    for (number, proof) in strong.into_iter().chain(medium) {
        let target = probe.target(target.address, number);
        let frame = sample::probe_frame(probe, &target, judge, 0).expect("a template");
        let error = sample::error(router, us, prohibited, &frame, 8);
        samples.push(("prohibited", target, error, filtered(Reason::ADMIN_PROHIBITED, proof)));
    }
    samples
        .into_iter()
        .map(|(name, target, frame, expected)| Sample { name, target, frame, expected })
        .collect()
}
