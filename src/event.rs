//! The only vocabulary that rx, service and sinks share: what was learned about a target ([`Record`]) and about
//! the scan as a whole ([`Manifest`], [`Summary`]).
//!
//! Invariant: nothing here knows a frame, a socket or a file. Bytes that came from the network are
//! [`Untrusted`] and have no `Display`: only a sink can render them, each by its own escaping rules.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::target::{Port, Protocol, Target};

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

/// Why a state was concluded: nmap's reason strings (`reference: nmap --reason`), with frozen numbers.
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

/// What a scan was asked to do and, once it ended, what it did. Written to every sink at the start (status
/// `running`) and rewritten at the end, so that a crashed scan is visible.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Random identifier of this run, UUID version 4 in its usual text form.
    pub scan_uuid: String,
    /// `swath`.
    pub tool: Cow<'static, str>,
    /// The version of swath that ran.
    pub version: Cow<'static, str>,
    /// The command line, without secrets.
    pub argv: Vec<String>,
    /// Digest of the plan: 64 hexadecimal digits. Equal digests mean equal targets, probes and order.
    pub plan_digest: String,
    /// The targets themselves, excludes taken away: what a comparison of two scans needs to know what each of them
    /// covered. `None` when there are more separate ranges than fit ([`Manifest::RANGES`]); the hash stands always.
    pub coverage: Option<Vec<Part>>,
    /// SHA-256 of the targets, 64 hexadecimal digits.
    pub targets_sha256: String,
    /// Addresses that may never be probed, as blocks; `None` when there are too many.
    pub excludes: Option<Vec<String>>,
    /// SHA-256 of those, 64 hexadecimal digits.
    pub excludes_sha256: String,
    /// Number of targets in the plan (addresses x ports), all shards together.
    pub targets: u64,
    /// Number of targets of this shard.
    pub shard_targets: u64,
    /// Addresses that were removed because they were excluded.
    pub excluded_addresses: String,
    /// The port specification, normalised.
    pub ports: String,
    /// The probes, by name.
    pub probes: Vec<String>,
    /// The seed of the order: public and reproducible. In JSON a string: readers that keep numbers as doubles lose
    /// the low bits of a 64-bit one.
    #[serde(with = "as_text")]
    pub seed: u64,
    /// The version of the order, for example `v1`.
    pub order: Cow<'static, str>,
    /// Which shard, from 1.
    pub shard: u32,
    /// Of how many shards.
    pub shards: u32,
    /// How often each target is probed.
    pub passes: u8,
    /// The step of the order this run began with: not 0 when it goes on with a scan that was stopped.
    pub first_step: u64,
    /// What happened on the way.
    #[serde(flatten)]
    pub course: Course,
    /// The rate that was asked for, in frames a second; `None` means as fast as the link can.
    pub rate_pps: Option<f64>,
    /// How long replies were awaited after the last probe, in seconds.
    pub wait_s: f64,
    /// Name of the interface.
    pub interface: String,
    /// Name of the link.
    pub link: String,
    /// The addresses probes came from.
    pub source_addresses: Vec<IpAddr>,
    /// `running`, `complete`, `interrupted` or `failed`.
    pub status: Status,
    /// Start, microseconds since the Unix epoch, UTC.
    pub started_us: u64,
    /// End, microseconds since the Unix epoch, UTC; `None` while running.
    pub finished_us: Option<u64>,
    /// The closing figures; `None` while running.
    pub summary: Option<Summary>,
}

impl Manifest {
    /// The most separate ranges a manifest lists; a plan with more is known by its hash.
    pub const RANGES: usize = 4096;
}

/// Targets of a plan: each of these addresses with each of these ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Ranges `first-last` in order, as targets are written on the command line.
    pub addresses: Vec<String>,
    /// The ports, as `-p` takes them.
    pub ports: String,
}

/// A number that stands in JSON as a string of digits.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a scan took its course: runs, and what changed meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// Which run of the scan this is: above 1 when it went on with one that was stopped or killed.
    pub run: u64,
    /// The identifier of the first run, when this is a later one.
    pub continues: Option<String>,
    /// One of how many targets is probed a second time to measure loss.
    pub control_one_in: Option<u32>,
    /// When addresses were excluded while the scan ran, and how many.
    pub excluded_later: Vec<ExcludedLater>,
    /// Hosts and prefixes whose results were capped, with the number held back, most first.
    pub capped: Vec<(String, u64)>,
    /// How many results were held back of others than those.
    pub capped_more: u64,
    /// What happened to the network meanwhile.
    pub events: Vec<NetworkEvent>,
}

