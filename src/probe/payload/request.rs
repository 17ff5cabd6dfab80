//! Requests as they are written down, in parts, and as they are sent: bytes with places for what changes.

use std::net::IpAddr;

use crate::batch::{Carry, Field, Secrets};

/// A piece of a request or of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Raw(&'static [u8]),
    /// So many bytes of zero.
    Zeros(usize),
    /// Part of the cookie.
    Carry(Carry),
    /// The address the probe comes from, 4 bytes; zero when it is IPv6.
    Own4,
    /// The address the probe comes from, 16 bytes; IPv4 as `::ffff:a.b.c.d`.
    Own16,
}

/// A request: bytes, and where in them the cookie and the address of the sender stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// Offset and length of each place for the sender's address.
    own: Vec<(usize, usize)>,
}

impl Request {
    /// A request of parts.
    pub fn of(parts: &[Part]) -> Request {
        let mut request = Request::default();
        for part in parts {
            request.push(*part);
        }
        request
    }

    /// Appends a part.
    pub fn push(&mut self, part: Part) {
        let at = self.bytes.len();
        let length = match part {
            Part::Raw(bytes) => return self.bytes.extend_from_slice(bytes),
            Part::Zeros(count) => count,
            Part::Carry(carry) => {
                self.fields.push(Field { at, carry });
                carry.length()
            }
            Part::Own4 => 4,
            Part::Own16 => 16,
        };
        if matches!(part, Part::Own4 | Part::Own16) {
            self.own.push((at, length));
        }
        self.bytes.resize(at + length, 0);
    }

    /// Appends bytes that are known only now.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is an empty datagram.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where the cookie stands: offsets from the first byte.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The bytes as they are sent from an address, places for the cookie zero.
    pub fn bytes(&self, own: IpAddr) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for &(at, length) in &self.own {
            let place = &mut bytes[at..at + length];
            match own {
                IpAddr::V4(address) if length == 4 => place.copy_from_slice(&address.octets()),
                IpAddr::V4(address) => place.copy_from_slice(&address.to_ipv6_mapped().octets()),
                IpAddr::V6(address) if length == 16 => place.copy_from_slice(&address.octets()),
                IpAddr::V6(_) => {}
            }
        }
        bytes
    }

    /// The bytes as one probe carries them.
    pub fn written(&self, own: IpAddr, secrets: &Secrets) -> Vec<u8> {
        let mut bytes = self.bytes(own);
        for field in &self.fields {
            let length = field.carry.length();
            let number = field.carry.value(secrets, 0, 0).to_be_bytes();
            bytes[field.at..field.at + length].copy_from_slice(&number[8 - length..]);
        }
        bytes
    }
}
