//! The only vocabulary that rx, service and sinks share: what was learned about a target ([`Record`]) and about
//! the scan as a whole ([`Manifest`], [`Summary`]).
//!
//! Invariant: nothing here knows a frame, a socket or a file. Bytes that came from the network are
//! [`Untrusted`] and have no `Display`: only a sink can render them, each by its own escaping rules.

mod manifest;

use std::net::{IpAddr, Ipv6Addr};

use crate::target::{Port, Protocol, Target};

pub use manifest::{
    Course, ExcludedLater, Loss, Manifest, NetworkEvent, PORTS_IN_SUMMARY, Part, PortSummary, SinkSummary,
    Status, Summary,
};

/// What a reply says about its target. The names are nmap's; the numbers are frozen (database columns).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Something accepts connections or answers there.
    Open = 1,
    /// The host answers that nothing listens there.
    Closed = 2,
    /// Something on the way says the probe may not pass.
    Filtered = 3,
    /// The host answers, which tells nothing about the port (ACK scans).
    Unfiltered = 4,
    /// The host answered a question that is about no port (ICMP echo, ARP, host discovery).
    Up = 5,
    /// Silence where an open port may be silent (UDP, FIN, NULL, XMAS, IP protocol). Written only on request.
    OpenFiltered = 6,
}

impl State {
    /// Every state, in the order of its number.
    pub const ALL: [State; 6] =
        [State::Open, State::Closed, State::Filtered, State::Unfiltered, State::Up, State::OpenFiltered];

    /// The word used on the command line, in text output and in the database view.
    pub const fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Closed => "closed",
            State::Filtered => "filtered",
            State::Unfiltered => "unfiltered",
            State::Up => "up",
            State::OpenFiltered => "open|filtered",
        }
    }

    /// The frozen number, as stored in [`Record`] and in databases.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The state of that name; `None` for a word that names none.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// The state of a frozen number; `None` for a number no version has used.
    pub fn from_number(number: u8) -> Option<State> {
        State::ALL.into_iter().find(|state| state.number() == number)
    }
}

/// Why a state was concluded: nmap's reason strings (as `nmap --reason` prints them), with frozen numbers.
///
/// Unknown numbers are representable, so that a reader of a newer file does not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(pub u8);

impl Reason {
    /// A SYN-ACK answered a SYN.
    pub const SYN_ACK: Reason = Reason(1);
    /// A RST answered.
    pub const RESET: Reason = Reason(2);
    /// ICMP destination unreachable, network (3/0).
    pub const NET_UNREACH: Reason = Reason(3);
    /// ICMP destination unreachable, host (3/1); ICMPv6 address unreachable (1/3).
    pub const HOST_UNREACH: Reason = Reason(4);
    /// ICMP destination unreachable, protocol (3/2).
    pub const PROTO_UNREACH: Reason = Reason(5);
    /// ICMP destination unreachable, port (3/3); ICMPv6 (1/4).
    pub const PORT_UNREACH: Reason = Reason(6);
    /// ICMP network administratively prohibited (3/9).
    pub const NET_PROHIBITED: Reason = Reason(7);
    /// ICMP host administratively prohibited (3/10).
    pub const HOST_PROHIBITED: Reason = Reason(8);
    /// ICMP communication administratively prohibited (3/13); ICMPv6 (1/1, 1/5).
    pub const ADMIN_PROHIBITED: Reason = Reason(9);
    /// ICMP destination unreachable, another code.
    pub const DEST_UNREACH: Reason = Reason(10);
    /// ICMP time exceeded (11); ICMPv6 (3).
    pub const TIME_EXCEEDED: Reason = Reason(11);
    /// ICMPv6 no route (1/0).
    pub const NO_ROUTE: Reason = Reason(12);
    /// ICMPv6 beyond scope (1/2).
    pub const BEYOND_SCOPE: Reason = Reason(13);
    /// ICMPv6 reject route (1/6).
    pub const REJECT_ROUTE: Reason = Reason(14);
    /// ICMPv6 parameter problem (4); ICMP parameter problem (12).
    pub const PARAM_PROBLEM: Reason = Reason(15);
    /// A UDP datagram answered a UDP probe.
    pub const UDP_RESPONSE: Reason = Reason(16);
    /// ICMP echo reply (0); ICMPv6 (129).
    pub const ECHO_REPLY: Reason = Reason(17);
    /// ICMP timestamp reply (14).
    pub const TIMESTAMP_REPLY: Reason = Reason(18);
    /// ICMP address mask reply (18).
    pub const ADDRESSMASK_REPLY: Reason = Reason(19);
    /// An ARP reply (RFC 826).
    pub const ARP_RESPONSE: Reason = Reason(20);
    /// A neighbour advertisement (RFC 4861).
    pub const ND_RESPONSE: Reason = Reason(21);
    /// An INIT-ACK chunk answered an SCTP INIT.
    pub const INIT_ACK: Reason = Reason(22);
    /// An ABORT chunk answered an SCTP probe.
    pub const ABORT: Reason = Reason(23);
    /// A packet of the probed IP protocol answered.
    pub const PROTO_RESPONSE: Reason = Reason(24);
    /// Nothing answered.
    pub const NO_RESPONSE: Reason = Reason(25);
    /// A bare SYN answered a SYN: a simultaneous open (RFC 9293 section 3.5).
    pub const SPLIT_HANDSHAKE: Reason = Reason(26);
    /// The operating system said that a connection was refused.
    pub const CONN_REFUSED: Reason = Reason(27);
    /// This host answered itself (connect scans).
    pub const LOCALHOST_RESPONSE: Reason = Reason(28);

