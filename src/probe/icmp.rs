//! The ICMP questions: echo, timestamp and address mask (RFC 792, RFC 950), and ICMPv6 echo (RFC 4443). Whoever answers is
//! up. The target's port number is the message type; an echo to an IPv6 address is ICMPv6's and keeps ICMP's number.
//!
//! The identifier is the source port and the sequence number the low half of the cookie's low half; what is echoed
//! besides carries the whole of it, and of an echo the time as well, which comes back as the round-trip time.

use std::net::IpAddr;

use super::fault::{self, Question, Verified};
use super::{Dress, Expected, Judge, Judgement, Probe, Sample, frame, round_trip_us, sample, verdict};
use crate::batch::{Assigned, Carry, Field, Secrets, Source, Sum, Template};
use crate::event::{Invalid, Proof, Reason, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::icmp::{self, Message, Quoted};
use crate::wire::{Segment, Transport};

/// The registry row.
pub(super) const PING: Icmp = Icmp;

/// The ICMP probe.
pub(super) struct Icmp;

/// One question: the request's and the reply's type, the bytes behind identifier and sequence number, and whether the
/// first four of them carry the cookie and the next four the time.
struct Kind {
    types: [u8; 2],
    reason: Reason,
    body: usize,
    cookie: bool,
    time: bool,
}

const KINDS: [Kind; 3] = [
    Kind { types: icmp::ECHO, reason: Reason::ECHO_REPLY, body: 8, cookie: true, time: true },
    // Originate, receive and transmit timestamp; the first is echoed.
    Kind { types: icmp::TIMESTAMP, reason: Reason::TIMESTAMP_REPLY, body: 12, cookie: true, time: false },
    Kind {
        types: icmp::ADDRESS_MASK,
        reason: Reason::ADDRESSMASK_REPLY,
        body: 4,
        cookie: false,
        time: false,
    },
];

impl Kind {
    /// Where what the frame carries stands, from the start of the ICMP header.
    fn fields(&self) -> Vec<Field> {
        let mut fields = vec![Field { at: 4, carry: Carry::SourcePort }, Field { at: 6, carry: Carry::Low }];
        if self.cookie {
            fields.push(Field { at: 8, carry: Carry::Sequence });
        }
        if self.time {
            fields.push(Field { at: 12, carry: Carry::Time });
        }
        fields
    }

    fn template(&self, source: &Source, dress: &Dress) -> Option<Template> {
        let (kind, protocol, sum) = match source.address {
            IpAddr::V4(_) => (self.types[0], Protocol::ICMP, Sum::Plain { at: 2 }),
            IpAddr::V6(_) if self.types == icmp::ECHO => {
                (icmp::V6_ECHO[0], Protocol::ICMPV6, Sum::Pseudo { at: 2 })
            }
            IpAddr::V6(_) => return None,
        };
        let mut message = vec![0; 8 + self.body];
        message[0] = kind;
        let frame = frame::packet(source, dress, protocol.0, &message);
        Some(Template::new(frame, &self.fields(), sum))
    }

    fn target(&self, address: IpAddr) -> Target {
        Target { address, port: Port { protocol: Protocol::ICMP, number: self.types[0].into() } }
    }
}

/// The echo request to an address, for IP protocol scans.
pub(super) fn echo(source: &Source, dress: &Dress) -> Option<Template> {
    KINDS[0].template(source, dress)
}

/// What of an echo came back: the secret bits that are right, `None` when one is wrong. `rest` are identifier and sequence
/// number, `body` what follows.
pub(super) fn verify_echo(rest: [u8; 4], body: &[u8], secrets: &Secrets) -> Option<u32> {
    let right = |carry: Carry, bytes: &[u8]| carry.is_in(bytes, secrets);
    if !right(Carry::SourcePort, &rest[..2]) || !right(Carry::Low, &rest[2..]) {
        return None;
    }
    match body {
        // A host that cuts the data off still echoes identifier and sequence number.
        [] => Some(Carry::Low.bits()),
        body => right(Carry::Sequence, body).then(|| Carry::Sequence.bits()),
    }
}

impl Probe for Icmp {
    fn name(&self) -> &'static str {
        "icmp"
    }

    fn about(&self) -> &'static str {
        "ICMP echo, timestamp, address mask; ICMPv6 echo"
    }

    fn protocols(&self) -> &[Protocol] {
        &[Protocol::ICMP]
    }

    fn templates(&self, source: &Source, dress: &Dress) -> Vec<Assigned> {
        let assigned = |kind: &Kind| {
            let (protocol, ports) = (Protocol::ICMP, Some(vec![kind.types[0].into()]));
            Some(Assigned { protocol, ports, template: kind.template(source, dress)? })
        };
        KINDS.iter().filter_map(assigned).collect()
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        if !judge.is_ours(segment.destination) {
            return Judgement::NotOurs;
        }
        let answered = match &segment.transport {
            Transport::Icmp(message) => {
                KINDS.iter().find(|kind| kind.types[1] == message.kind).map(|kind| (kind, message))
            }
            Transport::Icmpv6(message) if message.kind == icmp::V6_ECHO[1] => Some((&KINDS[0], message)),
            _ => None,
        };
        match answered {
            Some((kind, message)) => answer((time_ns, segment), kind, message, judge),
            None => fault::judge((time_ns, segment), judge, Question::Host, |quoted| verify(quoted, judge)),
        }
    }

    fn silence(&self) -> State {
        State::Filtered
    }

    fn example(&self) -> Port {
        Port { protocol: Protocol::ICMP, number: icmp::ECHO[0].into() }
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        samples(target, judge)
    }
}

