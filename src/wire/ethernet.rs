//! Ethernet II frames (IEEE 802.3, RFC 894), and the 802.1Q tag.

use std::fmt;

/// Length of the header in bytes.
pub const HEADER: usize = 14;

/// Length of an 802.1Q tag in bytes.
pub const TAG: usize = 4;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// A link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Whether it means many stations (IEEE 802: the lowest bit of the first octet).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            *octet = parts
                .next()
                .filter(|part| (1..=2).contains(&part.len()))
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| format!("'{text}' is no link-layer address; write it as 02:00:5e:10:00:01"))?;
        }
        match parts.next() {
            None => Ok(Mac(octets)),
            Some(_) => Err(format!("'{text}' is no link-layer address: it has more than six parts")),
        }
    }
}

/// Writes a header.
pub fn header(destination: Mac, source: Mac, ethertype: u16) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..6].copy_from_slice(&destination.0);
    bytes[6..12].copy_from_slice(&source.0);
    bytes[12..].copy_from_slice(&ethertype.to_be_bytes());
    bytes
}

/// Puts an 802.1Q tag into a frame: priority 0, VLAN identifier in the low 12 bits.
pub fn tag(frame: &mut Vec<u8>, vlan: u16) {
    let [high, low] = (vlan & 0xfff).to_be_bytes();
    let [first, second] = VLAN.to_be_bytes();
    frame.splice(12..12, [first, second, high, low]);
}

/// The EtherType behind a tag, if there is one, and the offset of what it announces; `None` for a frame that is too
/// short.
#[inline]
pub fn announced(frame: &[u8]) -> Option<(u16, usize)> {
    match u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]) {
        VLAN => Some((u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]), HEADER + TAG)),
        ethertype => Some((ethertype, HEADER)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_layer_address_reads_back_as_written() {
        let mac: Mac = "02:00:5E:10:00:01".parse().expect("valid");
        assert_eq!(mac.to_string(), "02:00:5e:10:00:01");
        for bad in ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "02:00:5e:10:00:0g", "0200:5e:10:00:01:02"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