    /// Every reason this version writes, with its nmap name.
    pub const ALL: &'static [(Reason, &'static str)] = &[
        (Reason::SYN_ACK, "syn-ack"),
        (Reason::RESET, "reset"),
        (Reason::NET_UNREACH, "net-unreach"),
        (Reason::HOST_UNREACH, "host-unreach"),
        (Reason::PROTO_UNREACH, "proto-unreach"),
        (Reason::PORT_UNREACH, "port-unreach"),
        (Reason::NET_PROHIBITED, "net-prohibited"),
        (Reason::HOST_PROHIBITED, "host-prohibited"),
        (Reason::ADMIN_PROHIBITED, "admin-prohibited"),
        (Reason::DEST_UNREACH, "dest-unreach"),
        (Reason::TIME_EXCEEDED, "time-exceeded"),
        (Reason::NO_ROUTE, "no-route"),
        (Reason::BEYOND_SCOPE, "beyond-scope"),
        (Reason::REJECT_ROUTE, "reject-route"),
        (Reason::PARAM_PROBLEM, "param-problem"),
        (Reason::UDP_RESPONSE, "udp-response"),
        (Reason::ECHO_REPLY, "echo-reply"),
        (Reason::TIMESTAMP_REPLY, "timestamp-reply"),
        (Reason::ADDRESSMASK_REPLY, "addressmask-reply"),
        (Reason::ARP_RESPONSE, "arp-response"),
        (Reason::ND_RESPONSE, "nd-response"),
        (Reason::INIT_ACK, "init-ack"),
        (Reason::ABORT, "abort"),
        (Reason::PROTO_RESPONSE, "proto-response"),
        (Reason::NO_RESPONSE, "no-response"),
        (Reason::SPLIT_HANDSHAKE, "split-handshake-syn"),
        (Reason::CONN_REFUSED, "conn-refused"),
        (Reason::LOCALHOST_RESPONSE, "localhost-response"),
    ];

    /// The reason of that name; `None` for a word that this version does not know.
    pub fn from_name(name: &str) -> Option<Reason> {
        Reason::ALL.iter().find(|(_, known)| *known == name).map(|(reason, _)| *reason)
    }

    /// nmap's reason string; `unknown-response` for a number this version does not know.
    pub fn name(self) -> &'static str {
        Reason::ALL.iter().find(|(reason, _)| *reason == self).map_or("unknown-response", |(_, name)| name)
    }
}

