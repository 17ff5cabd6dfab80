//! masscan's JSON (`-oJ`) of every version: an object a line, commas between or behind them, brackets around them or
//! forgotten.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

use super::super::SourceKind;
use super::super::lines::{self, Decode};
use super::{Verdict, bytes_of, key, protocol, told};
use crate::event::{Attachment, Observations, State, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "masscan-json",
    about: "masscan's JSON (-oJ)",
    sniff: |head| {
        let mut lines =
            head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        match lines.next() {
            Some(b"[") => lines.next().is_some_and(|line| line == b"]" || object(line).is_some()),
            Some(line) => object(line).is_some(),
            None => false,
        }
    },
    open: lines::open::<Json>,
};

#[derive(Default)]
struct Json;

#[derive(Deserialize)]
struct Row<'a> {
    ip: IpAddr,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    ports: Vec<PortRow<'a>>,
}

#[derive(Deserialize)]
struct PortRow<'a> {
    port: u16,
    #[serde(borrow)]
    proto: Cow<'a, str>,
    status: Option<Cow<'a, str>>,
    reason: Option<Cow<'a, str>>,
    #[serde(default)]
    ttl: u8,
    service: Option<Service<'a>>,
}

#[derive(Deserialize)]
struct Service<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    banner: Cow<'a, str>,
}

/// A line as an object, if it is one.
fn object(line: &[u8]) -> Option<Row<'_>> {
    serde_json::from_slice(line.strip_suffix(b",").unwrap_or(line)).ok()
}

impl Decode for Json {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        let line = line.trim_ascii();
        let line = line.strip_suffix(b",").unwrap_or(line).trim_ascii();
        // Versions before 1.0.5 ended the array with this.
        if matches!(line, b"" | b"[" | b"]" | b"[]" | b"{finished: 1}") {
            return Ok(());
        }
        let row: Row<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let seconds = row.timestamp.parse().map_err(|_| "the timestamp is no number of seconds")?;
        for port in &row.ports {
            if let Some(service) = &port.service {
                let protocol = protocol(&port.proto, row.ip)?;
                let record = told(row.ip, (protocol, port.port), State::Open, None, (seconds, port.ttl));
                let bytes = Untrusted(bytes_of(&service.banner));
                batch.attach(Attachment { record, key: key(&service.name), bytes });
                continue;
            }
            let verdict = Verdict {
                address: row.ip,
                seconds,
                port: port.port,
                protocol: &port.proto,
                status: port.status.as_deref().ok_or("a port has no status")?,
                reason: port.reason.as_deref(),
                ttl: port.ttl,
            };
            batch.records.push(verdict.record()?);
        }
        Ok(())
    }
}
