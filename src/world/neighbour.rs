//! The stations of the scanner's own network: they say who they are when they are asked for (RFC 826).

use std::net::Ipv4Addr;

use serde::Deserialize;

use crate::wire::arp;
use crate::wire::ethernet::{self, Mac};

/// How neighbours answer.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Neighbourhood {
    /// Share of addresses nobody has.
    pub silent: f64,
    /// Share of questions that are lost.
    pub loss: f64,
    /// How long an answer takes, in microseconds.
    pub delay_us: u64,
}

impl Default for Neighbourhood {
    fn default() -> Neighbourhood {
        Neighbourhood { silent: 0.0, loss: 0.0, delay_us: 300 }
    }
}

impl Neighbourhood {
    /// The first share that is no probability.
    pub(super) fn mistake(&self) -> Option<&'static str> {
        let shares = [("silent", self.silent), ("loss", self.loss)];
        shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)).map(|(name, _)| name)
    }
}

/// The link-layer address of whoever has an address of the neighbourhood.
pub fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    Mac([2, 0xaa, a, b, c, d])
}

/// The frame in which one station tells another its link-layer address.
pub(super) fn reply(
    (mac, address): ([u8; 6], Ipv4Addr),
    (to, asking): (Mac, Ipv4Addr),
) -> [u8; ethernet::HEADER + arp::LENGTH] {
    let mut frame = [0; ethernet::HEADER + arp::LENGTH];
    frame[..ethernet::HEADER].copy_from_slice(&ethernet::header(to, Mac(mac), ethernet::ARP));
    // Hardware type Ethernet, protocol IPv4, lengths 6 and 4, operation reply.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&to.0);
    frame[38..42].copy_from_slice(&asking.octets());
    frame
}
