//! Where records go: the trait [`Sink`] and the registry [`SINKS`]. One file per format or database.
//!
//! Contract of the family. A sink is owned by the writer thread and may block; it sees whole batches. It is
//! told `begin` once before the first record and `finish` exactly once, also after an interrupt. What it wrote
//! before `commit` returned survives `kill -9`; a file that exists is valid up to its last record at any
//! instant. After an error it is asked only for [`Sink::safe`] and told only `finish`, and knows exactly how many
//! records got through.
//!
//! Files are created exclusively with mode 0600, and symbolic links are not followed. What stands there already is
//! refused unless the user said otherwise ([`Existing`]).
//!
//! Invariant: sinks never see packets, never decide what is written (filters stand before them), and read no
//! clock.

#[cfg(feature = "columnar")]
mod arrow_stream;
#[cfg(feature = "clickhouse")]
mod clickhouse;
mod csv;
mod discard;
mod esbulk;
mod file;
mod format;
mod grouped;
mod lines;
mod list;
mod masscan;
mod naabu;
mod ndjson;
mod nmap;
#[cfg(feature = "columnar")]
mod parts;
mod pgcopy;
#[cfg(feature = "postgres")]
mod postgres;
mod receiver;
pub mod rotate;
mod rowbinary;
mod services;
mod sidecar;
mod spooled;
mod sqlite;
mod text;
mod untrusted;
mod vendor;
mod zmap;

use std::io;
use std::path::{Path, PathBuf};

use crate::event::{Manifest, Record, State, Untrusted};

pub(crate) use vendor::Vendors;

pub use receiver::{Attached, Manner, Receiver, Replayed};
pub use sidecar::SUFFIX as MANIFEST_SUFFIX;

/// Every kind of sink, in the order of `--help`.
pub const SINKS: &[SinkKind] = &[
    text::KIND,
    ndjson::KIND,
    csv::KIND,
    list::KIND,
    sqlite::KIND,
    #[cfg(feature = "columnar")]
    parts::PARQUET,
    #[cfg(feature = "columnar")]
    parts::ARROW,
    #[cfg(feature = "postgres")]
    postgres::KIND,
    #[cfg(feature = "clickhouse")]
    clickhouse::KIND,
    pgcopy::KIND,
    rowbinary::KIND,
    esbulk::KIND,
    nmap::xml::KIND,
    nmap::grepable::KIND,
    masscan::list::KIND,
    masscan::json::KIND,
    masscan::ndjson::KIND,
    masscan::grepable::KIND,
    masscan::xml::KIND,
    masscan::binary::KIND,
    masscan::unicornscan::KIND,
    masscan::hosts::KIND,
    zmap::CSV,
    zmap::JSON,
    naabu::KIND,
    discard::KIND,
];

/// The kinds that stand behind a spool, and how `swath replay` opens what receives them.
const RECEIVERS: &[(&str, OpenReceiver)] = &[
    #[cfg(feature = "columnar")]
    ("parquet", parts::parquet),
    #[cfg(feature = "columnar")]
    ("arrow", parts::arrow),
    #[cfg(feature = "postgres")]
    ("postgres", postgres::receiver),
    #[cfg(feature = "clickhouse")]
    ("clickhouse", clickhouse::receiver),
];

type OpenReceiver = fn(&Place) -> Result<Box<dyn Receiver>, SinkError>;

/// Where records go.
pub trait Sink: Send {
    /// Announces the scan. Called once, before any record.
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkError>;

    /// Takes a batch of records, in the order they were received.
    fn write(&mut self, records: &[Record]) -> Result<(), SinkError>;

    /// Takes bytes that a target sent, found under `key` (for example `banner`), about the target of `record`.
    /// Sinks without room for them ignore them.
    fn attach(&mut self, record: &Record, key: &str, bytes: &Untrusted) -> Result<(), SinkError> {
        let _ = (record, key, bytes);
        Ok(())
    }

    /// Makes everything written so far visible to readers. Returns how many records are safe against a crash
    /// of this process.
    fn commit(&mut self) -> Result<u64, SinkError>;

    /// How many records since `begin` are safe against a crash of this process. At least what the last `commit`
    /// returned; exact after an error, so that the ledger balances to the record.
    fn safe(&self) -> u64;