fn answer(received: (u64, &Segment<'_>), kind: &Kind, message: &Message<'_>, judge: &Judge) -> Judgement {
    let [high, low, ..] = message.rest;
    let identifier = u16::from_be_bytes([high, low]);
    // Somebody else on this host pings, too.
    if !judge.is_source_port(identifier) {
        return Judgement::NotOurs;
    }
    let target = kind.target(received.1.source);
    let Some((secrets, _, pass)) = judge.verify_secrets(&target, identifier) else {
        return Judgement::Invalid(Invalid::BadCookie);
    };
    let body = if kind.cookie { message.body } else { &[] };
    let Some(bits) = verify_echo(message.rest, body, &secrets) else {
        return Judgement::Invalid(Invalid::BadCookie);
    };
    let mut record = verdict(received, target, (State::Up, kind.reason), (judge.proof(bits), pass));
    if let (true, Some(&[a, b, c, d])) = (kind.time, message.body.get(4..8)) {
        record.rtt_us = round_trip_us(received.0, u32::from_be_bytes([a, b, c, d]));
    }
    Judgement::Reply(record)
}

/// Whether a quoted packet is a question of ours.
fn verify(quoted: &Quoted<'_>, judge: &Judge) -> Verified {
    let (requests, protocol) = match quoted.destination {
        IpAddr::V4(_) => (KINDS.map(|kind| kind.types[0]), Protocol::ICMP),
        IpAddr::V6(_) => ([icmp::V6_ECHO[0], 0, 0], Protocol::ICMPV6),
    };
    let Ok(message) = Message::new(quoted.transport) else {
        return if quoted.protocol == protocol.0 { Verified::Wrong } else { Verified::NotOurs };
    };
    let kind = requests.iter().position(|request| *request == message.kind && *request != 0);
    let Some(kind) = kind.filter(|_| quoted.protocol == protocol.0).map(|kind| &KINDS[kind]) else {
        return Verified::NotOurs;
    };
    let [high, low, ..] = message.rest;
    let identifier = u16::from_be_bytes([high, low]);
    if !judge.is_source_port(identifier) {
        return Verified::NotOurs;
    }
    let target = kind.target(quoted.destination);
    let Some((secrets, cookie, pass)) = judge.verify_secrets(&target, identifier) else {
        return Verified::Wrong;
    };
    // Quotes end anywhere: a part of the cookie is as good as none.
    let body = if kind.cookie && 4 <= message.body.len() { message.body } else { &[] };
    match verify_echo(message.rest, body, &secrets) {
        Some(bits) => Verified::Right { target, cookie, pass, bits },
        None => Verified::Wrong,
    }
}

fn samples(target: &Target, judge: &Judge) -> Vec<Sample> {
    let us = judge.source(target.address).expect("a source of the family");
    let kinds = KINDS.iter().filter(|kind| us.is_ipv4() || kind.types == icmp::ECHO);
    kinds.flat_map(|kind| samples_of(kind, us, &kind.target(target.address), judge)).collect()
}

fn samples_of(kind: &Kind, us: IpAddr, target: &Target, judge: &Judge) -> Vec<Sample> {
    let request = sample::probe_frame(&PING, target, judge, 0).expect("a template");
    let (protocol, answer_type, transport) =
        if us.is_ipv4() { (1, kind.types[1], 34) } else { (58, icmp::V6_ECHO[1], 54) };
    let turned = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = request[transport..].to_vec();
        message[0] = answer_type;
        change(&mut message);
        sample::packet(target.address, us, protocol, &message)
    };
    let grade = if kind.cookie { Proof::Strong } else { Proof::Medium };
    let up = |proof| Expected::Reply(State::Up, kind.reason, proof);
    let bad = Expected::Invalid(Invalid::BadCookie);
    let prohibited = if us.is_ipv4() { [3, 13] } else { [1, 1] };
    let error = |quoted| sample::error(sample::router(us), us, prohibited, &request, quoted);
    let filtered = |proof| Expected::Reply(State::Filtered, Reason::ADMIN_PROHIBITED, proof);
    let mut samples = vec![
        ("reply", turned(&|_| {}), up(grade)),
        ("reply without data", turned(&|message| message.truncate(8)), up(Proof::Medium)),
        ("wrong sequence number", turned(&|message| message[7] ^= 1), bad),
        ("identifier of another pass that is not ours", turned(&|message| message[5] ^= 0x20), bad),
        ("identifier of another program", turned(&|message| message[4] = 1), Expected::NotOurs),
        ("prohibited, 8 bytes quoted", error(8), filtered(Proof::Strong)),
        ("quote that is too short", error(7), Expected::Invalid(Invalid::UnmatchedIcmp)),
    ];
    if kind.cookie {
        samples.push(("wrong data", turned(&|message| message[9] ^= 0x80), bad));
        samples.push(("prohibited, all quoted", error(64), filtered(Proof::Strong)));
    }
    let sample = |(name, frame, expected)| Sample { name, target: *target, frame, expected };
    samples.into_iter().map(sample).collect()
}
