//! Options of what a scan promises: that it can go on. No I/O.

use clap::Args;

/// How a scan survives.
#[derive(Debug, Clone, Args)]
pub struct Reliability {
    /// Where the checkpoint stands while the scan is not complete; none for no checkpoint [default: beside the first
    /// output that is a file, FILE.swath]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub checkpoint: Option<String>,
}

const HEADING: &str = "Going on";