    /// What operators should read: a server that went away, for one. Each is handed out once.
    fn remarks(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Ends the output with the closing manifest. Called exactly once.
    fn finish(self: Box<Self>, manifest: &Manifest) -> Result<(), SinkError>;
}

/// A row of the registry: one kind of sink.
pub struct SinkKind {
    /// The prefix that names it: `ndjson` in `-o ndjson:-`.
    pub name: &'static str,
    /// File suffixes that mean it, without the dot.
    pub suffixes: &'static [&'static str],
    /// One line for `--help`, at most 60 characters.
    pub about: &'static str,
    /// Whether an entry tells the state of its target. One that does not (`ip:port`) would pass a closed port for an
    /// open one, so such a sink is given one state only.
    pub tells_state: bool,
    /// The states an entry can tell; records of others are not given to it.
    pub states: &'static [State],
    /// Whether bytes that targets sent ([`Sink::attach`]) have a place in it. Where they have none they are left out, and
    /// conversions say how many.
    pub carries_bytes: bool,
    /// Whether it writes one byte behind the other, so that the suffixes `.gz` and `.zst` can compress it.
    pub packs: bool,
    /// Opens it. Must fail before the first packet when the place cannot be written.
    pub open: fn(&Place) -> Result<Box<dyn Sink>, SinkError>,
}

impl SinkKind {
    /// What most kinds have in common; a row names the rest.
    pub const BASE: SinkKind = SinkKind {
        name: "",
        suffixes: &[],
        about: "",
        tells_state: true,
        states: &State::ALL,
        carries_bytes: false,
        packs: false,
        open: discard::open,
    };
}

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// What stands behind the prefix, or the whole argument.
    pub path: PathBuf,
    /// Whether the path is `-`: standard output.
    pub stdout: bool,
    /// What to do when the file exists.
    pub existing: Existing,
    /// How what is written is compressed.
    pub packing: Packing,
    /// The columns, for formats that let the user choose (`--output-fields`); `None` for the usual ones.
    pub columns: Option<String>,
    /// Whether a header line is left out (`--no-header-row`).
    pub headless: bool,
    /// The file that says who made a network interface (`--oui`); `None` for this host's own list.
    pub makers: Option<PathBuf>,
    /// Whether lines of text say why (`--reason`).
    pub reasons: bool,
}

/// How a stream is compressed: `.gz` and `.zst` behind the suffix of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// Not at all.
    #[default]
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
}

impl Packing {
    /// What a path says, and the path without that.
    fn of(path: &str) -> (Packing, &str) {
        let packed = [(".gz", Packing::Gzip), (".zst", Packing::Zstd)].into_iter();
        let mut packed = packed.filter_map(|(suffix, packing)| {
            let at = path.len().checked_sub(suffix.len())?;
            let ends = path.get(at..)?.eq_ignore_ascii_case(suffix);
            ends.then(|| (packing, &path[..at]))
        });
        packed.next().unwrap_or((Packing::None, path))
    }
}

/// What to do with a file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse: nothing is overwritten by accident.
    #[default]
    Refuse,
    /// Append to it (`--append-output`).
    Append,
    /// Replace it (`--force`).
    Replace,
}

/// Why a sink could not do its work. Names the operation and the object.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}: {cause}")]
pub struct SinkError {
    /// What was attempted: `create`, `write to`, `commit to`.
    pub operation: &'static str,
    /// The file or database.
    pub object: String,
    /// What came of it, with the way out where there is one.
    pub cause: String,
    /// What the caller should make of it.
    pub kind: SinkErrorKind,
}

/// What the caller should make of a [`SinkError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkErrorKind {
    /// The user asked for something that is not done: an unknown suffix, a file that exists. A usage error.
    Refused,
    /// Whoever read the output has gone (EPIPE). For standard output the usual end of `swath ... | head`.
    ReaderGone,
    /// It failed: disk full, no permission, ...
    Failed,
}

impl SinkError {
    /// Whether no waiting mends it.
    pub fn is_refusal(&self) -> bool {
        self.kind == SinkErrorKind::Refused
    }

    fn from_io(operation: &'static str, object: &str, error: &io::Error) -> SinkError {
        let kind = match error.kind() {
            io::ErrorKind::BrokenPipe => SinkErrorKind::ReaderGone,
            _ => SinkErrorKind::Failed,
        };
        SinkError { operation, object: object.to_owned(), cause: error.to_string(), kind }
    }

