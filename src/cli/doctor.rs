//! The options of `swath doctor`. No I/O.

use std::ffi::OsString;

use clap::Parser;

/// What is examined.
#[derive(Debug, Parser)]
#[command(
    name = "swath doctor",
    about = "Say which links work on this host, why the others do not, and what to change; sends nothing",
    max_term_width = 110
)]
pub struct DoctorArgs {
    /// One interface; exit 1 when no link works on it [default: all that are up]
    #[arg(short = 'e', long, value_name = "NAME")]
    pub interface: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads the words after `swath`.
pub(super) fn read(words: Vec<OsString>) -> Result<DoctorArgs, clap::Error> {
    DoctorArgs::try_parse_from(words)
}
