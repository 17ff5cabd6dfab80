//! Address resolution as a probe (RFC 826): who on the link has an IPv4 address, and which link-layer address. What a
//! host sends cannot carry a cookie of ours, so the grade is weak; but ARP never crosses a router, so who answers is on
//! the link.

use std::net::IpAddr;

use super::{Dress, Expected, Judge, Judgement, Probe, Sample, verdict};
use crate::batch::{Assigned, Source, Template};
use crate::event::{Proof, Reason, State};
use crate::target::{Port, Protocol, Target};
use crate::wire::ethernet::{self, Mac};
use crate::wire::{Segment, Transport, arp};

/// The registry row.
pub(super) const SWEEP: Sweep = Sweep;

/// The ARP request.
pub(super) struct Sweep;

impl Probe for Sweep {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn about(&self) -> &'static str {
        "IPv4 address resolution on the link, with MAC addresses"
    }

    fn protocols(&self) -> &[Protocol] {
        &[Protocol::ARP]
    }

    fn templates(&self, source: &Source, _dress: &Dress) -> Vec<Assigned> {
        let IpAddr::V4(address) = source.address else { return Vec::new() };
        let mut frame = arp::request(source.mac, address, [0; 4].into());
        if let Some(vlan) = source.vlan {
            ethernet::tag(&mut frame, vlan);
        }
        vec![Assigned { protocol: Protocol::ARP, ports: None, template: Template::arp(frame) }]
    }

    fn classify(&self, time_ns: u64, segment: &Segment<'_>, judge: &Judge) -> Judgement {
        let Transport::Arp(packet) = &segment.transport else { return Judgement::NotOurs };
        let Some(told) = packet.announcement().filter(|_| judge.is_ours(segment.destination)) else {
            return Judgement::NotOurs;
        };
        let target = Target { address: told.address, port: PORT };
        let heard = (State::Up, Reason::ARP_RESPONSE);
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
        let (Some(IpAddr::V4(us)), IpAddr::V4(them)) = (judge.source(target.address), target.address) else {
            return Vec::new();
        };
        let (near, far) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 9]));
        let up = Expected::Reply(State::Up, Reason::ARP_RESPONSE, Proof::Weak);
        let mut tagged = arp::answer((far, them), (near, us));
        ethernet::tag(&mut tagged, 7);
        [
            ("reply", arp::answer((far, them), (near, us)), up),
            ("reply with a tag", tagged, up),
            (
                "reply to somebody else",
                arp::answer((far, them), (near, [192, 0, 2, 77].into())),
                Expected::NotOurs,
            ),
            ("request", arp::request(far, them, us), Expected::NotOurs),
            ("reply of no station", arp::answer((Mac::default(), them), (near, us)), Expected::NotOurs),
        ]
        .map(|(name, frame, expected)| Sample { name, target: *target, frame, expected })
        .to_vec()
    }
}

const PORT: Port = Port { protocol: Protocol::ARP, number: 0 };