/// How much of the cookie the reply proved. The false-accept bound of each grade stands in docs/architecture.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Proof {
    /// Fewer than 24 secret bits were echoed.
    Weak = 1,
    /// 24 to 39 secret bits were echoed.
    Medium = 2,
    /// 40 or more secret bits were echoed.
    Strong = 3,
}

impl Proof {
    /// The grades, weakest first.
    pub const ALL: [Proof; 3] = [Proof::Weak, Proof::Medium, Proof::Strong];

    /// The word used in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Proof::Weak => "weak",
            Proof::Medium => "medium",
            Proof::Strong => "strong",
        }
    }

    /// The frozen number, as stored in databases.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The grade of that name.
    pub fn from_name(name: &str) -> Option<Proof> {
        Proof::ALL.into_iter().find(|proof| proof.name() == name)
    }

    /// The grade of a frozen number.
    pub fn from_number(number: u8) -> Option<Proof> {
        Proof::ALL.into_iter().find(|proof| proof.number() == number)
    }
}

/// Why a frame that claims to answer one of our probes does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Invalid {
    /// A header is cut short or contradicts itself.
    Malformed,
    /// It comes to one of our ports and carries another cookie than the target's.
    BadCookie,
    /// A RST without ACK echoes nothing of the probe.
    RstWithoutAck,
    /// A combination of flags that answers no probe of this scan.
    UnexpectedFlags,
    /// An ICMP error that quotes none of our probes, or too little of one.
    UnmatchedIcmp,
    /// A valid cookie for a target that is not in the plan. Never a result: an alarm.
    OutOfPlan,
}

impl Invalid {
    /// Every reason, in the order of its number.
    pub const ALL: [Invalid; 6] = [
        Invalid::Malformed,
        Invalid::BadCookie,
        Invalid::RstWithoutAck,
        Invalid::UnexpectedFlags,
        Invalid::UnmatchedIcmp,
        Invalid::OutOfPlan,
    ];

    /// The word in the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Invalid::Malformed => "malformed",
            Invalid::BadCookie => "bad-cookie",
            Invalid::RstWithoutAck => "rst-without-ack",
            Invalid::UnexpectedFlags => "unexpected-flags",
            Invalid::UnmatchedIcmp => "unmatched-icmp",
            Invalid::OutOfPlan => "out-of-plan",
        }
    }
}

/// One verdict plus its facts: what the queue and every sink carry. 64 bytes, plain data, no pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// When the reply was received: nanoseconds since the Unix epoch, UTC, as the kernel stamped it.
    pub time_ns: u64,
    /// The target's address; IPv4 as `::ffff:a.b.c.d`.
    address: [u8; 16],
    /// Who sent the reply: the target, or the router that sent an ICMP error. IPv4 as `::ffff:a.b.c.d`.
    responder: [u8; 16],
    /// Round-trip time in microseconds; 0 when the layout carries no timestamp.
    pub rtt_us: u32,
    /// FNV-1a hash of the reply's TCP option kinds in order (a stack fingerprint); 0 without options. For ARP and
    /// neighbour discovery part of the link-layer address ([`Record::mac`]).
    pub options_hash: u32,
    /// The target's port.
    pub port: u16,
    /// TCP window as received, not scaled. For ARP and neighbour discovery part of [`Record::mac`].
    pub window: u16,
    /// TCP maximum segment size option; 0 when absent.
    pub mss: u16,
    /// IP identification of the reply (IPv4); 0 for IPv6.
    pub ip_id: u16,
    /// IANA protocol number of the probe.
    pub protocol: Protocol,
    /// What the reply says.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// How well the reply proved that it answers our probe.
    pub proof: Proof,
    /// IP time to live (hop limit) of the reply as received.
    pub ttl: u8,
    /// TCP window scale option, or [`Record::NO_SCALE`].
    pub window_scale: u8,
    /// Which pass the reply answers, from 0.
    pub pass: u8,
    /// The TCP flags of the reply, FIN lowest (RFC 9293 section 3.1); 0 when they are not known or it is not TCP.
    pub flags: u8,
}

