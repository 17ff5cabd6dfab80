//! zmap's CSV and JSON lines (`--compat zmap`), with its field names and its `--output-fields`.
//!
//! What swath does not keep (sequence numbers, its own source port) cannot be chosen, and the refusal says so. Without a
//! choice zmap prints the address alone, or address and port when several ports are scanned.
//!
//! Invariant: values are numbers, addresses and words of fixed vocabularies: none needs quotes.

use std::net::IpAddr;

use super::format::{Line, SecondCache};
use super::lines::{self, Encode};
use super::{Place, SinkError, SinkKind};
use crate::event::{Manifest, Reason, Record, State};
use crate::select::classification;

/// The row of the registry.
pub(crate) const CSV: SinkKind = SinkKind {
    name: "zmap-csv",
    about: "zmap's CSV, --output-fields as there (--compat zmap)",
    packs: true,
    open: lines::open::<Zmap<false>>,
    ..SinkKind::BASE
};

/// The row of the registry.
pub(crate) const JSON: SinkKind = SinkKind {
    name: "zmap-json",
    about: "zmap's JSON lines (--compat zmap -O json)",
    packs: true,
    open: lines::open::<Zmap<true>>,
    ..SinkKind::BASE
};

struct Zmap<const JSON: bool> {
    fields: Vec<&'static Field>,
    /// Whether the user chose them.
    chosen: bool,
    headless: bool,
    /// Our address of each family, in the order of the plan.
    sources: Vec<IpAddr>,
    seconds: SecondCache,
}

impl<const JSON: bool> Default for Zmap<JSON> {
    fn default() -> Zmap<JSON> {
        Zmap {
            fields: vec![&FIELDS[0]],
            chosen: false,
            headless: false,
            sources: Vec::new(),
            seconds: SecondCache::new(),
        }
    }
}

impl<const JSON: bool> Encode for Zmap<JSON> {
    fn prepare(&mut self, place: &Place) -> Result<(), SinkError> {
        self.headless = place.headless;
        if let Some(columns) = &place.columns {
            self.fields = fields(columns).map_err(|cause| SinkError::refused(columns, cause))?;
            self.chosen = true;
        }
        Ok(())
    }

    fn begin(&mut self, manifest: &Manifest, text: &mut Vec<u8>) {
        self.sources.clone_from(&manifest.source_addresses);
        if !self.chosen && (manifest.ports.is_empty() || manifest.ports.contains([',', '-'])) {
            self.fields = vec![&FIELDS[0], &FIELDS[4]];
        }
        // zmap's CSV has a header only when there is more than one field.
        if !JSON && !self.headless && 1 < self.fields.len() {
            let names: Vec<&str> = self.fields.iter().map(|field| field.name).collect();
            text.extend_from_slice(names.join(",").as_bytes());
            text.push(b'\n');
        }
    }

    fn encode(&mut self, record: &Record, line: &mut Line<'_>) {
        let ours = self.sources.iter().find(|ours| ours.is_ipv4() == record.address().is_ipv4());
        line.text(if JSON { "{" } else { "" });
        for (index, field) in self.fields.iter().enumerate() {
            if index != 0 {
                line.text(",");
            }
            if JSON {
                line.text("\"");
                line.text(field.name);
                line.text("\":");
            }
            let quoted = JSON && field.is_text;
            line.text(if quoted { "\"" } else { "" });
            let before = line.len();
            (field.write)(record, ours.copied(), &mut self.seconds, line);
            // A number that is not known is empty in CSV and null in JSON.
            if JSON && !quoted && line.len() == before {
                line.text("null");
            }
            line.text(if quoted { "\"" } else { "" });
        }
        line.text(if JSON { "}\n" } else { "\n" });
    }
}