/// Addresses that were excluded while a scan ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludedLater {
    /// When, in microseconds since the Unix epoch, UTC.
    pub time_us: u64,
    /// How many addresses, in decimal: an IPv6 block may hold more than a number of JSON.
    pub addresses: String,
}

/// Something that happened to the network while a scan ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEvent {
    /// When, in microseconds since the Unix epoch, UTC.
    pub time_us: u64,
    /// What, in words.
    pub what: String,
}

/// Where a scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Started and, if the process is gone, crashed.
    #[default]
    Running,
    /// Every target of the shard was handled.
    Complete,
    /// Stopped on request; the output is valid.
    Interrupted,
    /// Stopped by an error; the output is valid as far as it goes.
    Failed,
}

impl Status {
    /// The word stored in databases.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Complete => "complete",
            Status::Interrupted => "interrupted",
            Status::Failed => "failed",
        }
    }
}

/// The closing ledger of a scan. Each sum is checked before it is printed ([`Summary::imbalance`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Targets of this shard.
    pub planned: u64,
    /// Probes the link accepted.
    pub sent: u64,
    /// Targets a filter removed after planning (broadcast addresses of the interface, for one).
    pub excluded_later: u64,
    /// Targets that were taken from the order and still waited when the scan ended.
    pub pending: u64,
    /// Targets that could not be probed: silent neighbours and own addresses together.
    pub failed: u64,
    /// Of those, targets whose on-link neighbour answered no question.
    pub silent_neighbours: u64,
    /// Of those, targets that are this host's own addresses.
    pub own_addresses: u64,
    /// Targets the scan never reached.
    pub unsent: u64,
    /// Frames the receive queue saw.
    pub frames_seen: u64,
    /// Of those, frames that are none of ours.
    pub not_ours: u64,
    /// Of those, frames that claim to answer us and do not, by reason.
    pub invalid: Vec<(String, u64)>,
    /// Of those, repetitions of a verdict already recorded.
    pub duplicate: u64,
    /// Of those, new verdicts.
    pub accepted: u64,
    /// Frames the kernel dropped before we saw them.
    pub kernel_drops: u64,
    /// Other frames sent: ARP requests, for one. Inside the rate law, outside `planned`.
    pub housekeeping: u64,
    /// Of those, RSTs that closed half-open connections.
    pub resets: u64,
    /// Half-open connections that swath was to close and left to time out at the target.
    pub unclosed: u64,
    /// Probes the link refused at first and that were sent again; a probe refused twice counts twice.
    pub requeued: u64,
    /// How often the transmitter waited because the writer was behind.
    pub pauses: u64,
    /// Targets the bounded "seen" table forgot: a repetition of such a verdict was written again.
    pub forgotten: u64,
    /// Hosts that are up, of those that were asked.
    pub hosts_up: u64,
    /// What became of each port, for at most [`PORTS_IN_SUMMARY`] of them; empty for a shard or a part of a scan, whose share of
    /// a port nobody counts.
    pub ports: Vec<PortSummary>,
    /// What became of the accepted verdicts, per sink.
    pub sinks: Vec<SinkSummary>,
    /// Probes a second over the sending time.
    pub reached_pps: u64,
    /// Where the order goes on (`--resume-index`); `None` when nothing is left.
    pub resume_step: Option<u64>,
    /// What one pass missed; `None` with a single pass.
    pub loss: Option<Loss>,
}

/// More ports than this are not told one by one.
pub const PORTS_IN_SUMMARY: usize = 1_024;

/// What became of a port's targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSummary {
    /// The port, as `53/udp`.
    pub port: String,
    /// Its targets.
    pub targets: u64,
    /// Of those, targets that answered, whatever they said.
    pub answered: u64,
    /// Of those, targets without an answer.
    pub silent: u64,
    /// What silence means there: `filtered` or `open|filtered`.
    pub silence: String,
}

/// An estimate of what one pass missed, by capture and recapture (docs/loss.md).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Targets that answered a pass after the first.
    pub recaptured: u64,
    /// Of those, targets that had not answered the first.
    pub missed: u64,
    /// The estimated share of answering targets that one pass misses, 0 to 1.
    pub estimate: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

