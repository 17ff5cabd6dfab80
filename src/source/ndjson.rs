//! swath's own JSON lines, as `sink::ndjson` writes them. Keys that are not known are passed over.

use super::SourceKind;
use super::lines::{self, Decode};
use super::row::Row;
use crate::event::Observations;

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    name: "ndjson",
    about: "swath's JSON lines",
    sniff: |head| {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice::<Row<'_>>(line).is_ok()
    },
    open: lines::open::<Ndjson>,
};

#[derive(Default)]
struct Ndjson;

impl Decode for Ndjson {
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let row: Row<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        row.add_to(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::event::Proof;

    #[test]
    fn a_line_is_read_whole_or_refused_by_key() {
        let line = br#"{"ts":"2026-11-21T00:00:00.123456Z","ip":"198.18.0.7","port":80,"proto":"tcp","state":"open","reason":"syn-ack","ttl":57,"win":65535,"mss":1460,"wscale":7,"opts":"0086d081","ipid":54321,"rtt_us":18234,"responder":"10.0.0.1","proof":"strong","pass":1}"#;
        let mut batch = Observations::default();
        Ndjson.decode(line, &mut batch).expect("reads");
        let record = batch.records[0];
        assert_eq!(record.responder(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!((record.options_hash, record.window_scale, record.proof), (0x0086_d081, 7, Proof::Strong));
        for (from, to) in
            [("tcp", "tpc"), ("open", "\\u001b"), ("T00", "X00"), (":80,", ":65536,"), ("strong", "x")]
        {
            let broken = String::from_utf8_lossy(line).replace(from, to);
            let error = Ndjson.decode(broken.as_bytes(), &mut batch).expect_err(to);
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
    }
}
