//! ICMP errors about our probes: what each says, and whether it quotes a probe of ours.
//!
//! The tables are nmap's, as `scripts/compare verdicts` finds them (docs/probes.md). Some errors mean something else when the target itself sent
//! them: its kernel has no such port, or no such protocol.

use super::{Judge, Judgement, verdict};
use crate::cookie::Cookie;
use crate::event::{Invalid, Reason, State};
use crate::target::Target;
use crate::wire::icmp::{self, Message, Quoted};
use crate::wire::{Segment, Transport};

/// What the probe that an error quotes had asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether a port is open where connections are made (TCP, SCTP).
    Port,
    /// Whether a UDP port is open.
    Datagram,
    /// Whether the host speaks an IP protocol.
    Protocol,
    /// Whether there is a host.
    Host,
}

/// What a probe finds out about a quoted packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// It is no probe of this kind.
    NotOurs,
    /// It claims to be one and is none, or too little of it is quoted.
    Wrong,
    /// It is one.
    Right {
        /// The target of the probe.
        target: Target,
        /// Its cookie.
        cookie: Cookie,
        /// Its pass.
        pass: u8,
        /// Secret bits that were compared and right, besides source port and identification.
        bits: u32,
    },
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The way to the host.
    Way,
    /// A port of it.
    Port,
    /// A protocol of it.
    Protocol,
    /// A field of a header, which was understood up to there (ICMPv6 4/0).
    Field,
}

/// Judges a segment that may be an ICMP error by everything it quotes; `verify` says whether the quoted packet is a
/// probe. [`Judgement::NotOurs`] for anything else.
#[inline]
pub fn judge(
    (time_ns, segment): (u64, &Segment<'_>),
    judge: &Judge,
    question: Question,
    verify: impl FnOnce(&Quoted<'_>) -> Verified,
) -> Judgement {
    let (told, quoted) = match &segment.transport {
        Transport::Icmp(message) => (told_v4(message), message.quoted_v4()),
        Transport::Icmpv6(message) => (told_v6(message), message.quoted_v6()),
        _ => return Judgement::NotOurs,
    };
    let Some((reason, about)) = told else { return Judgement::NotOurs };
    let Ok(quoted) = quoted else { return Judgement::Invalid(Invalid::UnmatchedIcmp) };
    // An error about a packet of somebody else's that merely passed by.
    if !judge.is_ours(quoted.source) {
        return Judgement::Invalid(Invalid::UnmatchedIcmp);
    }
    let (target, cookie, pass, bits) = match verify(&quoted) {
        Verified::NotOurs => return Judgement::NotOurs,
        Verified::Wrong => return Judgement::Invalid(Invalid::UnmatchedIcmp),
        Verified::Right { target, cookie, pass, bits } => (target, cookie, pass, bits),
    };
    // Some translators change the identification (IPv6: the flow label, where the same 16 bits stand); what else is
    // right still proves the probe, only less.
    let identified = quoted.identification == cookie.identification();
    if planted!(12, !identified, false) {
        return Judgement::Invalid(Invalid::UnmatchedIcmp);
    }
    let from_target = segment.source == target.address;
    let speaks = question == Question::Protocol && from_target && target.port.number == own_number(segment);
    let (state, reason) = if speaks {
        // Whatever the error says, it is a packet of the protocol that was asked for.
        (State::Open, Reason::PROTO_RESPONSE)
    } else {
        (state(question, about, from_target), reason)
    };
    let proof = judge.proof(bits + if identified { 16 } else { 0 });
    Judgement::Reply(verdict((time_ns, segment), target, (state, reason), (proof, pass)))
}

/// The number of the protocol that errors of a family are sent in.
fn own_number(segment: &Segment<'_>) -> u16 {
    if segment.source.is_ipv4() { 1 } else { 58 }
}

fn state(question: Question, about: About, from_target: bool) -> State {
    match (question, about, from_target) {
        (Question::Datagram, About::Port, true) | (Question::Protocol, About::Protocol, true) => {
            State::Closed
        }
        (Question::Host, About::Port | About::Protocol | About::Field, true) => State::Up,
        (Question::Protocol, About::Port, true) => State::Open,
        (Question::Port | Question::Datagram | Question::Protocol, About::Field, _) => State::Open,
        _ => State::Filtered,
    }
}

/// What an ICMP error says; `None` for messages that say nothing about a port.
fn told_v4(message: &Message<'_>) -> Option<(Reason, About)> {
    let way = |reason| Some((reason, About::Way));
    match (message.kind, message.code) {
        (icmp::UNREACHABLE, 0) => way(Reason::NET_UNREACH),
        (icmp::UNREACHABLE, 1) => way(Reason::HOST_UNREACH),
        (icmp::UNREACHABLE, 2) => Some((Reason::PROTO_UNREACH, About::Protocol)),
        (icmp::UNREACHABLE, 3) => Some((Reason::PORT_UNREACH, About::Port)),
        (icmp::UNREACHABLE, 9) => way(Reason::NET_PROHIBITED),
        (icmp::UNREACHABLE, 10) => way(Reason::HOST_PROHIBITED),
        (icmp::UNREACHABLE, 13) => way(Reason::ADMIN_PROHIBITED),
        // 3/4 (fragmentation needed) and 3/5 (source route failed) say nothing about the port.
        (icmp::UNREACHABLE, 6 | 7 | 8 | 11 | 12 | 14 | 15) => way(Reason::DEST_UNREACH),
        (icmp::TIME_EXCEEDED, _) => way(Reason::TIME_EXCEEDED),
        _ => None,
    }
}

/// As [`told_v4`], for ICMPv6 (RFC 4443 sections 3.1 to 3.4).
fn told_v6(message: &Message<'_>) -> Option<(Reason, About)> {
    let way = |reason| Some((reason, About::Way));
    match (message.kind, message.code) {
        (icmp::V6_UNREACHABLE, 0) => way(Reason::NO_ROUTE),
        (icmp::V6_UNREACHABLE, 1 | 5) => way(Reason::ADMIN_PROHIBITED),
        (icmp::V6_UNREACHABLE, 2) => way(Reason::BEYOND_SCOPE),
        (icmp::V6_UNREACHABLE, 3) => way(Reason::HOST_UNREACH),
        (icmp::V6_UNREACHABLE, 4) => Some((Reason::PORT_UNREACH, About::Port)),
        (icmp::V6_UNREACHABLE, 6) => way(Reason::REJECT_ROUTE),
        (icmp::V6_TIME_EXCEEDED, _) => way(Reason::TIME_EXCEEDED),
        (icmp::V6_PARAMETER_PROBLEM, 0) => Some((Reason::PARAM_PROBLEM, About::Field)),
        (icmp::V6_PARAMETER_PROBLEM, 1) => Some((Reason::PARAM_PROBLEM, About::Protocol)),
        _ => None,
    }
}
