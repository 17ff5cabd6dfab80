//! naabu's JSON lines (`-json`), of versions that write the port as a number and of those before.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

use super::SourceKind;
use super::lines::{self, Decode};
use super::row::unknown;
use super::text::{parse_mac, parse_time, record, usual_reason};
use crate::event::{Observations, State};
use crate::target::{Port, Protocol};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "naabu",
    about: "naabu's JSON lines",
    sniff: |head| {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice::<Row<'_>>(line).is_ok_and(|row| row.ip.is_some() || row.host.is_some())
    },
    open: lines::open::<Naabu>,
};

#[derive(Default)]
struct Naabu;

#[derive(Deserialize)]
struct Row<'a> {
    ip: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    port: PortField,
    protocol: Option<Cow<'a, str>>,
    mac_address: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PortField {
    Number(u16),
    Object {
        #[serde(rename = "Port")]
        number: u16,
    },
}

impl Decode for Naabu {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let row: Row<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let text = row.ip.as_deref().filter(|text| !text.is_empty()).or(row.host.as_deref());
        let text = text.ok_or("it has neither ip nor host")?;
        let address: IpAddr = text.parse().map_err(|_| unknown("ip", text))?;
        let (PortField::Number(number) | PortField::Object { number }) = row.port;
        let name = row.protocol.as_deref().unwrap_or("tcp");
        let protocol = Protocol::from_name(name).ok_or_else(|| unknown("protocol", name))?;
        let about_host = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6 | Protocol::ARP | Protocol::ND);
        let state = if about_host { State::Up } else { State::Open };
        let mut record = record(address, Port { protocol, number }, state, usual_reason(protocol, state));
        record.time_ns = parse_time(&row.timestamp).ok_or_else(|| unknown("timestamp", &row.timestamp))?;
        if let (Some(mac), Protocol::ARP | Protocol::ND) =
            (row.mac_address.as_deref().and_then(parse_mac), protocol)
        {
            record.set_mac(mac);
        }
        batch.records.push(record);
        Ok(())
    }
}
