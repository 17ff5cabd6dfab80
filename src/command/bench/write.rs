//! `swath bench write`: results a second, for each kind of output.
//!
//! Two figures a round. *writes*: from the first batch to its commit, what the sink's thread pays while the scan runs.
//! *whole*: from the opening to the end of `finish`, with indexes, syncs, the merge of parts, or the server's last
//! answer. Columns go to a directory of parts: the merge into one file is what `swath compact` costs. Records are
//! SYN-ACKs as a sweep sees them: addresses in random order, a handful of stacks.
//!
//! Both stand in wall clock, which a busy machine and its disk blur, and in time of processors: user space and kernel, all
//! threads of this process together. That is what one writer core takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::Spread;
use crate::cli::WriteArgs;
use crate::command::{Exit, complain};
use crate::event::{Manifest, Proof, Reason, Record, State, Status, Summary};
use crate::sink::{self, Existing, SINKS, SinkError};
use crate::sys::clock;
use crate::target::{Port, Protocol, Target};
use crate::writer::BATCH;

/// Runs the command.
pub(super) fn run(args: &WriteArgs) -> Exit {
    if let Err(text) = args.sinks.iter().try_for_each(|name| check(name)) {
        complain(&format!("swath: {text}\n"));
        return Exit::Usage;
    }
    let records = sample(args.records as usize);
    let names: Vec<String> = match args.sinks.is_empty() {
        true => SINKS
            .iter()
            .map(|kind| kind.name.to_owned())
            .filter(|name| name != "none" && !SERVERS.contains(&name.as_str()))
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

/// Refuses what cannot be measured.
fn check(name: &str) -> Result<(), String> {
    let kinds = || SINKS.iter().map(|kind| kind.name).filter(|kind| !SERVERS.contains(kind));
    if name.contains("://") || kinds().any(|kind| kind == name) {
        return Ok(());
    }
    let what = match SERVERS.contains(&name) {
        true => format!("{name} is measured at an address: postgresql://... or clickhouse://..."),
        false => format!("there is no kind of output '{name}'"),
    };
    Err(format!("{what}; without one there are {}", kinds().collect::<Vec<_>>().join(", ")))
}

/// Kinds that make parts.
const COLUMNS: [&str; 2] = ["parquet", "arrow"];

/// Kinds that need an address.
const SERVERS: [&str; 2] = ["postgres", "clickhouse"];

/// What others reach in the same format: million results a second of processor time, and how it was found. masscan
/// 1.3.2 of Debian reads its own binary file of 10^7 results (`masscan --readscan FILE -oX OUT`) and writes it again,
/// 100 ns a result of which are the reading; AMD EPYC, 2 processors, 2026-11-21. zmap has no conversion that could be
/// taken without a network, and nobody writes databases (docs/performance.md, "Results").
const PEERS: [(&str, f64); 6] = [
    ("masscan-list", 3.7),
    ("masscan-json", 1.8),
    ("masscan-ndjson", 1.8),
    ("masscan-xml", 1.8),
    ("masscan-grepable", 2.6),
    ("masscan-binary", 10.0),
];

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    sink: String,
    records: usize,
    /// Million results a second, first batch to commit.
    writes: Spread,
    /// Million results a second, opening to end.
    whole: Spread,
    /// Million results a second of processor time, first batch to commit.
    writes_cpu: Spread,
    /// Million results a second of processor time, opening to end.
    whole_cpu: Spread,
    /// Bytes a result left on the disk; `None` where they are elsewhere.
    bytes: Option<f64>,
    /// Million results a second of processor time that masscan reaches; `None` for what it does not write.
    peer: Option<f64>,
}

/// How long a round took.
#[derive(Clone, Copy)]
struct Round {
    writes: Taken,
    whole: Taken,
}

/// Seconds of wall clock and of processors.
#[derive(Clone, Copy)]
struct Taken {
    wall_s: f64,
    cpu_s: f64,
}

/// When something began.
struct Begun(Instant, u64);

impl Begun {
    fn now() -> Begun {
        Begun(Instant::now(), clock::process_cpu_ns())
    }

    fn taken(&self) -> Taken {
        let cpu_ns = clock::process_cpu_ns() - self.1;
        Taken { wall_s: self.0.elapsed().as_secs_f64(), cpu_s: cpu_ns as f64 / 1e9 }
    }
}

fn measure(name: &str, records: &[Record], rounds: u32, directory: &Path) -> Result<Row, String> {
    let (mut taken, mut bytes) = (Vec::new(), None);
    for round in 0..rounds {
        let path = directory.join(format!("round-{round}"));
        let argument = if name.contains("://") {
            let separator = if name.contains('?') { '&' } else { '?' };
            format!("{name}{separator}spool={}", directory.display())
        } else {
            let parts = if COLUMNS.contains(&name) { "/" } else { "" };
            format!("{name}:{}{parts}", path.display())
        };
        taken.push(one_round(&argument, records).map_err(|error| error.to_string())?);
        let left = left_behind(directory);
        bytes = (0 < left).then(|| left as f64 / records.len() as f64);
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }
    let rate = |seconds: fn(&Round) -> f64| {
        Spread::of(taken.iter().map(|round| records.len() as f64 / 1e6 / seconds(round)).collect())
    };
    Ok(Row {
        sink: sink::without_password(name),
        records: records.len(),
        writes: rate(|round| round.writes.wall_s),
        whole: rate(|round| round.whole.wall_s),
        writes_cpu: rate(|round| round.writes.cpu_s),
        whole_cpu: rate(|round| round.whole.cpu_s),
        bytes,
        peer: PEERS.iter().find(|(kind, _)| *kind == name).map(|(_, rate)| *rate),
    })
}

fn one_round(argument: &str, records: &[Record]) -> Result<Round, SinkError> {
    let (kind, place) = sink::parse_place(argument, Existing::Refuse)?;
    let mut manifest =
        Manifest { scan_uuid: uuid(), tool: "swath".into(), shard: 1, shards: 1, ..Manifest::default() };
    let opened = Begun::now();
    let mut sink = (kind.open)(&place)?;
    sink.begin(&manifest)?;
    let began = Begun::now();
    for batch in records.chunks(BATCH) {
        sink.write(batch)?;
    }
    sink.commit()?;
    let writes = began.taken();
    manifest.status = Status::Complete;
    manifest.summary = Some(Summary { accepted: records.len() as u64, ..Summary::default() });
    sink.finish(&manifest)?;
    Ok(Round { writes, whole: opened.taken() })
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
        "{:<24} {:>23} {:>23} {:>10} {:>10} {:>8} {:>8}\n",
        "sink, million results/s",
        "writes: median (range)",
        "whole: median (range)",
        "writes/cpu",
        "whole/cpu",
        "bytes",
        "masscan"
    );
    for row in rows {
        let spread = |spread: Spread| format!("{:.2} ({:.2}-{:.2})", spread.median, spread.min, spread.max);
        let number =
            |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"));
        text.push_str(&format!(
            "{:<24} {:>23} {:>23} {:>10.2} {:>10.2} {:>8} {:>8}\n",
            row.sink,
            spread(row.writes),
            spread(row.whole),
            row.writes_cpu.median,
            row.whole_cpu.median,
            number(row.bytes),
            number(row.peer)
        ));
    }
    text.push_str(
        "writes: to the commit; whole: with the end (sync, indexes, the server's last answer). /cpu: of processor time, \
         all threads.\nmasscan: 1.3.2 writing the same format from its binary file, of processor time \
         (docs/performance.md).\n",
    );
    text
}
