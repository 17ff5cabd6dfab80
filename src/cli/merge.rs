//! The options of `swath merge`. No I/O.

use std::ffi::OsString;

use clap::{ArgAction, Parser};

/// Which outputs become one, and where it goes.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "swath merge",
    about = "Join the outputs of shards, and check by their manifests that together they are complete",
    after_help = "An output without a manifest of its own (lines, CSV) needs what its shard left beside it, FILE.swath or FILE.manifest.json.\nOther tools' formats by their kind: -o masscan-xml:all.xml.\nExit codes: 0 complete, 3 something is missing (the message names it; what is there is joined all the same).",
    max_term_width = 110
)]
pub struct MergeArgs {
    /// Outputs of shards: FILE, or KIND:FILE
    #[arg(value_name = "SHARD", required = true)]
    pub inputs: Vec<String>,

    /// Where the whole goes; repeat for several. Kinds as for a scan [default: only check]
    #[arg(short = 'o', long = "output", value_name = "PATH")]
    pub output: Vec<String>,

    /// Replace result files that exist
    #[arg(long)]
    pub force: bool,

    /// Say nothing when all is well
    #[arg(short = 'q', long, action = ArgAction::SetTrue)]
    pub quiet: bool,
}

/// Reads the words after `swath`.
pub(super) fn read(words: Vec<OsString>) -> Result<MergeArgs, clap::Error> {
    MergeArgs::try_parse_from(words)
}
