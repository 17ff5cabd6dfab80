//! What a UDP port is asked, and when an answer proves that it came from there.
//!
//! UDP has no handshake: most services keep silent unless they are spoken to in their own protocol. This is the
//! library of smallest requests that get an answer, written from the RFCs and protocol documents that each names. Each
//! carries the cookie where its protocol brings one back, and has a check that tells a whole answer from one that was
//! cut short, from the answer to another probe and from something else.
//!
//! No request here is an amplifier: one whose answer is known to exceed [`FACTOR_LIMIT`] times its own size is left
//! out unless the user asks for it. The worst that is known of the protocol stands beside each, whatever the request.
//!
//! Invariant: pure. Nothing here knows a frame, a clock or the key; docs/udp.md is made of these tables and a test
//! compares them.

mod answer;
mod ber;
mod device;
mod directory;
mod escape;
mod game;
mod infrastructure;
mod library;
mod name;
mod nmap_file;
mod peer;
mod phone;
mod request;
mod storage;
mod toml_file;
mod trivial;
mod tunnel;

use crate::batch::Secrets;

pub use answer::Finding;
pub use escape::{FileMistake, FilePayload};
pub use library::{Expectation, Payload, Payloads};
pub use nmap_file::read_nmap;
pub use request::{Part, Request};
pub use toml_file::read_toml;

/// Every request, by family, in the order in which a port's are asked.
pub const FAMILIES: &[(&str, &[Service])] = &[
    ("names", name::SERVICES),
    ("trivial services and time", trivial::SERVICES),
    ("network infrastructure", infrastructure::SERVICES),
    ("directories and management", directory::SERVICES),
    ("storage and remote procedures", storage::SERVICES),
    ("telephony and media", phone::SERVICES),
    ("tunnels and transports", tunnel::SERVICES),
    ("devices", device::SERVICES),
    ("games and voice", game::SERVICES),
    ("peers", peer::SERVICES),
];

/// A request whose answers are known to be more than this many times as long is not sent unless asked for
/// (`--udp-amplifiers`).
pub const FACTOR_LIMIT: f32 = 10.0;

/// The most payloads one port may have: as many as there are protocol numbers for them
/// ([`crate::target::Protocol::UDP_PAYLOADS`]).
pub const MOST_PER_PORT: usize = crate::target::Protocol::UDP_PAYLOADS.len();

/// One request of the library.
pub struct Service {
    /// The name in lists and files: lower case, unique.
    pub name: &'static str,
    /// What answers it, in a few words.
    pub about: &'static str,
    /// The ports where the service is found.
    pub ports: &'static [u16],
    /// What is sent.
    pub request: &'static [Part],
    /// A whole answer, as the source shows it: the golden one that the tests judge.
    pub answer: &'static [Part],
    /// Judges an answer.
    pub check: fn(&[u8], &Secrets) -> Finding,
    /// Secret bits that a whole answer proves, the source port's not counted.
    pub bits: u32,
    /// The longest answer known to this very request, as a multiple of the request (UDP payload bytes).
    pub factor: f32,
    /// The worst amplification known of the protocol, by any request.
    pub worst: f32,
    /// Whether the answer comes from a port of the server's own choice (TFTP).
    pub any_port: bool,
    /// The document that request and answer were written from.
    pub source: &'static str,
}

impl Service {
    /// Whether it is sent without being asked for.
    pub fn is_default(&self) -> bool {
        self.factor <= FACTOR_LIMIT
    }
}

/// Every request of the library.
pub fn services() -> impl Iterator<Item = &'static Service> {
    FAMILIES.iter().flat_map(|(_, services)| services.iter())
}

#[cfg(test)]
mod tests;