    /// The same as an error of reading and writing, for callers that know no other.
    fn into_io(self) -> io::Error {
        let kind = match self.kind {
            SinkErrorKind::ReaderGone => io::ErrorKind::BrokenPipe,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self.cause)
    }

    fn refused(object: &str, cause: impl Into<String>) -> SinkError {
        let kind = SinkErrorKind::Refused;
        SinkError { operation: "write to", object: object.to_owned(), cause: cause.into(), kind }
    }
}

/// What `-o ARGUMENT` means: `KIND:PATH`, or `PATH` whose suffix says the kind. The path `-` is standard output, and
/// alone means lines of text there.
///
/// # Errors
/// When neither prefix nor suffix names a kind, or no path follows the prefix.
pub fn parse_place(argument: &str, existing: Existing) -> Result<(&'static SinkKind, Place), SinkError> {
    let prefixed = argument.split_once(':').and_then(|(name, rest)| Some((sink_named(name)?, rest)));
    let (kind, path) = match prefixed {
        Some((kind, path)) => (kind, path),
        None if argument == "-" => (&SINKS[0], argument),
        None => (by_suffix(Packing::of(argument).1).ok_or_else(|| unknown_kind(argument))?, argument),
    };
    if path.is_empty() && kind.name != discard::KIND.name {
        let cause = format!("no path follows the prefix; write {}:PATH", kind.name);
        return Err(SinkError::refused(&file::shown(Path::new(argument)), cause));
    }
    let (packing, _) = Packing::of(path);
    if packing != Packing::None && !kind.packs {
        let cause = format!("{} is not written as a stream, so it cannot be compressed by suffix", kind.name);
        return Err(SinkError::refused(&file::shown(Path::new(argument)), cause));
    }
    let stdout = path == "-";
    Ok((kind, Place { path: PathBuf::from(path), stdout, existing, packing, ..Place::default() }))
}

/// The kind of that name.
pub fn sink_named(name: &str) -> Option<&'static SinkKind> {
    SINKS.iter().find(|kind| kind.name == name)
}

/// Opens a sink; where the format has no room for the manifest of the scan, it stands beside the file
/// (`FILE.manifest.json`).
///
/// # Errors
/// As [`SinkKind::open`]; also when a manifest that nobody asked to replace stands there.
pub fn open(kind: &SinkKind, place: &Place) -> Result<Box<dyn Sink>, SinkError> {
    if place.stdout || WITH_ROOM.contains(&kind.name) {
        return (kind.open)(place);
    }
    sidecar::open(kind, place)
}

/// Whether bytes that targets sent have a place in what is written there. A stream of columns has room for one table.
pub fn carries_bytes(kind: &SinkKind, place: &Place) -> bool {
    kind.carries_bytes && !(place.stdout && kind.name == "arrow")
}

/// Kinds whose output holds the manifest itself, and the one without an output.
const WITH_ROOM: [&str; 6] = ["sqlite", "parquet", "arrow", "postgres", "clickhouse", "none"];

/// Delivers what a spool holds, once, to the place that `argument` names; what is there already is not repeated. The
/// spool is removed when all of it is there and none of it was damaged.
///
/// # Errors
/// At the first trouble; what was delivered stays, and the next call goes on behind it.
pub fn replay(spool: &Path, argument: &str) -> Result<Replayed, SinkError> {
    let (kind, place) = parse_place(argument, Existing::Append)?;
    let (_, open) = RECEIVERS.iter().find(|(name, _)| *name == kind.name).ok_or_else(|| {
        let names: Vec<&str> = RECEIVERS.iter().map(|(name, _)| *name).collect();
        let cause = format!(
            "only {} know what they have already; for any other kind: swath convert SPOOL -o {}",
            names.join(", "),
            without_password(argument)
        );
        SinkError::refused(&without_password(argument), cause)
    })?;
    receiver::replay(spool, open(&place)?, &without_password(argument))
}

