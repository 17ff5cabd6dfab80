//! What golden replies are made of: the probe's own frame as the generator would have it stamped, packets from the
//! target, and ICMP errors that quote the probe.

use std::net::IpAddr;

use super::{Dress, Judge, Probe};
use crate::batch::{Batch, Family, Source};
use crate::target::Target;
use crate::wire::ethernet::{self, Mac};
use crate::wire::{checksum, ipv4, ipv6};

/// The Ethernet frame that `probe` sends to a target in a pass, destination link-layer address zero; `None` when it has
/// no template for this target.
pub fn probe_frame(probe: &dyn Probe, target: &Target, judge: &Judge, pass: u8) -> Option<Vec<u8>> {
    let source = Source { address: judge.source(target.address)?, mac: Mac([2, 0, 0, 0, 0, 1]), vlan: None };
    let family = if target.address.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut fitting: Vec<_> = probe
        .templates(&source, &Dress::default())
        .into_iter()
        .filter(|assigned| {
            let ports = assigned.ports.as_ref();
            assigned.protocol == target.port.protocol
                && assigned.template.family() == family
                && ports.is_none_or(|ports| ports.contains(&target.port.number))
        })
        .collect();
    fitting.sort_by_key(|assigned| assigned.ports.is_none());
    let template = &fitting.first()?.template;
    let mut batch = Batch::empty();
    batch.resize(1);
    match target.address {
        IpAddr::V4(address) => batch.destination_v4[0] = address.into(),
        IpAddr::V6(address) => batch.destination_v6[0] = address.into(),
    }
    let secrets = judge.secrets(target, pass);
    batch.destination_port[0] = target.port.number;
    batch.source_port[0] = secrets.source_port;
    (batch.sequence[0], batch.identification[0]) = (secrets.sequence, secrets.identification);
    batch.time_us = TIME_US;
    let mut frame = vec![0; template.frame_length()];
    template.stamp(&batch, 0, Mac::default(), &mut frame);
    Some(frame)
}

/// The time that [`probe_frame`] stamps.
pub const TIME_US: u32 = 0x0102_0304;

/// The Ethernet frame of an IP packet between two addresses of one family, with TTL 57 and a transport of this
/// protocol.
///
/// # Panics
/// When the addresses are of two families: samples are constants.
pub fn packet(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("samples are short");
    let (near, far) = (Mac([2; 6]), Mac([4; 6]));
    let header = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let fields = ipv4::Fields {
                source,
                destination,
                protocol,
                ttl: 57,
                identification: 0x1234,
                payload_length: length,
            };
            [&ethernet::header(near, far, ethernet::IPV4)[..], &ipv4::header(&fields)].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = ipv6::header(source, destination, protocol, 57, length);
            [&ethernet::header(near, far, ethernet::IPV6)[..], &header].concat()
        }
        _ => panic!("a packet has one family"),
    };
    [header, payload.to_vec()].concat()
}

/// The Ethernet frame of an ICMP or ICMPv6 error from `router` to `us` about `original`, an Ethernet frame of ours, of
/// which the network header and `quoted` bytes behind it are quoted.
///
/// # Panics
/// As [`packet`].
pub fn error(router: IpAddr, us: IpAddr, [kind, code]: [u8; 2], original: &[u8], quoted: usize) -> Vec<u8> {
    let header = if us.is_ipv4() { ipv4::HEADER } else { ipv6::HEADER };
    let end = (ethernet::HEADER + header + quoted).min(original.len());
    let mut body = vec![kind, code, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&original[ethernet::HEADER..end]);
    let sum = checksum::finish(checksum::sum(&body));
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(router, us, if us.is_ipv4() { 1 } else { 58 }, &body)
}

/// A router of the family of an address.
pub fn router(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => IpAddr::from([192, 0, 2, 254]),
        IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe]),
    }
}