impl Loss {
    /// The estimate from the targets that answered a later pass and those of them that the first had missed; `None`
    /// when no target answered a later pass, which tells nothing.
    ///
    /// The interval is Wilson's (1927) for a share of `missed` in `recaptured` trials: it holds near 0, where the
    /// usual one does not.
    pub fn from_counts(recaptured: u64, missed: u64) -> Option<Loss> {
        if recaptured == 0 {
            return None;
        }
        let (trials, z) = (recaptured as f64, 1.959_964);
        let estimate = missed as f64 / trials;
        let spread = z * z / trials;
        let middle = (estimate + spread / 2.0) / (1.0 + spread);
        let half =
            (z / (1.0 + spread)) * (estimate * (1.0 - estimate) / trials + spread / trials / 4.0).sqrt();
        let (low, high) = ((middle - half).max(0.0), (middle + half).min(1.0));
        let low = if missed == 0 { 0.0 } else { low };
        Some(Loss { recaptured, missed, estimate, low, high })
    }
}

/// What became of the accepted verdicts in one sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkSummary {
    /// The sink, as the user named it.
    pub name: String,
    /// Records written.
    pub written: u64,
    /// Records the user did not ask for (`--show`).
    pub filtered: u64,
    /// Records held back by a cap, or lost by a sink that failed; never silent.
    pub suppressed: u64,
}

impl Summary {
    /// The first equation of the ledger that does not hold, in words; `None` when all balance.
    pub fn imbalance(&self) -> Option<String> {
        let handled = self.sent + self.excluded_later + self.pending + self.failed + self.unsent;
        if self.planned != handled {
            return Some(format!("planned {} but accounted for {handled}", self.planned));
        }
        let invalid: u64 = self.invalid.iter().map(|(_, count)| count).sum();
        let judged = self.not_ours + invalid + self.duplicate + self.accepted;
        if self.frames_seen != judged {
            return Some(format!("saw {} frames but judged {judged}", self.frames_seen));
        }
        self.sinks.iter().find_map(|sink| {
            let stored = sink.written + sink.filtered + sink.suppressed;
            (stored != self.accepted)
                .then(|| format!("accepted {} but sink {} accounts for {stored}", self.accepted, sink.name))
        })
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

    /// A thousand scans with a known loss, drawn by a fixed generator: the interval covers the truth as often as it
    /// says.
    #[test]
    fn the_interval_covers_the_true_loss_in_at_least_930_of_1000_scans() {
        for (targets, loss) in [(2_000u32, 0.01), (2_000, 0.05), (2_000, 0.2), (20_000, 0.002)] {
            let mut covered = 0;
            let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ u64::from(targets);
            let mut lost = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ((state >> 11) as f64) < loss * (1u64 << 53) as f64
            };
            for _ in 0..1000 {
                let (mut recaptured, mut missed) = (0, 0);
                for _ in 0..targets {
                    let (first, second) = (!lost(), !lost());
                    recaptured += u64::from(second);
                    missed += u64::from(second && !first);
                }
                let estimate = Loss::from_counts(recaptured, missed).expect("many answer");
                covered += u32::from(estimate.low <= loss && loss <= estimate.high);
            }
            assert!(930 <= covered, "{targets} targets, loss {loss}: {covered} of 1000");
        }
    }

    #[test]
    fn without_a_second_answer_nothing_is_claimed() {
        assert_eq!(Loss::from_counts(0, 0), None);
        let none_missed = Loss::from_counts(1000, 0).expect("an estimate");
        assert_eq!((none_missed.estimate, none_missed.low), (0.0, 0.0));
        assert!(0.003 < none_missed.high && none_missed.high < 0.004, "the rule of three: about 3.8 of 1000");
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
    fn a_manifest_survives_its_json() {
        let manifest = Manifest {
            seed: u64::MAX,
            tool: "swath".into(),
            coverage: Some(vec![Part { addresses: vec!["192.0.2.0-192.0.2.7".into()], ports: "80".into() }]),
            summary: Some(Summary { loss: Loss::from_counts(9, 1), ..Summary::default() }),
            ..Manifest::default()
        };
        let json = serde_json::to_string(&manifest).expect("serializes");
        assert!(json.contains("\"seed\":\"18446744073709551615\""));
        assert_eq!(serde_json::from_str::<Manifest>(&json).expect("reads"), manifest);
    }

    #[test]
    fn reasons_for_rejection_are_numbered_in_their_order() {
        assert!(Invalid::ALL.iter().enumerate().all(|(index, invalid)| *invalid as usize == index));
    }

    #[test]
    fn a_ledger_that_loses_one_frame_is_named() {
        let mut summary = Summary {
            planned: 3,
            sent: 2,
            unsent: 1,
            frames_seen: 2,
            not_ours: 1,
            accepted: 1,
            ..Summary::default()
        };
        assert_eq!(summary.imbalance(), None);
        summary.frames_seen = 3;
        assert_eq!(summary.imbalance().as_deref(), Some("saw 3 frames but judged 2"));
    }
}