const _: () = assert!(size_of::<Record>() == 64, "a record is one cache line");

impl Record {
    /// The value of [`Record::window_scale`] when the option was absent (RFC 7323 allows 0..=14).
    pub const NO_SCALE: u8 = 0xff;

    /// A record about `target`, answered by `responder`, with every fact still unset.
    pub fn new(target: Target, responder: IpAddr, state: State, reason: Reason) -> Record {
        Record {
            time_ns: 0,
            address: mapped(target.address),
            responder: mapped(responder),
            rtt_us: 0,
            options_hash: 0,
            port: target.port.number,
            window: 0,
            mss: 0,
            ip_id: 0,
            protocol: target.port.protocol,
            state,
            reason,
            proof: Proof::Weak,
            ttl: 0,
            window_scale: Record::NO_SCALE,
            pass: 0,
            flags: 0,
        }
    }

    /// The target's address.
    pub fn address(&self) -> IpAddr {
        unmapped(self.address)
    }

    /// Who sent the reply.
    pub fn responder(&self) -> IpAddr {
        unmapped(self.responder)
    }

    /// The link-layer address that an ARP or neighbour discovery reply told; `None` for every other record.
    pub fn mac(&self) -> Option<[u8; 6]> {
        let told = self.protocol == Protocol::ARP || self.protocol == Protocol::ND;
        let ([a, b, c, d], [e, f]) = (self.options_hash.to_be_bytes(), self.window.to_be_bytes());
        told.then_some([a, b, c, d, e, f])
    }

    /// Notes the link-layer address of an ARP or neighbour discovery reply, in the fields that only TCP uses.
    pub fn set_mac(&mut self, [a, b, c, d, e, f]: [u8; 6]) {
        self.options_hash = u32::from_be_bytes([a, b, c, d]);
        self.window = u16::from_be_bytes([e, f]);
    }

    /// The record as 64 bytes, little endian, fields in the order of this declaration: how it stands in a spool, frozen.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.address);
        bytes[24..40].copy_from_slice(&self.responder);
        bytes[40..44].copy_from_slice(&self.rtt_us.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.options_hash.to_le_bytes());
        bytes[48..50].copy_from_slice(&self.port.to_le_bytes());
        bytes[50..52].copy_from_slice(&self.window.to_le_bytes());
        bytes[52..54].copy_from_slice(&self.mss.to_le_bytes());
        bytes[54..56].copy_from_slice(&self.ip_id.to_le_bytes());
        bytes[56..].copy_from_slice(&[
            self.protocol.0,
            self.state.number(),
            self.reason.0,
            self.proof.number(),
            self.ttl,
            self.window_scale,
            self.pass,
            self.flags,
        ]);
        bytes
    }

    /// Reads what [`Record::to_bytes`] wrote; `None` when state or proof is one this version does not know.
    pub fn from_bytes(bytes: &[u8; 64]) -> Option<Record> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let octets = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).expect("sixteen bytes");
        Some(Record {
            time_ns: u64::from(word(0)) | u64::from(word(4)) << 32,
            address: octets(8),
            responder: octets(24),
            rtt_us: word(40),
            options_hash: word(44),
            port: half(48),
            window: half(50),
            mss: half(52),
            ip_id: half(54),
            protocol: Protocol(bytes[56]),
            state: State::from_number(bytes[57])?,
            reason: Reason(bytes[58]),
            proof: Proof::from_number(bytes[59])?,
            ttl: bytes[60],
            window_scale: bytes[61],
            pass: bytes[62],
            flags: bytes[63],
        })
    }

    /// What sorted sets are sorted by: address (IPv4 before IPv6, each by its number), port, protocol, then time.
    #[inline]
    pub fn sort_key(&self) -> (bool, u128, u16, u8, u64) {
        let is_v6 = !self.address.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        (is_v6, u128::from_be_bytes(self.address), self.port, self.protocol.0, self.time_ns)
    }

    /// The target this record is about.
    pub fn target(&self) -> Target {
        Target { address: self.address(), port: Port { protocol: self.protocol, number: self.port } }
    }
}

