//! `swath bench write`: results a second, for each kind of output.
//!
//! Two figures a round. *writes*: from the first batch to its commit, what the sink's thread pays while the scan runs.
//! *whole*: from the opening to the end of `finish`, with indexes, syncs, the merge of parts, or the server's last
//! answer. Columns go to a directory of parts: the merge into one file is what `swath compact` costs. Records are SYN-ACKs as a sweep sees them: addresses in random order, a handful of stacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::Spread;
use crate::cli::WriteArgs;
use crate::command::{Exit, complain};
use crate::event::{Manifest, Proof, Reason, Record, State, Status, Summary};
use crate::sink::{self, Existing, SINKS, SinkError};
use crate::target::{Port, Protocol, Target};
use crate::writer::BATCH;

/// Runs the command.
pub(super) fn run(args: &WriteArgs) -> Exit {
    let records = sample(args.records as usize);
    let names: Vec<String> = match args.sinks.is_empty() {
        true => SINKS
            .iter()
            .map(|kind| kind.name.to_owned())
            .filter(|name| !SERVERS.contains(&name.as_str()))
            .collect(),
        false => args.sinks.clone(),
    };
    let directory = args.directory.clone().unwrap_or_else(std::env::temp_dir);
    let directory = directory.join(format!("swath-bench-{:016x}", rand::random::<u64>()));
    let made = fs::create_dir(&directory);
    let rows =
        made.map_err(|error| format!("cannot create {}: {error}", directory.display())).and_then(|()| {
            let rows = names.iter().map(|name| measure(name, &records, args.rounds, &directory));
            rows.collect::<Result<Vec<Row>, String>>()
        });
    let _ = fs::remove_dir_all(&directory);
    match rows {
        Ok(rows) => {
            let text = if args.json {
                serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n"
            } else {
                table(&rows)
            };
            // A reader that left has read enough.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            Exit::Done
        }
        Err(text) => {
            complain(&format!("swath: {text}\n"));
            Exit::Failed
        }
    }
}

/// Kinds that make parts.
const COLUMNS: [&str; 2] = ["parquet", "arrow"];

/// Kinds that need an address.
const SERVERS: [&str; 2] = ["postgres", "clickhouse"];

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    sink: String,
    records: usize,
    /// Million results a second, first batch to commit.
    writes: Spread,
    /// Million results a second, opening to end.
    whole: Spread,
    /// Nanoseconds a result, median of `whole`.
    ns: f64,
    /// Bytes a result left on the disk; `None` where they are elsewhere.
    bytes: Option<f64>,
}

fn measure(name: &str, records: &[Record], rounds: u32, directory: &Path) -> Result<Row, String> {
    let (mut writes, mut whole, mut bytes) = (Vec::new(), Vec::new(), None);
    for round in 0..rounds {
        let path = directory.join(format!("round-{round}"));
        let argument = if name.contains("://") {
            let separator = if name.contains('?') { '&' } else { '?' };
            format!("{name}{separator}spool={}", directory.display())
        } else {
            let parts = if COLUMNS.contains(&name) { "/" } else { "" };
            format!("{name}:{}{parts}", path.display())
        };
        let (writing_s, whole_s) = one_round(&argument, records).map_err(|error| error.to_string())?;
        let millions = records.len() as f64 / 1e6;
        writes.push(millions / writing_s);
        whole.push(millions / whole_s);
        let left = left_behind(directory);
        bytes = (0 < left).then(|| left as f64 / records.len() as f64);
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }
    let (writes, whole) = (Spread::of(writes), Spread::of(whole));
    let sink = sink::without_password(name);
    Ok(Row { sink, records: records.len(), writes, whole, ns: 1000.0 / whole.median, bytes })
}

fn one_round(argument: &str, records: &[Record]) -> Result<(f64, f64), SinkError> {
    let (kind, place) = sink::parse_place(argument, Existing::Refuse)?;
    let mut manifest =
        Manifest { scan_uuid: uuid(), tool: "swath".into(), shard: 1, shards: 1, ..Manifest::default() };
    let opened = Instant::now();
    let mut sink = (kind.open)(&place)?;
    sink.begin(&manifest)?;
    let began = Instant::now();
    for batch in records.chunks(BATCH) {
        sink.write(batch)?;
    }
    sink.commit()?;
    let writing = began.elapsed();
    manifest.status = Status::Complete;
    manifest.summary = Some(Summary { accepted: records.len() as u64, ..Summary::default() });
    sink.finish(&manifest)?;
    Ok((writing.as_secs_f64(), opened.elapsed().as_secs_f64()))
}

/// Bytes below a directory.
fn left_behind(directory: &Path) -> u64 {
    let mut folders: Vec<PathBuf> = vec![directory.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// SYN-ACKs as a sweep of the Internet sees them.
fn sample(count: usize) -> Vec<Record> {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 32).unwrap_or(0)
    };
    let mut pick = |words: &[u32]| words[random() as usize % words.len()];
    let half = |number: u32| u16::try_from(number & 0xffff).unwrap_or(0);
    let all: Vec<u32> = (0..=255).collect();
    let record = |index: usize| {
        let octets =
            [pick(&all), pick(&all), pick(&all), pick(&all)].map(|octet| u8::try_from(octet).unwrap_or(0));
        let address = std::net::Ipv4Addr::from(octets).into();
        let port = Port { protocol: Protocol::TCP, number: half(pick(&[80, 443, 22, 8080])) };
        let mut record = Record::new(Target { address, port }, address, State::Open, Reason::SYN_ACK);
        record.time_ns = 1_795_219_200_000_000_000 + index as u64 * 6_250; // 160,000 a second
        record.options_hash = pick(&[0x9f86_d081, 0x1234_abcd, 0x0042_0042]);
        record.window = half(pick(&[65_535, 64_240, 29_200, 14_600]));
        record.mss = half(pick(&[1460, 1440, 1400]));
        record.window_scale = u8::try_from(pick(&[7, 8, 9])).unwrap_or(0);
        record.ip_id = half(pick(&all) << 8 | pick(&all));
        record.ttl = 40 + u8::try_from(pick(&all) % 24).unwrap_or(0);
        record.proof = Proof::Strong;
        record
    };
    (0..count).map(record).collect()
}

fn uuid() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<24} {:>28} {:>28} {:>8} {:>8}\n",
        "sink, million results/s", "writes: median (min-max)", "whole: median (min-max)", "ns", "bytes"
    );
    for row in rows {
        let spread = |spread: Spread| format!("{:.2} ({:.2}-{:.2})", spread.median, spread.min, spread.max);
        let bytes = row.bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.1}"));
        text.push_str(&format!(
            "{:<24} {:>28} {:>28} {:>8.0} {:>8}\n",
            row.sink,
            spread(row.writes),
            spread(row.whole),
            row.ns,
            bytes
        ));
    }
    text
}
