//! The UDP probe: each port is asked in the protocol that is expected there ([`payload`](super::payload)), and an
//! answer is believed as far as it proves that it answers us.
//!
//! Where a port has several payloads, each is a target of its own under the numbers of [`Protocol::UDP_PAYLOADS`].
//! An answer is open; the grade says how many secret bits came back, the source port's included. What is no answer of
//! the protocol comes from something that listens there: open as well, with the weakest grade. What answers somebody
//! else's question, or stops in the middle of a sentence, is no answer.

use std::net::IpAddr;
use std::sync::LazyLock;

use super::fault::{self, Question, Verified};
use super::payload::{Finding, Payload, Payloads, Request, services};
use super::{Dress, Expected, Judge, Judgement, Probe, Sample, sample, udp, verdict};
use crate::batch::{Assigned, Field, Source};
use crate::event::{Invalid, Reason, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::icmp::Quoted;
use crate::wire::udp::{self as wire, Datagram};
use crate::wire::{Segment, Transport};

/// The registry row: the library without its amplifiers.
pub(super) static UDP: LazyLock<UdpPayloads> = LazyLock::new(|| UdpPayloads::new(Payloads::library(false)));

/// UDP with a payload for each port.
pub struct UdpPayloads {
    payloads: Payloads,
    protocols: Vec<Protocol>,
    /// Ports whose server answers from another one, with the number of the payload.
    elsewhere: Vec<(u16, usize)>,
}

impl UdpPayloads {
    /// The probe that asks these.
    pub fn new(payloads: Payloads) -> UdpPayloads {
        let most = payloads.iter().map(|(_, asked)| asked.len()).max().unwrap_or(1);
        let elsewhere = payloads.iter().flat_map(|(port, asked)| {
            let numbered = asked.iter().enumerate().filter(|(_, payload)| payload.any_port);
            numbered.map(move |(number, _)| (port, number)).collect::<Vec<_>>()
        });
        let elsewhere = elsewhere.collect();
        UdpPayloads { payloads, protocols: Protocol::UDP_PAYLOADS[..most].to_vec(), elsewhere }
    }

    /// What a UDP port becomes in a plan: a target for each of its payloads.
    pub fn targets(&self, number: u16) -> impl Iterator<Item = Port> {
        let protocols = self.protocols[..self.payloads.of(number).len()].iter();
        protocols.map(move |&protocol| Port { protocol, number })
    }

    /// The payload of a port under one of the protocol numbers.
    fn asked(&self, port: Port) -> Option<&Payload> {
        let number = self.protocols.iter().position(|protocol| *protocol == port.protocol)?;
        self.payloads.of(port.number).get(number).map(AsRef::as_ref)
    }

    fn answer(&self, received: (u64, &Segment<'_>), datagram: &Datagram<'_>, judge: &Judge) -> Judgement {
        let us = datagram.destination_port;
        // On loopback we hear our own probes; one to a port of the same range would look like an answer.
        let own = judge.is_source_port(datagram.source_port) && judge.is_ours(received.1.source);
        if !judge.is_source_port(us) || own {
            return Judgement::NotOurs;
        }
        let mut refused = Invalid::BadCookie;
        let same = self.targets(datagram.source_port).map(|port| (port, false));
        let other = self
            .elsewhere
            .iter()
            .map(|&(number, payload)| (Port { protocol: self.protocols[payload], number }, true));
        for (port, elsewhere) in same.chain(other) {
            let target = Target { address: received.1.source, port };
            let (Some(payload), Some((secrets, _, pass))) =
                (self.asked(port), judge.verify_secrets(&target, us))
            else {
                continue;
            };
            let bits = match payload.judge(datagram.payload, &secrets) {
                Finding::Proved(bits) => bits,
                Finding::Foreign if elsewhere => continue,
                Finding::Foreign => 0,
                // The rest came in fragments of their own: what is here is all that can be judged.
                Finding::Truncated if datagram.is_cut => 0,
                Finding::Truncated => {
                    refused = Invalid::Malformed;
                    continue;
                }
                Finding::OtherCookie if planted!(48, true, false) => 0,
                Finding::OtherCookie => continue,
            };
            let proof = (judge.proof(bits), pass);
            return Judgement::Reply(verdict(received, target, (State::Open, Reason::UDP_RESPONSE), proof));
        }
        Judgement::Invalid(refused)
    }

    /// Whether a quoted packet is a probe of ours, judged by everything that is quoted of it.
    fn verify(&self, quoted: &Quoted<'_>, judge: &Judge) -> Verified {
        let mut best = Verified::NotOurs;
        let Some((_, number, _)) = quoted.transport_head() else { return Verified::Wrong };
        for port in self.targets(number) {
            match udp::verify(quoted, judge, port.protocol) {
                Verified::Right { target, cookie, pass, .. } => {
                    let secrets = judge.secrets(&target, pass);
                    let Some(payload) = self.asked(port) else { continue };
                    let behind = quoted.transport.get(wire::HEADER..).unwrap_or_default();
                    match quoted_bits(&payload.request, behind, &secrets) {
                        Some(bits) => return Verified::Right { target, cookie, pass, bits },
                        None => best = Verified::Wrong,
                    }
                }
                Verified::Wrong => best = Verified::Wrong,
                Verified::NotOurs => {}
            }
        }
        best
    }
}

/// Secret bits that the quoted part of a request repeats; `None` when one of its fields is wrong.
fn quoted_bits(request: &Request, quoted: &[u8], secrets: &crate::batch::Secrets) -> Option<u32> {
    let mut bits = 0;
    for field in request.fields() {
        let Some(bytes) = quoted.get(field.at..field.at + field.carry.length()) else { continue };
        if !field.carry.is_in(bytes, secrets) {
            return None;
        }
        // Fields repeat the same secrets; only the widest counts.
        bits = bits.max(field.carry.bits());
    }
    Some(bits)
}

impl Probe for UdpPayloads {
    fn name(&self) -> &'static str {
        "udp"
    }

    fn about(&self) -> &'static str {
        "UDP: an answer is open, port-unreachable closed"
    }

    fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    fn templates(&self, source: &Source, dress: &Dress) -> Vec<Assigned> {
        let mut asked: Vec<(Protocol, &Payload, Vec<u16>)> = Vec::new();
        for (port, payloads) in self.payloads.iter() {
            for (payload, protocol) in payloads.iter().zip(&self.protocols) {
                let known = asked.iter_mut().find(|(known, other, _)| {
                    known == protocol && other.name == payload.name && other.request == payload.request
                });
                match known {
                    Some((_, _, ports)) => ports.push(port),
                    None => asked.push((*protocol, payload, vec![port])),
                }
            }
        }
        let assigned = asked.into_iter().map(|(protocol, payload, ports)| {
            let request = &payload.request;
            let field = |field: &Field| Field { at: wire::HEADER + field.at, carry: field.carry };
            let fields: Vec<Field> = request.fields().iter().map(field).collect();
            let template = udp::template(source, dress, &request.bytes(source.address), &fields);
            Assigned { protocol, ports: Some(ports), template }
        });
        let rest = udp::template(source, dress, &[], &[]);
        assigned.chain([Assigned { protocol: Protocol::UDP, ports: None, template: rest }]).collect()
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        if !judge.is_ours(segment.destination) {
            return Judgement::NotOurs;
        }
        match &segment.transport {
            Transport::Udp(datagram) => self.answer((time_ns, segment), datagram, judge),
            _ => fault::judge((time_ns, segment), judge, Question::Datagram, |quoted| {
                self.verify(quoted, judge)
            }),
        }
    }

    fn silence(&self) -> State {
        State::OpenFiltered
    }

    fn example(&self) -> Port {
        Port { protocol: Protocol::UDP, number: 53 }
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        let mut samples = udp::samples((self, Question::Datagram), target, judge);
        samples.extend(services().filter(|service| service.is_default()).flat_map(|service| {
            let number = service.ports[0];
            let place = self.payloads.of(number).iter().position(|payload| payload.name == service.name);
            let protocol = place.map(|place| self.protocols[place]);
            let port = protocol.map(|protocol| Port { protocol, number });
            port.map(|port| golden(service, Target { port, ..*target }, judge)).unwrap_or_default()
        }));
        samples
    }
}