/// Bytes that came from the network. No `Display` and no `Deref` on purpose: whoever renders them must choose
/// an escaping first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted(pub Vec<u8>);

/// Bytes that a target sent, with the verdict they belong to. Not a verdict of its own: sinks that hold verdicts only
/// leave it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The target, and when and how the bytes came.
    pub record: Record,
    /// What they are: the service or part of it, in masscan's words (`ssh`, `http`, `title`), or `banner`.
    pub key: Box<str>,
    /// The bytes.
    pub bytes: Untrusted,
}

/// What the bytes of an [`Attachment`] are, with the number masscan's binary files have for it. Two of its numbers mean
/// `unknown` and two mean `ssh`; here each has a word.
pub const APPLICATIONS: &[(u16, &str)] = &[
    (0, "none"),
    (1, "unknown"),
    (2, "ssh"),
    (3, "ssh2"),
    (4, "http"),
    (5, "ftp"),
    (6, "dns-ver"),
    (7, "snmp"),
    (8, "nbtstat"),
    (9, "ssl"),
    (10, "smb"),
    (11, "smtp"),
    (12, "pop"),
    (13, "imap"),
    (14, "zeroaccess"),
    (15, "X509"),
    (16, "X509CA"),
    (17, "title"),
    (18, "html"),
    (19, "ntp"),
    (20, "vuln"),
    (21, "heartbleed"),
    (22, "ticketbleed"),
    (23, "vnc"),
    (24, "safe"),
    (25, "memcached"),
    (26, "scripting"),
    (27, "versioning"),
    (28, "coap"),
    (29, "telnet"),
    (30, "rdp"),
    (31, "http.server"),
    (32, "minecraft"),
    (33, "vnc-info"),
    (35, "isakmp"),
];

/// A batch of what was observed, in its order: verdicts, and bytes between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observations {
    /// The verdicts.
    pub records: Vec<Record>,
    /// The bytes, each with the number of `records` that come before it; ascending.
    pub attachments: Vec<(usize, Attachment)>,
}

impl Observations {
    /// Forgets everything and keeps the room.
    pub fn clear(&mut self) {
        self.records.clear();
        self.attachments.clear();
    }

    /// Number of verdicts and attachments.
    pub fn len(&self) -> usize {
        self.records.len() + self.attachments.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.attachments.is_empty()
    }

    /// Adds bytes behind the verdicts so far.
    pub fn attach(&mut self, attachment: Attachment) {
        self.attachments.push((self.records.len(), attachment));
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn unmapped(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_states_and_reasons_are_unique_and_reversible() {
        for state in State::ALL {
            assert_eq!(State::from_number(state.number()), Some(state));
        }
        for (index, (reason, name)) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.name(), *name);
            assert!(Reason::ALL[..index].iter().all(|(other, text)| other != reason && text != name));
        }
    }

    #[test]
    fn every_field_of_a_record_survives_its_64_bytes() {
        let address: IpAddr = "2001:db8::7".parse().expect("an address");
        let target = Target { address, port: Port { protocol: Protocol(0xa1), number: 0xb2b3 } };
        let mut record = Record::new(target, IpAddr::from([192, 0, 2, 9]), State::OpenFiltered, Reason(0xc4));
        record.time_ns = 0x0102_0304_0506_0708;
        (record.rtt_us, record.options_hash) = (0x1112_1314, 0x2122_2324);
        (record.window, record.mss, record.ip_id) = (0x3132, 0x4142, 0x5152);
        (record.proof, record.ttl, record.window_scale) = (Proof::Strong, 61, 62);
        (record.pass, record.flags) = (63, 64);
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes), Some(record));
        for (at, unknown) in [(57, 0), (57, 200), (59, 0), (59, 4)] {
            let mut bytes = bytes;
            bytes[at] = unknown;
            assert_eq!(Record::from_bytes(&bytes), None);
        }
    }

    #[test]
    fn reasons_for_rejection_are_numbered_in_their_order() {
        assert!(Invalid::ALL.iter().enumerate().all(|(index, invalid)| *invalid as usize == index));
    }
}
