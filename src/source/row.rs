//! One result in swath's own words: the keys of its JSON lines and the columns of its comma-separated values.
//!
//! Invariant: knows the words, not how a file holds them.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

use super::text::{parse_mac, parse_time, record};
use crate::event::{Attachment, Observations, Proof, Reason, Record, State, Untrusted};
use crate::target::{Port, Protocol};

/// The facts of a result; `sink::ndjson` says what each is.
#[derive(Debug, Deserialize)]
pub(super) struct Row<'a> {
    #[serde(borrow)]
    pub(super) ts: Cow<'a, str>,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    #[serde(borrow)]
    pub(super) proto: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) state: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) reason: Cow<'a, str>,
    #[serde(default)]
    pub(super) ttl: u8,
    #[serde(default)]
    pub(super) win: u16,
    #[serde(default)]
    pub(super) mss: u16,
    pub(super) wscale: Option<u8>,
    pub(super) opts: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) ipid: u16,
    #[serde(default)]
    pub(super) rtt_us: u32,
    pub(super) responder: Option<IpAddr>,
    pub(super) mac: Option<Cow<'a, str>>,
    pub(super) proof: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) pass: u8,
    pub(super) service: Option<Cow<'a, str>>,
    pub(super) banner: Option<Cow<'a, str>>,
    pub(super) banner_hex: Option<Cow<'a, str>>,
}

impl Row<'_> {
    /// Adds the result to a batch: bytes as an attachment, everything else as a verdict.
    pub(super) fn add_to(&self, batch: &mut Observations) -> Result<(), String> {
        let record = self.record()?;
        let bytes = match (&self.banner, &self.banner_hex) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(hex)) => from_hex(hex).ok_or("banner_hex is no row of hexadecimal pairs")?,
            (None, None) => {
                batch.records.push(record);
                return Ok(());
            }
        };
        let key = self.service.as_deref().unwrap_or("banner").into();
        batch.attach(Attachment { record, key, bytes: Untrusted(bytes) });
        Ok(())
    }

    /// The verdict.
    pub(super) fn record(&self) -> Result<Record, String> {
        let protocol = Protocol::from_name(&self.proto).ok_or_else(|| unknown("proto", &self.proto))?;
        let state = State::from_name(&self.state).ok_or_else(|| unknown("state", &self.state))?;
        // A newer version may know more reasons than this one.
        let reason = Reason::from_name(&self.reason).unwrap_or(Reason(0));
        let port = Port { protocol, number: self.port };
        let responder = self.responder.unwrap_or(self.ip);
        let mut record = record(self.ip, port, state, reason);
        record = Record::new(record.target(), responder.to_canonical(), state, reason);
        record.time_ns = parse_time(&self.ts).ok_or_else(|| unknown("ts", &self.ts))?;
        record.ttl = self.ttl;
        record.window = self.win;
        record.mss = self.mss;
        record.window_scale = self.wscale.unwrap_or(Record::NO_SCALE);
        record.ip_id = self.ipid;
        record.rtt_us = self.rtt_us;
        record.pass = self.pass;
        if let Some(opts) = &self.opts {
            record.options_hash = u32::from_str_radix(opts, 16).map_err(|_| unknown("opts", opts))?;
        }
        if let Some(proof) = &self.proof {
            record.proof = Proof::from_name(proof).ok_or_else(|| unknown("proof", proof))?;
        }
        if let Some(mac) = &self.mac {
            record.set_mac(parse_mac(mac).ok_or_else(|| unknown("mac", mac))?);
        }
        Ok(record)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
        u8::from_str_radix(text, 16).ok()
    });
    pairs.collect()
}

/// What is said of a value that its key cannot have.
pub(super) fn unknown(key: &str, value: &str) -> String {
    let shown: String = value.chars().take(40).flat_map(char::escape_default).collect();
    format!("{key} is '{shown}', which it cannot be")
}
