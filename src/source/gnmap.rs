//! nmap's grepable lines (`-oG`). They tell neither reasons nor, of single results, times: the time is that of the scan.

use std::net::IpAddr;

use super::lines::{self, Decode};
use super::row::unknown;
use super::text::{parse_asctime, record, usual_reason};
use super::{Facts, SourceKind};
use crate::event::{Attachment, Observations, Reason, Record, State, Untrusted};
use crate::target::{Port, Protocol};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "nmap-grepable",
    about: "nmap's grepable lines (-oG)",
    sniff: |head| head.starts_with(b"# Nmap "),
    open: lines::open::<Grepable>,
};

#[derive(Default)]
struct Grepable {
    started_s: Option<u64>,
    finished_s: Option<u64>,
    /// An address that is up, whose ports may stand in the next line.
    up: Option<IpAddr>,
}

impl Decode for Grepable {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        let line = String::from_utf8_lossy(line);
        if let Some(comment) = line.strip_prefix("# Nmap ") {
            let time = |mark: &str| parse_asctime(comment.split_once(mark)?.1.get(..24)?);
            self.started_s = self.started_s.or_else(|| time("scan initiated "));
            self.finished_s = time("done at ").or(self.finished_s);
            return Ok(());
        }
        let Some(rest) = line.strip_prefix("Host: ") else {
            return if line.is_empty() || line.starts_with('#') {
                Ok(())
            } else {
                Err("it begins with no 'Host: '".into())
            };
        };
        let mut fields = rest.split('\t');
        let host = fields.next().unwrap_or_default();
        let text = host.split(' ').next().unwrap_or_default();
        let address: IpAddr = text.parse().map_err(|_| unknown("Host", text))?;
        for field in fields {
            match field.split_once(": ") {
                Some(("Status", "Up")) => {
                    self.end(batch);
                    self.up = Some(address);
                }
                Some(("Ports", ports)) => {
                    self.up = None;
                    ports.split(", ").try_for_each(|entry| self.port(address, entry, batch))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, batch: &mut Observations) {
        let Some(address) = self.up.take() else { return };
        let (protocol, number) =
            if address.is_ipv4() { (Protocol::ICMP, 8) } else { (Protocol::ICMPV6, 128) };
        batch.records.push(self.timed(record(address, Port { protocol, number }, State::Up, Reason(0))));
    }

    fn facts(&self) -> Facts {
        Facts { started_s: self.started_s, finished_s: self.finished_s, manifests: Vec::new() }
    }
}

impl Grepable {
    /// `port/state/proto/owner/service/rpc/version/`.
    fn port(&self, address: IpAddr, entry: &str, batch: &mut Observations) -> Result<(), String> {
        let parts: Vec<&str> = entry.trim().split('/').collect();
        let [number, state, protocol, _, service, _, version, ..] = parts[..] else {
            return Err(unknown("Ports", entry));
        };
        let number = number.parse().map_err(|_| unknown("port", number))?;
        let state = State::from_name(state).ok_or_else(|| unknown("state", state))?;
        let protocol = Protocol::from_name(protocol).ok_or_else(|| unknown("protocol", protocol))?;
        let reason = usual_reason(protocol, state);
        let record = self.timed(record(address, Port { protocol, number }, state, reason));
        batch.records.push(record);
        if !version.is_empty() {
            let bytes = super::csv::unescape_bytes(version).unwrap_or_else(|| version.as_bytes().to_vec());
            let key = if service.is_empty() { "banner" } else { service };
            batch.attach(Attachment { record, key: key.into(), bytes: Untrusted(bytes) });
        }
        Ok(())
    }

    fn timed(&self, mut record: Record) -> Record {
        record.time_ns = self.started_s.unwrap_or(0).saturating_mul(1_000_000_000);
        record
    }
}
