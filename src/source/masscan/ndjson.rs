//! masscan's JSON lines (`-oD`).

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

use super::super::SourceKind;
use super::super::lines::{self, Decode};
use super::{Verdict, bytes_of, key, protocol, told};
use crate::event::{Attachment, Observations, State, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "masscan-ndjson",
    about: "masscan's JSON lines (-oD)",
    sniff: |head| {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice::<Row<'_>>(line).is_ok()
    },
    open: lines::open::<Ndjson>,
};

#[derive(Default)]
struct Ndjson;

#[derive(Deserialize)]
struct Row<'a> {
    ip: IpAddr,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    port: u16,
    #[serde(borrow)]
    proto: Cow<'a, str>,
    #[serde(borrow)]
    rec_type: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    status: Option<Cow<'a, str>>,
    reason: Option<Cow<'a, str>>,
    #[serde(default)]
    ttl: u8,
    service_name: Option<Cow<'a, str>>,
    banner: Option<Cow<'a, str>>,
}

impl Decode for Ndjson {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let row: Row<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let seconds = row.timestamp.parse().map_err(|_| "the timestamp is no number of seconds")?;
        if row.rec_type == "banner" {
            let protocol = protocol(&row.proto, row.ip)?;
            let record = told(row.ip, (protocol, row.port), State::Open, None, (seconds, row.data.ttl));
            let bytes = bytes_of(row.data.banner.as_deref().unwrap_or_default());
            let key = key(row.data.service_name.as_deref().unwrap_or_default());
            batch.attach(Attachment { record, key, bytes: Untrusted(bytes) });
            return Ok(());
        }
        let verdict = Verdict {
            address: row.ip,
            seconds,
            port: row.port,
            protocol: &row.proto,
            status: row.data.status.as_deref().ok_or("data has no status")?,
            reason: row.data.reason.as_deref(),
            ttl: row.data.ttl,
        };
        batch.records.push(verdict.record()?);
        Ok(())
    }
}
