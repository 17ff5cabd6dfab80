//! The command line: argv and the configuration files it names to [`Args`], then [`build`] with files and host facts to Plan and Setup.
//!
//! Invariant: nothing here sends, opens a socket or exits; help never fails.

mod args;
mod audit;
mod bench;
pub mod build;
mod choose;
mod config;
mod convert;
mod doctor;
mod habits;
mod links;
mod merge;
mod outputs;
mod probes;
mod reach;
mod reliability;
mod results;
pub mod resume;
mod sample;
mod spelling;
mod udp;

use std::ffi::OsString;

/// The name of the connect scan.
pub const CONNECT: &str = crate::probe::Connect::NAME;

pub use args::{Args, Show};
pub use audit::{Audit, AuditArgs};
pub use bench::{BenchArgs, BenchRx, BenchTx, Length, Subject, WriteArgs};
pub use convert::{ConvertArgs, SortBy};
pub use doctor::DoctorArgs;
pub use links::LinkArgs;
pub use merge::MergeArgs;
pub use outputs::{Compat, Named, Outputs};
pub use probes::ProbeArgs;
pub use reliability::Reliability;
pub use results::{CompactArgs, DiffArgs, DiffFormat, ReplayArgs};
pub use resume::ResumeArgs;
pub use sample::SampleArgs;
pub use udp::UdpArgs;

/// What the user asked for.
#[derive(Debug)]
pub enum Request {
    /// Scan.
    Scan(Box<Args>),
    /// Say what a scan would do.
    Plan(Box<Args>),
    /// Print the plan as a configuration file.
    Echo(Box<Args>),
    /// Read results and write them in another format.
    Convert(Box<ConvertArgs>),
    /// Go on with a scan.
    Resume(ResumeArgs),
    /// Join the outputs of shards.
    Merge(MergeArgs),
    /// Measure.
    Bench(BenchArgs),
    /// Deliver what a spool holds.
    Replay(ReplayArgs),
    /// Merge results into one sorted set.
    Compact(CompactArgs),
    /// Compare two sets.
    Diff(DiffArgs),
    /// Say what this host can do.
    Doctor(DoctorArgs),
    /// Print this text to standard output and succeed (`--help`, `--version`).
    Print(String),
}

/// Reads the command line; the first word may be a subcommand.
///
/// # Errors
/// The text for standard error, complete with usage and suggestion.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut words: Vec<OsString> = argv.into_iter().collect();
    let shown = |error: clap::Error| {
        let text = error.render().to_string();
        if error.use_stderr() { Err(text) } else { Ok(Request::Print(text)) }
    };
    type Read = fn(Vec<OsString>) -> Result<Request, clap::Error>;
    let others: [(&str, Read); 4] = [
        ("bench", |words| bench::read(words).map(Request::Bench)),
        ("replay", |words| results::read(words).map(Request::Replay)),
        ("compact", |words| results::read(words).map(Request::Compact)),
        ("diff", |words| results::read(words).map(Request::Diff)),
    ];
    if let Some((_, read)) = others.iter().find(|(name, _)| words.get(1).is_some_and(|word| word == name)) {
        words.remove(0);
        return read(words).or_else(shown);
    }
    if words.get(1).is_some_and(|word| word == "doctor") {
        words.remove(0);
        return doctor::read(words).map_or_else(shown, |args| Ok(Request::Doctor(args)));
    }
    if words.get(1).is_some_and(|word| word == "merge") {
        words.remove(0);
        return merge::read(words).map_or_else(shown, |args| Ok(Request::Merge(args)));
    }
    if words.get(1).is_some_and(|word| word == "resume") {
        let help = || Request::Print(resume::HELP.to_owned());
        return Ok(resume::read(&words[2..])?.map_or_else(help, Request::Resume));
    }
    let readscan = convert::readscan(&words);
    if readscan.is_some() || words.get(1).is_some_and(|word| word == "convert") {
        words.remove(0);
        let read = convert::read(readscan.unwrap_or(words))?;
        return read.map_or_else(shown, |args| Ok(Request::Convert(Box::new(args))));
    }
    let plan = words.get(1).is_some_and(|word| word == "plan");
    if plan {
        words.remove(1);
    }
    if let Some(word) = words.get_mut(1).filter(|word| *word == "help") {
        *word = OsString::from("--help");
    }
    let words = config::expand(words, &args::command())?;
    let words = spelling::canonical(words, &args::command())?;
    match args::read(words, plan) {
        Ok(args) if args.echo => Ok(Request::Echo(Box::new(args))),
        Ok(args) if plan => Ok(Request::Plan(Box::new(args))),
        Ok(args) => Ok(Request::Scan(Box::new(args))),
        Err(error) => shown(error),
    }
}
