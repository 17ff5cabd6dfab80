//! Frames of probes before their changing fields are written: what every kind of probe builds its templates from.

use std::net::IpAddr;

use super::Dress;
use crate::batch::Source;
use crate::wire::ethernet::{self, Mac};
use crate::wire::{ipv4, ipv6};

/// The Ethernet frame of an IP packet from `source` that carries `payload`, a transport header and what follows it.
/// Next hop, destination, identification and header checksum are zero, as [`crate::batch::Template::new`] wants them.
///
/// # Panics
/// When the payload is too long for a packet.
pub fn packet(source: &Source, dress: &Dress, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a probe fits a packet");
    let mut frame = Vec::with_capacity(ethernet::HEADER + ethernet::TAG + ipv6::HEADER + payload.len());
    match source.address {
        IpAddr::V4(address) => {
            frame.extend(ethernet::header(Mac::default(), source.mac, ethernet::IPV4));
            let mut header = ipv4::header(&ipv4::Fields {
                source: address,
                destination: [0; 4].into(),
                protocol,
                ttl: dress.ttl,
                identification: 0,
                payload_length: length,
            });
            header[10..12].fill(0);
            frame.extend(header);
        }
        IpAddr::V6(address) => {
            frame.extend(ethernet::header(Mac::default(), source.mac, ethernet::IPV6));
            frame.extend(ipv6::header(address, [0; 16].into(), protocol, dress.ttl, length));
        }
    }
    frame.extend(payload);
    if let Some(vlan) = source.vlan {
        ethernet::tag(&mut frame, vlan);
    }
    frame
}