/// What a service of the library answers, what it would answer somebody else, and half of it.
fn golden(service: &super::payload::Service, target: Target, judge: &Judge) -> Vec<Sample> {
    let us = judge.source(target.address).expect("a source of the family");
    let answer = Request::of(service.answer);
    let stranger = Target { address: sample::router(us), ..target };
    let whole = answer.written(us, &judge.secrets(&target, 1));
    let others = answer.written(us, &judge.secrets(&stranger, 1));
    let half = whole[..whole.len() / 2].to_vec();
    let grade = |bits| Expected::Reply(State::Open, Reason::UDP_RESPONSE, judge.proof(bits));
    let from = if service.any_port { 50_069 } else { target.port.number };
    let frame =
        |from, payload: &[u8]| datagram((target.address, from), (us, judge.source_port(&target, 1)), payload);
    let mut samples = vec![("whole answer", frame(from, &whole), grade(service.bits))];
    if 0 < service.bits {
        samples.push((
            "answer to somebody else",
            frame(from, &others),
            Expected::Invalid(Invalid::BadCookie),
        ));
        samples.push(("half an answer", frame(from, &half), Expected::Invalid(Invalid::Malformed)));
    }
    samples.into_iter().map(|(name, frame, expected)| Sample { name, target, frame, expected }).collect()
}

/// The Ethernet frame of a datagram.
fn datagram((from, port): (IpAddr, u16), (to, to_port): (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&wire::header(payload.len())[..], payload].concat();
    bytes[0..2].copy_from_slice(&port.to_be_bytes());
    bytes[2..4].copy_from_slice(&to_port.to_be_bytes());
    sample::packet(from, to, Protocol::UDP.0, &bytes)
}
