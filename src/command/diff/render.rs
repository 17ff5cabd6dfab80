//! Differences as text, JSON lines or Markdown.
//!
//! Invariant: every value is a number, an address or a word of a fixed vocabulary: nothing needs escaping.

use std::io::{self, Write};

use super::{Change, Tally};
use crate::cli::DiffFormat;
use crate::event::Record;
use crate::text::grouped;

/// Where differences go, and how.
pub(super) struct Render<W> {
    format: DiffFormat,
    output: W,
    begun: bool,
}

impl<W: Write> Render<W> {
    pub(super) fn new(format: DiffFormat, output: W) -> Render<W> {
        Render { format, output, begun: false }
    }

    /// Tells one difference.
    pub(super) fn change(
        &mut self,
        change: Change,
        a: Option<&Record>,
        b: Option<&Record>,
    ) -> io::Result<()> {
        let Some(record) = b.or(a) else { return Ok(()) };
        let (address, port, protocol) = (record.address(), record.port, record.protocol);
        match self.format {
            DiffFormat::Text => {
                let mark = match change {
                    Change::Opened => '+',
                    Change::Closed => '-',
                    Change::Changed => '~',
                    Change::NotComparable => '?',
                };
                writeln!(self.output, "{mark} {address} {port}/{protocol}  {} -> {}", told(a), told(b))
            }
            DiffFormat::Ndjson => writeln!(
                self.output,
                r#"{{"change":"{}","ip":"{address}","port":{port},"proto":"{protocol}","a":{},"b":{}}}"#,
                name(change),
                json(a),
                json(b)
            ),
            DiffFormat::Markdown => {
                if !std::mem::replace(&mut self.begun, true) {
                    writeln!(
                        self.output,
                        "| change | address | port | before | after |\n|---|---|---|---|---|"
                    )?;
                }
                writeln!(
                    self.output,
                    "| {} | {address} | {port}/{protocol} | {} | {} |",
                    name(change),
                    told(a).replace('|', "\\|"),
                    told(b).replace('|', "\\|")
                )
            }
        }
    }

    /// Tells the sums.
    pub(super) fn end(&mut self, tally: &Tally) -> io::Result<()> {
        let Tally { opened, closed, changed, unchanged, not_comparable } = *tally;
        match self.format {
            DiffFormat::Text | DiffFormat::Markdown => {
                let count = |number: u64| grouped(number.into());
                let blank = if self.begun { "\n" } else { "" };
                writeln!(
                    self.output,
                    "{blank}{} opened, {} closed, {} changed, {} unchanged, {} not comparable",
                    count(opened),
                    count(closed),
                    count(changed),
                    count(unchanged),
                    count(not_comparable)
                )?;
            }
            DiffFormat::Ndjson => {
                let sums = serde_json::to_string(tally)?;
                writeln!(self.output, r#"{{"summary":{sums}}}"#)?;
            }
        }
        self.output.flush()
    }
}

fn name(change: Change) -> &'static str {
    match change {
        Change::Opened => "opened",
        Change::Closed => "closed",
        Change::Changed => "changed",
        Change::NotComparable => "not comparable",
    }
}

/// A side in words.
fn told(record: Option<&Record>) -> String {
    record.map_or_else(
        || "nothing".to_owned(),
        |record| format!("{} ({}, ttl {})", record.state.name(), record.reason.name(), record.ttl),
    )
}

fn json(record: Option<&Record>) -> String {
    record.map_or_else(
        || "null".to_owned(),
        |record| {
            let (state, reason, ttl) = (record.state.name(), record.reason.name(), record.ttl);
            let (options, mss, micros) = (record.options_hash, record.mss, record.time_ns / 1000);
            format!(
                r#"{{"state":"{state}","reason":"{reason}","ttl":{ttl},"opts":"{options:08x}","mss":{mss},"ts_us":{micros}}}"#
            )
        },
    )
}
