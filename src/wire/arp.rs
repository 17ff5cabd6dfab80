//! Address resolution for IPv4 over Ethernet (RFC 826).

use std::net::{IpAddr, Ipv4Addr};

use super::ethernet::{self, Mac};

/// Length of a request or reply in bytes, without the Ethernet header.
pub const LENGTH: usize = 28;

/// What a reply (or a neighbour advertisement) tells: who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub mac: Mac,
}

/// What a request (or a neighbour solicitation) asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The address that is asked for.
    pub wanted: IpAddr,
    /// Who asks.
    pub by: IpAddr,
    /// Where the answer goes.
    pub mac: Mac,
}

/// A request or a reply, as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Whether it answers; else it asks.
    pub is_reply: bool,
    /// Link-layer address of the sender.
    pub mac: Mac,
    /// Address of the sender: what a reply tells.
    pub sender: Ipv4Addr,
    /// Address of the receiver: what a request asks for.
    pub target: Ipv4Addr,
}

/// The Ethernet frame that asks who has `wanted`.
pub fn request(mac: Mac, address: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    packet(REQUEST, (Mac::BROADCAST, mac), (mac, address), (Mac::default(), wanted))
}

/// The Ethernet frame that tells `to` that `mac` has `own`.
pub fn answer((mac, own): (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    packet(REPLY, (to.0, mac), (mac, own), to)
}

fn packet(
    operation: u8,
    (to, from): (Mac, Mac),
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Vec<u8> {
    let mut frame = ethernet::header(to, from, ethernet::ARP).to_vec();
    // Hardware type Ethernet, protocol IPv4, lengths 6 and 4.
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, address) in [sender, target] {
        frame.extend_from_slice(&mac.0);
        frame.extend_from_slice(&address.octets());
    }
    frame
}

impl Packet {
    /// Reads a packet; `None` for anything but a request or a reply of a station.
    pub fn new(bytes: &[u8]) -> Option<Packet> {
        let bytes: &[u8; LENGTH] = bytes.get(..LENGTH)?.try_into().ok()?;
        if bytes[..7] != [0, 1, 8, 0, 6, 4, 0] || ![REQUEST, REPLY].contains(&bytes[7]) {
            return None;
        }
        let mac = Mac(bytes[8..14].try_into().ok()?);
        if mac.is_group() || mac == Mac::default() {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        Some(Packet { is_reply: bytes[7] == REPLY, mac, sender: address(14), target: address(24) })
    }

    /// What a request asks; a probe for a duplicate (RFC 5227) comes from 0.0.0.0 and is answered as well.
    pub fn question(&self) -> Option<Asked> {
        let asked = Asked { wanted: IpAddr::V4(self.target), by: IpAddr::V4(self.sender), mac: self.mac };
        (!self.is_reply).then_some(asked)
    }

    /// What a reply tells. Requests are not believed: only an answer to our own question may fill the table.
    pub fn announcement(&self) -> Option<Announcement> {
        self.is_reply.then_some(Announcement { address: IpAddr::V4(self.sender), mac: self.mac })
    }
}

const REQUEST: u8 = 1;
const REPLY: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(packet: &[u8]) -> Option<Announcement> {
        Packet::new(packet)?.announcement()
    }

    #[test]
    fn a_request_is_answered_by_a_reply_that_tells_who_has_the_address() {
        let (near, far) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let (us, them) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let frame = request(near, us, them);
        assert_eq!(frame.len(), ethernet::HEADER + LENGTH);
        assert_eq!(told(&frame[ethernet::HEADER..]), None, "a request is not believed");
        let asked = Packet { is_reply: false, mac: near, sender: us, target: them };
        assert_eq!(Packet::new(&frame[ethernet::HEADER..]), Some(asked));
        assert_eq!(asked.question(), Some(Asked { wanted: them.into(), by: us.into(), mac: near }));
        let answer = answer((far, them), (near, us));
        let announcement = Announcement { address: them.into(), mac: far };
        assert_eq!(told(&answer[ethernet::HEADER..]), Some(announcement));
        assert_eq!(Packet::new(&answer[ethernet::HEADER..]).map(|packet| packet.target), Some(us));
        for bad in [Mac::BROADCAST, Mac::default(), Mac([0x01, 0, 0x5e, 0, 0, 1])] {
            let mut answer = answer.clone();
            answer[ethernet::HEADER + 8..ethernet::HEADER + 14].copy_from_slice(&bad.0);
            assert_eq!(told(&answer[ethernet::HEADER..]), None, "no station has the address {bad}");
        }
        for length in 0..LENGTH {
            assert_eq!(told(&answer[ethernet::HEADER..ethernet::HEADER + length]), None);
        }
    }
}
