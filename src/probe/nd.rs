//! Neighbour discovery as a probe (RFC 4861): who on the link has an IPv6 address, and which link-layer address. What a host
//! sends cannot carry a cookie of ours, so the grade is weak; but nobody behind a router can answer (hop limit 255).

use super::{Dress, Expected, Judge, Judgement, Probe, Sample, sample, verdict};
use crate::batch::{Assigned, Source, Template};
use crate::event::{Proof, Reason, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::ethernet::{self, Mac};
use crate::wire::{Segment, Transport, nd};

/// The registry row.
pub(super) const SOLICIT: Solicit = Solicit;

/// The neighbour solicitation.
pub(super) struct Solicit;

impl Probe for Solicit {
    fn name(&self) -> &'static str {
        "nd"
    }

    fn about(&self) -> &'static str {
        "IPv6 neighbour discovery on the link, with MAC addresses"
    }

    fn protocols(&self) -> &[Protocol] {
        &[Protocol::ND]
    }

    fn templates(&self, source: &Source, _dress: &Dress) -> Vec<Assigned> {
        let std::net::IpAddr::V6(address) = source.address else { return Vec::new() };
        let mut frame = nd::solicitation(source.mac, address, [0; 16].into());
        if let Some(vlan) = source.vlan {
            ethernet::tag(&mut frame, vlan);
        }
        vec![Assigned { protocol: Protocol::ND, ports: None, template: Template::solicitation(frame) }]
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        let Transport::Icmpv6(message) = &segment.transport else { return Judgement::NotOurs };
        let Some(told) = nd::advertised(message, segment.ttl).filter(|_| judge.is_ours(segment.destination))
        else {
            return Judgement::NotOurs;
        };
        let target = Target { address: told.address, port: PORT };
        let heard = (State::Up, Reason::ND_RESPONSE);
        let mut record = verdict((time_ns, segment), target, heard, (Proof::Weak, 0));
        record.set_mac(told.mac.0);
        Judgement::Reply(record)
    }

    fn silence(&self) -> State {
        State::Filtered
    }

    fn example(&self) -> Port {
        PORT
    }

    fn samples(&self, target: &Target, judge: &Judge) -> Vec<Sample> {
        let (Some(std::net::IpAddr::V6(us)), std::net::IpAddr::V6(address)) =
            (judge.source(target.address), target.address)
        else {
            return Vec::new();
        };
        let told = nd::advertisement((Mac([2, 0, 0, 0, 0, 9]), address), (Mac([2, 0, 0, 0, 0, 1]), us));
        let changed = |at: usize, value: u8| {
            let mut frame = told.clone();
            frame[at] = value;
            frame
        };
        let up = Expected::Reply(State::Up, Reason::ND_RESPONSE, Proof::Weak);
        let (hop_limit, flags) = (ethernet::HEADER + 7, ethernet::HEADER + 44);
        let asked = nd::solicitation(Mac([2, 0, 0, 0, 0, 9]), address, us);
        let echo = sample::packet(target.address, us.into(), 58, &[129, 0, 0, 0, 0, 0, 0, 0]);
        [
            ("advertisement", told.clone(), up),
            ("advertisement through a router", changed(hop_limit, 254), Expected::NotOurs),
            ("advertisement nobody asked for", changed(flags, 0x20), Expected::NotOurs),
            ("solicitation", asked, Expected::NotOurs),
            ("echo reply", echo, Expected::NotOurs),
        ]
        .map(|(name, frame, expected)| Sample { name, target: *target, frame, expected })
        .to_vec()
    }
}

const PORT: Port = Port { protocol: Protocol::ND, number: 0 };