/// A field of zmap's.
struct Field {
    name: &'static str,
    is_text: bool,
    write: fn(&Record, Option<IpAddr>, &mut SecondCache, &mut Line<'_>),
}

const fn text(
    name: &'static str,
    write: fn(&Record, Option<IpAddr>, &mut SecondCache, &mut Line<'_>),
) -> Field {
    Field { name, is_text: true, write }
}

const fn number(
    name: &'static str,
    write: fn(&Record, Option<IpAddr>, &mut SecondCache, &mut Line<'_>),
) -> Field {
    Field { name, is_text: false, write }
}

/// The fields swath can fill.
const FIELDS: &[Field] = &[
    text("saddr", |record, _, _, line| line.address(record.address())),
    number("saddr_raw", |record, _, _, line| raw(record.address(), line)),
    text("daddr", |_, ours, _, line| ours.into_iter().for_each(|ours| line.address(ours))),
    number("daddr_raw", |_, ours, _, line| ours.into_iter().for_each(|ours| raw(ours, line))),
    number("sport", |record, _, _, line| line.decimal(u32::from(record.port))),
    number("ipid", |record, _, _, line| line.decimal(u32::from(record.ip_id))),
    number("ttl", |record, _, _, line| line.decimal(u32::from(record.ttl))),
    number("window", |record, _, _, line| line.decimal(u32::from(record.window))),
    number("tcpopt_mss", |record, _, _, line| {
        if record.mss != 0 {
            line.decimal(u32::from(record.mss))
        }
    }),
    number("tcpopt_wscale", |record, _, _, line| {
        if record.window_scale != Record::NO_SCALE {
            line.decimal(u32::from(record.window_scale));
        }
    }),
    text("classification", |record, _, _, line| line.text(classification(record))),
    number("success", |record, _, _, line| line.text(if is_success(record) { "1" } else { "0" })),
    number("app_success", |record, _, _, line| line.text(if is_success(record) { "1" } else { "0" })),
    // Repetitions are counted and never written; what comes while waiting is a result like every other.
    number("repeat", |_, _, _, line| line.text("0")),
    number("cooldown", |_, _, _, line| line.text("0")),
    text("icmp_responder", |record, _, _, line| {
        if classification(record) == "icmp" {
            line.address(record.responder());
        }
    }),
    number("icmp_type", |record, _, _, line| {
        icmp(record).into_iter().for_each(|(kind, _)| line.decimal(kind))
    }),
    number("icmp_code", |record, _, _, line| {
        icmp(record).into_iter().for_each(|(_, code)| line.decimal(code))
    }),
    text("icmp_unreach_str", |record, _, _, line| {
        if icmp(record).is_some_and(|(kind, _)| kind == 3) {
            line.text(record.reason.name());
        }
    }),
    number("rtt_us", |record, _, _, line| {
        if record.rtt_us != 0 {
            line.decimal(record.rtt_us)
        }
    }),
    text("timestamp_str", |record, _, seconds, line| {
        let mut room = [0; super::format::LINE_BYTES];
        let mut time = Line::new(&mut room);
        time.time(record.time_ns, seconds);
        line.text(&time.as_str()[..23]);
        line.text("+0000");
    }),
    number("timestamp_ts", |record, _, _, line| line.decimal64(record.time_ns / 1_000_000_000)),
    number("timestamp_us", |record, _, _, line| line.decimal64(record.time_ns / 1000 % 1_000_000)),
];

/// Fields of zmap that swath knows and does not keep.
const NOT_KEPT: [&str; 9] = [
    "dport",
    "seqnum",
    "acknum",
    "tcpopt_sack_perm",
    "tcpopt_ts_val",
    "tcpopt_ts_ecr",
    "udp_pkt_size",
    "data",
    "icmp_id",
];

/// The fields of a list such as `saddr,sport,ttl`; `*` means all.
fn fields(list: &str) -> Result<Vec<&'static Field>, String> {
    if list.trim() == "*" {
        return Ok(FIELDS.iter().collect());
    }
    let mut fields: Vec<&'static Field> = Vec::new();
    for name in list.split(',').map(str::trim) {
        let Some(field) = FIELDS.iter().find(|field| field.name == name) else {
            let known: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
            let why = if NOT_KEPT.contains(&name) { "is a field swath does not keep" } else { "is no field" };
            return Err(format!("'{name}' {why}; there are {}", known.join(", ")));
        };
        if fields.iter().any(|other| other.name == name) {
            return Err(format!("'{name}' stands there twice"));
        }
        fields.push(field);
    }
    Ok(fields)
}

/// An address as zmap's number of it: the four bytes as they lie in a packet, read as a little-endian number. Nothing
/// for IPv6.
fn raw(address: IpAddr, line: &mut Line<'_>) {
    if let IpAddr::V4(address) = address {
        line.decimal(u32::from_le_bytes(address.octets()));
    }
}

fn is_success(record: &Record) -> bool {
    matches!(record.state, State::Open | State::Up)
}

/// Type and code of the ICMP error that a reason stands for, as IPv4 numbers them (RFC 792, RFC 1812 section 5.2.7.1).
fn icmp(record: &Record) -> Option<(u32, u32)> {
    Some(match record.reason {
        Reason::NET_UNREACH => (3, 0),
        Reason::HOST_UNREACH => (3, 1),
        Reason::PROTO_UNREACH => (3, 2),
        Reason::PORT_UNREACH => (3, 3),
        Reason::NET_PROHIBITED => (3, 9),
        Reason::HOST_PROHIBITED => (3, 10),
        Reason::ADMIN_PROHIBITED => (3, 13),
        Reason::TIME_EXCEEDED => (11, 0),
        Reason::PARAM_PROBLEM => (12, 0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_chosen_by_name_and_refused_with_the_names_there_are() {
        let names =
            |list: &str| fields(list).map(|fields| fields.iter().map(|field| field.name).collect::<Vec<_>>());
        assert_eq!(names("saddr, ttl"), Ok(vec!["saddr", "ttl"]));
        assert_eq!(names("*").map(|names| names.len()), Ok(FIELDS.len()));
        assert!(names("saddr,saddr").expect_err("twice").contains("twice"));
        assert!(names("seqnum").expect_err("not kept").contains("does not keep"));
        assert!(names("sadr").expect_err("unknown").contains("there are saddr,"));
    }
}
