//! masscan's list (`-oL`).

use std::net::IpAddr;

use super::super::SourceKind;
use super::super::csv::unescape_bytes;
use super::super::lines::{self, Decode};
use super::super::row::unknown;
use super::{Verdict, key, protocol, told};
use crate::event::{Attachment, Observations, State, Untrusted};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "masscan-list",
    about: "masscan's list (-oL)",
    sniff: |head| {
        let other = [&b"#masscan\nTCP "[..], b"#masscan\nHost: "];
        head.starts_with(b"#masscan\n") && !other.iter().any(|other| head.starts_with(other))
    },
    open: lines::open::<List>,
};

#[derive(Default)]
struct List;

impl Decode for List {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        let line = std::str::from_utf8(line).map_err(|_| "it is no text")?;
        let mut words = line.splitn(7, ' ');
        let mut word = || words.next().ok_or("a word is missing");
        let (status, proto, port, address, time) = (word()?, word()?, word()?, word()?, word()?);
        let address: IpAddr = address.parse().map_err(|_| unknown("address", address))?;
        let port = port.parse().map_err(|_| unknown("port", port))?;
        let seconds = time.parse().map_err(|_| unknown("time", time))?;
        if status != "banner" {
            let verdict = Verdict { address, seconds, port, protocol: proto, status, reason: None, ttl: 0 };
            batch.records.push(verdict.record()?);
            return Ok(());
        }
        let service = word()?;
        let bytes =
            unescape_bytes(word().unwrap_or_default()).ok_or("a '\\' in the banner escapes nothing")?;
        let protocol = protocol(proto, address)?;
        let record = told(address, (protocol, port), State::Open, None, (seconds, 0));
        batch.attach(Attachment { record, key: key(service), bytes: Untrusted(bytes) });
        Ok(())
    }
}
