//! Where results are read back from: the trait [`Source`] and the registry [`SOURCES`]. One file per format.
//!
//! Contract of the family. A source streams: it holds one batch at a time, whatever the file's length. Nothing in a
//! file is trusted: a line or a record that cannot be read is an error that names the file and the place, no length
//! in the file is believed before it is there, and text that becomes bytes of an attachment stays
//! [`Untrusted`](crate::event::Untrusted). A file that its writer left in the middle of a record (killed, disk full)
//! is read up to the last whole one, and [`Source::remarks`] says so.
//!
//! What the format does not say stays unset in the record; a reason it does not tell is the usual one of protocol
//! and state.
//!
//! Invariant: sources never see a sink, and read no clock.

#[cfg(feature = "columnar")]
mod columns;
mod csv;
mod gnmap;
mod input;
mod lines;
mod masscan;
mod naabu;
mod ndjson;
mod row;
mod spool;
mod sqlite;
mod table;
mod text;
mod xml;
mod zmap;

use std::path::Path;

pub use input::Input;

use crate::event::Observations;

/// Every kind of source. The first whose `sniff` knows the beginning of a file reads it.
pub const SOURCES: &[SourceKind] = &[
    sqlite::KIND,
    ndjson::KIND,
    csv::KIND,
    masscan::binary::KIND,
    masscan::list::KIND,
    masscan::json::KIND,
    masscan::ndjson::KIND,
    xml::MASSCAN,
    xml::NMAP,
    gnmap::KIND,
    zmap::KIND,
    naabu::KIND,
    #[cfg(feature = "columnar")]
    columns::PARQUET,
    #[cfg(feature = "columnar")]
    columns::ARROW,
    spool::KIND,
];

/// Verdicts and attachments a source hands out at once, at most; it may hand out fewer.
pub const BATCH: usize = 4096;

/// Where results are read from.
pub trait Source: Send {
    /// Replaces what the batch holds by the next observations, in the order of the file. `Ok(false)` at the end, with
    /// an empty batch; not called again then, nor after an error.
    ///
    /// # Errors
    /// What cannot be read, with file and place. The batch may hold what came before it.
    fn read(&mut self, batch: &mut Observations) -> Result<bool, SourceError>;

    /// What the file says about the scan as a whole. Complete once `read` has returned `Ok(false)`; the start is known
    /// earlier in formats that begin with it.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// What the user should know, such as that the end of the file is cut off. Complete once `read` has returned
    /// `Ok(false)`.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a file says about the scan as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// When it began, in seconds since the Unix epoch.
    pub started_s: Option<u64>,
    /// When it ended, in seconds since the Unix epoch.
    pub finished_s: Option<u64>,
    /// The manifests of the scans in it, JSON, in their order; empty where the format has none.
    pub manifests: Vec<String>,
}

/// A row of the registry: one kind of source.
pub struct SourceKind {
    /// The prefix that names it: `ndjson` in `ndjson:FILE`. Where a sink writes the same format, the sink's.
    pub name: &'static str,
    /// One line for `--help`, at most 60 characters.
    pub about: &'static str,
    /// Whether a file that begins so is of this kind. Given up to [`Input::HEAD`] bytes, after decompression; fewer
    /// only when the file is shorter.
    pub sniff: fn(&[u8]) -> bool,
    /// Opens it.
    pub open: fn(Input) -> Result<Box<dyn Source>, SourceError>,
}

/// Why results cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {file}{place}: {cause}")]
pub struct SourceError {
    /// The file.
    pub file: String,
    /// Where in it, with a comma in front: `, line 7`, `, byte 1024`; empty for the file as a whole.
    pub place: String,
    /// What is wrong, with the way out where there is one.
    pub cause: String,
}

/// Opens what `ARGUMENT` names: `KIND:PATH`, or `PATH` whose kind its content says. The path `-` is standard input.
/// `.gz` and `.zst` content is decompressed, whatever the name says.
///
/// # Errors
/// When it cannot be opened, or nothing says the kind.
pub fn open(argument: &str) -> Result<Box<dyn Source>, SourceError> {
    let (kind, path) = split(argument);
    if crate::spool::is_spool(Path::new(path)) {
        let directory = Some(Path::new(path).to_owned());
        return (spool::KIND.open)(Input::from_reader(path, directory, Box::new(std::io::empty()))?);
    }
    let input = Input::open(Path::new(path))?;
    let kind = match kind {
        Some(kind) => kind,
        None => SOURCES.iter().find(|kind| (kind.sniff)(input.head())).ok_or_else(|| unknown(&input))?,
    };
    (kind.open)(input)
}

/// The path in an argument of [`open`].
pub fn source_path(argument: &str) -> &str {
    split(argument).1
}

fn split(argument: &str) -> (Option<&'static SourceKind>, &str) {
    let prefixed = argument.split_once(':').and_then(|(name, rest)| Some((source_named(name)?, rest)));
    prefixed.map_or((None, argument), |(kind, path)| (Some(kind), path))
}

/// The kind of that name.
pub fn source_named(name: &str) -> Option<&'static SourceKind> {
    SOURCES.iter().find(|kind| kind.name == name)
}

fn unknown(input: &Input) -> SourceError {
    if input.head().is_empty() && input.is_cut() {
        return input.fault(None, "it is compressed, and cut off before anything can be read");
    }
    if input.head().is_empty() {
        return input.fault(None, "it is empty, so nothing says of which kind it is; write KIND:PATH");
    }
    let names: Vec<&str> = SOURCES.iter().map(|kind| kind.name).collect();
    input.fault(
        None,
        format!("its beginning is of no kind swath reads; write KIND:PATH. Kinds: {}", names.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_kind_says_what_it_is() {
        for (index, kind) in SOURCES.iter().enumerate() {
            assert!(!kind.about.is_empty() && kind.about.chars().count() <= 60, "{}", kind.name);
            assert!(SOURCES[..index].iter().all(|other| other.name != kind.name), "{}", kind.name);
        }
    }

    #[test]
    fn no_kind_claims_an_empty_file_or_noise() {
        for head in [&b""[..], b"\n", b"\0\0\0\0", b"hello\n", b"{", b"[", b"<", b"#", b",,,\n"] {
            assert!(SOURCES.iter().all(|kind| !(kind.sniff)(head)), "{head:?}");
        }
    }
}