/// An argument as it may be shown and stored: an address loses its password (`//user:password@`, `password=`).
pub fn without_password(argument: &str) -> String {
    let Some((kind, rest)) = argument.split_once("://") else { return argument.to_owned() };
    let (server, query) = match rest.split_once('?') {
        Some((server, query)) => (server, Some(query)),
        None => (rest, None),
    };
    let server = match server.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => server.to_owned(),
    };
    let secret = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
        name.contains("password") || name.contains("secret")
    };
    let kept = query.map(|query| query.split('&').filter(|pair| !secret(pair)).collect::<Vec<_>>().join("&"));
    match kept.filter(|kept| !kept.is_empty()) {
        Some(query) => format!("{kind}://{server}?{query}"),
        None => format!("{kind}://{server}"),
    }
}

fn by_suffix(path: &str) -> Option<&'static SinkKind> {
    let suffix = Path::new(path).extension()?.to_str()?.to_ascii_lowercase();
    SINKS.iter().find(|kind| kind.suffixes.contains(&suffix.as_str()))
}

fn unknown_kind(argument: &str) -> SinkError {
    let kinds = SINKS.iter().map(|kind| match kind.suffixes {
        [] => kind.name.to_owned(),
        suffixes => format!("{} (.{})", kind.name, suffixes.join(" .")),
    });
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let cause = format!("its suffix names no format; choose another, or write KIND:PATH. Kinds: {kinds}");
    SinkError::refused(&file::shown(Path::new(argument)), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(argument: &str) -> (&'static str, String, bool) {
        let (kind, place) = parse_place(argument, Existing::Refuse).expect("parses");
        (kind.name, place.path.to_str().expect("text").to_owned(), place.stdout)
    }

    #[test]
    fn names_and_suffixes_are_unique_and_every_kind_says_what_it_is() {
        let mut words = Vec::new();
        for kind in SINKS {
            assert!(!kind.about.is_empty() && kind.about.chars().count() <= 60, "{}", kind.name);
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(kind.name.bytes().all(plain), "{}", kind.name);
            words.push(kind.name);
            words.extend(kind.suffixes.iter().filter(|suffix| **suffix != kind.name));
        }
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count, "a word means one kind");
    }

    #[test]
    fn every_prefix_and_every_suffix_means_its_kind() {
        for kind in SINKS {
            assert_eq!(parsed(&format!("{}:results", kind.name)), (kind.name, "results".to_owned(), false));
            assert_eq!(parsed(&format!("{}:-", kind.name)), (kind.name, "-".to_owned(), true));
            for suffix in kind.suffixes {
                let path = format!("a/b.c/results.{suffix}");
                assert_eq!(parsed(&path), (kind.name, path.clone(), false));
                assert_eq!(parsed(&path.to_uppercase()).0, kind.name);
            }
        }
    }

    #[test]
    fn a_dash_is_text_on_standard_output_and_a_prefix_beats_the_suffix() {
        assert_eq!(parsed("-"), ("text", "-".to_owned(), true));
        assert_eq!(parsed("csv:results.json"), ("csv", "results.json".to_owned(), false));
        assert_eq!(parsed("12:30.csv"), ("csv", "12:30.csv".to_owned(), false));
        assert_eq!(parsed("none:"), ("none", String::new(), false));
    }

    #[test]
    fn an_address_loses_its_password_and_nothing_else() {
        for (given, shown) in [
            (
                "postgres://me:se:cr@et@db:5432/scans?sslmode=disable",
                "postgres://me@db:5432/scans?sslmode=disable",
            ),
            ("postgres://db/scans?password=x&user=me&PGPASSWORD=y", "postgres://db/scans?user=me"),
            ("clickhouse://db:8123/swath", "clickhouse://db:8123/swath"),
            ("results@home:1.csv", "results@home:1.csv"),
        ] {
            assert_eq!(without_password(given), shown);
        }
    }

    #[test]
    fn an_argument_without_a_kind_is_refused_with_the_kinds() {
        for argument in
            ["", "results", "results.", ".csv", "results.pdf", "pdf:results", "csv:", "\u{1b}[2J.x"]
        {
            let error =
                parse_place(argument, Existing::Refuse).map(|(kind, _)| kind.name).expect_err(argument);
            assert_eq!(error.kind, SinkErrorKind::Refused);
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(text.contains("csv:PATH") || SINKS.iter().all(|kind| text.contains(kind.name)), "{text}");
        }
    }
}
