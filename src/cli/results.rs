//! The options of the commands about results that exist: `replay`, `compact`, `diff`. No I/O.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// `swath replay`.
#[derive(Debug, Parser)]
#[command(
    name = "swath replay",
    about = "Deliver what a spool still holds; what is there already is not repeated",
    max_term_width = 110
)]
pub struct ReplayArgs {
    /// The spool: a directory whose name ends in .spool
    pub spool: PathBuf,

    /// Where to; where it was meant to go when left out
    #[arg(long, value_name = "OUTPUT")]
    pub to: Option<String>,
}

/// `swath compact`.
#[derive(Debug, Parser)]
#[command(
    name = "swath compact",
    about = "Merge parts and files of results into one sorted set, each verdict once",
    max_term_width = 110
)]
pub struct CompactArgs {
    /// Directories of parts, and files of any kind that can be read
    #[arg(required = true, value_name = "DIR|FILE")]
    pub inputs: Vec<String>,

    /// The file: .parquet or .arrow
    #[arg(short, long, value_name = "OUT")]
    pub output: String,

    /// Replace OUT if it exists
    #[arg(long)]
    pub force: bool,
}

/// `swath diff`.
#[derive(Debug, Parser)]
#[command(
    name = "swath diff",
    about = "What changed between two scans; exit code 0: nothing, 3: something",
    max_term_width = 110
)]
pub struct DiffArgs {
    /// The earlier set: a file, or a directory of parts
    pub a: String,

    /// The later set
    pub b: String,

    /// How differences are told
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,

    /// Take silence as an answer where no manifest says what was covered
    #[arg(long)]
    pub assume_covered: bool,
}

/// How differences are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// Lines that begin with +, -, ~ or ?
    Text,
    /// One JSON object a line
    Ndjson,
    /// A table
    Markdown,
}

/// Reads the words after `swath`.
pub(super) fn read<A: Parser>(words: Vec<OsString>) -> Result<A, clap::Error> {
    A::try_parse_from(words)
}
