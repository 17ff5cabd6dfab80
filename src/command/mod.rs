//! The subcommands, one file each. A command returns what the process should exit with; only main exits.

pub mod audit;
pub mod bench;
#[cfg(feature = "columnar")]
pub mod compact;
pub mod convert;
pub mod diff;
mod discover;
pub mod doctor;
pub mod echo;
mod held;
pub mod merge;
pub mod plan;
pub mod replay;
pub mod resume;
pub mod scan;
mod sets;

use std::io::Write;

use crate::text::harmless;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// It failed; standard error says how.
    Failed,
    /// A policy forbids it, or a difference was found.
    Difference,
    /// The user asked for something that cannot be; nothing was sent.
    Usage,
    /// Everything was done, and some replies are known to be lost.
    KnownLoss,
    /// The user interrupted it; the output is valid.
    Interrupted,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Difference => 3,
            Exit::KnownLoss => 4,
            Exit::Interrupted => 130,
        }
    }
}

/// Writes to standard error. A closed one (`swath ... 2>&1 | head`) is no reason to end a scan or to panic, as the
/// `eprint` macros do. Control characters, which arguments and file names may hold, are escaped.
pub fn complain(text: &str) {
    let _ = std::io::stderr().write_all(harmless(text).as_bytes());
}
