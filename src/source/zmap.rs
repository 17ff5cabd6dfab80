//! zmap's CSV, with whatever `--output-fields` it was written: columns are found by their names in the header.

use std::net::IpAddr;

use super::SourceKind;
use super::lines::{self, Decode};
use super::row::unknown;
use super::table::{Cells, Table};
use super::text::{parse_time, record};
use crate::event::{Observations, Reason, Record, State};
use crate::target::{Port, Protocol};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "zmap-csv",
    about: "zmap's CSV with a header that has saddr and sport",
    sniff: |head| {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut columns = line.trim_ascii().split(|byte| *byte == b',');
        columns.any(|column| column == b"saddr") && line.is_ascii()
    },
    open: lines::open::<Zmap>,
};

const NAMES: [&str; 17] = [
    "saddr",
    "sport",
    "classification",
    "success",
    "ttl",
    "ipid",
    "window",
    "tcpopt_mss",
    "tcpopt_wscale",
    "icmp_responder",
    "icmp_type",
    "icmp_code",
    "timestamp_ts",
    "timestamp_us",
    "timestamp_str",
    "rtt_us",
    "type",
];

struct Zmap(Table);

impl Default for Zmap {
    fn default() -> Zmap {
        Zmap(Table::new(&NAMES, 1))
    }
}

impl Decode for Zmap {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        if let Some(cells) = self.0.row(line)? {
            batch.records.push(Row(&cells).record()?);
        }
        Ok(())
    }
}

struct Row<'a>(&'a Cells<'a>);

impl Row<'_> {
    fn record(&self) -> Result<Record, String> {
        let address: IpAddr = self.0.number(0)?.ok_or("saddr is empty")?;
        let word = self.0.text(2).unwrap_or_default();
        let (protocol, state, reason) = self.verdict(word)?;
        let number = match (protocol, self.0.number(1)?) {
            (Protocol::ICMP, _) => 8,
            (Protocol::ICMPV6, _) => 128,
            (_, Some(port)) => port,
            (_, None) => return Err("nothing says which port: zmap's output needs the field sport".into()),
        };
        let mut record = record(address, Port { protocol, number }, state, reason);
        if let Some(responder) = self.0.number::<IpAddr>(9)? {
            record = Record::new(record.target(), responder.to_canonical(), state, reason);
        }
        record.ttl = self.0.number(4)?.unwrap_or(0);
        record.ip_id = self.0.number(5)?.unwrap_or(0);
        record.window = self.0.number(6)?.unwrap_or(0);
        record.mss = self.0.number(7)?.unwrap_or(0);
        record.window_scale = self.0.number(8)?.unwrap_or(Record::NO_SCALE);
        record.rtt_us = self.0.number(15)?.unwrap_or(0);
        record.time_ns = self.time()?;
        Ok(record)
    }

    fn time(&self) -> Result<u64, String> {
        if let Some(seconds) = self.0.number::<u64>(12)? {
            let micros = self.0.number::<u64>(13)?.unwrap_or(0);
            return Ok(seconds.saturating_mul(1_000_000_000).saturating_add(micros.saturating_mul(1000)));
        }
        let Some(text) = self.0.text(14) else { return Ok(0) };
        // zmap writes the offset without a colon.
        let (time, offset) =
            text.split_at_checked(text.len().saturating_sub(4)).ok_or("timestamp_str is no text")?;
        let hours = offset.get(..2).unwrap_or_default();
        let minutes = offset.get(2..).unwrap_or_default();
        let time = parse_time(&format!("{time}{hours}:{minutes}")).or_else(|| parse_time(text));
        time.ok_or_else(|| unknown("timestamp_str", text))
    }

    /// What a classification says; without one every row is a success, as zmap's default output holds nothing else.
    fn verdict(&self, word: &str) -> Result<(Protocol, State, Reason), String> {
        let is_v6 = self.0.text(0).is_some_and(|address| address.contains(':'));
        let failed = self.0.text(3) == Some("0");
        Ok(match word {
            "synack" => (Protocol::TCP, State::Open, Reason::SYN_ACK),
            "rst" => (Protocol::TCP, State::Closed, Reason::RESET),
            "udp" => (Protocol::UDP, State::Open, Reason::UDP_RESPONSE),
            "echoreply" if is_v6 => (Protocol::ICMPV6, State::Up, Reason::ECHO_REPLY),
            "echoreply" => (Protocol::ICMP, State::Up, Reason::ECHO_REPLY),
            "icmp" | "unreach" => (Protocol::TCP, State::Filtered, self.icmp()?),
            "" if failed => (Protocol::TCP, State::Closed, Reason::RESET),
            "" => (Protocol::TCP, State::Open, Reason::SYN_ACK),
            _ => (
                Protocol::TCP,
                if failed { State::Filtered } else { State::Open },
                Reason::from_name(word).unwrap_or(Reason(0)),
            ),
        })
    }

    /// The reason of an ICMP error by type and code (RFC 792, RFC 1812 section 5.2.7.1).
    fn icmp(&self) -> Result<Reason, String> {
        let (kind, code) = (self.0.number::<u8>(10)?, self.0.number::<u8>(11)?);
        Ok(match (kind.unwrap_or(3), code) {
            (3, Some(0)) => Reason::NET_UNREACH,
            (3, Some(1)) => Reason::HOST_UNREACH,
            (3, Some(2)) => Reason::PROTO_UNREACH,
            (3, Some(3)) => Reason::PORT_UNREACH,
            (3, Some(9)) => Reason::NET_PROHIBITED,
            (3, Some(10)) => Reason::HOST_PROHIBITED,
            (3, Some(13)) => Reason::ADMIN_PROHIBITED,
            (11, _) => Reason::TIME_EXCEEDED,
            (12, _) => Reason::PARAM_PROBLEM,
            _ => Reason::DEST_UNREACH,
        })
    }
}
