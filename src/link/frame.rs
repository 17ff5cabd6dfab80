//! The little a link must read of its own finished frames when the interface has no Ethernet header.

use std::net::IpAddr;

use crate::wire::ethernet;

/// What stands behind the Ethernet header; empty for a frame that is shorter.
#[inline]
pub(super) fn packet(frame: &[u8]) -> &[u8] {
    frame.get(ethernet::HEADER..).unwrap_or_default()
}

/// The EtherType of a frame; none for one that is too short.
#[inline]
pub(super) fn ethertype(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?))
}

/// The network address a frame goes to; none if it is not IP.
pub(super) fn destination(frame: &[u8]) -> Option<IpAddr> {
    match ethertype(frame)? {
        ethernet::IPV4 => Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(30..34)?).ok()?)),
        ethernet::IPV6 => Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(38..54)?).ok()?)),
        _ => None,
    }
}
