//! Address resolution for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::ethernet::{self, Mac};

/// Length of a request or reply in bytes, without the Ethernet header.
pub const LENGTH: usize = 28;

/// A reply, or any packet that tells who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// The address.
    pub address: Ipv4Addr,
    /// Who has it.
    pub mac: Mac,
}

/// The Ethernet frame that asks who has `wanted`.
pub fn request(mac: Mac, address: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet::header(Mac::BROADCAST, mac, ethernet::ARP).to_vec();
    // Hardware type Ethernet, protocol IPv4, lengths 6 and 4, operation request.
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&wanted.octets());
    frame
}

/// Reads the sender of an ARP reply; `None` for anything else. Requests are not believed: only an answer to our own
/// question may fill the table.
pub fn reply(packet: &[u8]) -> Option<Announcement> {
    let packet: &[u8; LENGTH] = packet.get(..LENGTH)?.try_into().ok()?;
    if packet[..8] != [0, 1, 8, 0, 6, 4, 0, 2] {
        return None;
    }
    let mac = Mac(packet[8..14].try_into().ok()?);
    if mac.is_group() || mac == Mac::default() {
        return None;
    }
    let octets: [u8; 4] = packet[14..18].try_into().ok()?;
    Some(Announcement { address: Ipv4Addr::from(octets), mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_turned_around_is_a_reply() {
        let (near, far) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let (us, them) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let frame = request(near, us, them);
        assert_eq!(frame.len(), ethernet::HEADER + LENGTH);
        assert_eq!(reply(&frame[ethernet::HEADER..]), None, "a request is not believed");
        let mut answer = request(far, them, us);
        answer[ethernet::HEADER + 7] = 2;
        assert_eq!(reply(&answer[ethernet::HEADER..]), Some(Announcement { address: them, mac: far }));
        for bad in [Mac::BROADCAST, Mac::default(), Mac([0x01, 0, 0x5e, 0, 0, 1])] {
            let mut answer = answer.clone();
            answer[ethernet::HEADER + 8..ethernet::HEADER + 14].copy_from_slice(&bad.0);
            assert_eq!(reply(&answer[ethernet::HEADER..]), None, "no station has the address {bad}");
        }
        for length in 0..LENGTH {
            assert_eq!(reply(&answer[ethernet::HEADER..ethernet::HEADER + length]), None);
        }
    }
}
