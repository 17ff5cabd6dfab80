//! The command line: argv to [`Args`] (no I/O), then [`build`] with files and host facts to Plan and Setup.
//!
//! Invariant: nothing here sends, opens a socket or exits; help never fails.

mod args;
pub mod build;
mod spelling;

use std::ffi::OsString;

pub use args::{Args, Show};

/// What the user asked for.
#[derive(Debug)]
pub enum Request {
    /// Scan.
    Scan(Box<Args>),
    /// Say what a scan would do.
    Plan(Box<Args>),
    /// Print this text to standard output and succeed (`--help`, `--version`).
    Print(String),
}

/// Reads the command line; the first word may be a subcommand.
///
/// # Errors
/// The text for standard error, complete with usage and suggestion.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut words: Vec<OsString> = argv.into_iter().collect();
    let plan = words.get(1).is_some_and(|word| word == "plan");
    if plan {
        words.remove(1);
    }
    if let Some(word) = words.get_mut(1).filter(|word| *word == "help") {
        *word = OsString::from("--help");
    }
    let words = spelling::canonical(words, &args::command())?;
    match args::read(words, plan) {
        Ok(args) if plan => Ok(Request::Plan(Box::new(args))),
        Ok(args) => Ok(Request::Scan(Box::new(args))),
        Err(error) if error.use_stderr() => Err(error.render().to_string()),
        Err(error) => Ok(Request::Print(error.render().to_string())),
    }
}
