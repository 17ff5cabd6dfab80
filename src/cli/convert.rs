//! The options of `swath convert`. No I/O.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};

use super::args::Show;
use super::outputs::Outputs;
use super::spelling;
use crate::event::State;
use crate::select::Expression;
use crate::source::SOURCES;

/// What is read, what of it is kept, and where it goes.
#[derive(Debug, Parser)]
#[command(
    name = "swath convert",
    about = "Read results in any format and write them in any other; streams in constant memory",
    override_usage = "swath convert IN... -o OUT... [options]",
    max_term_width = 110
)]
pub struct ConvertArgs {
    /// What to read: PATH, whose content says its kind, or KIND:PATH; - is standard input
    #[arg(value_name = "IN", required = true)]
    pub input: Vec<String>,

    /// Where results go; repeat for several; kinds as with scans [default: lines on standard output]
    #[arg(short = 'o', long = "output", value_name = "PATH")]
    pub output: Vec<String>,

    /// Keep results for which this holds: 'state = open and (port = 443 or ttl > 64)'
    #[arg(long = "where", value_name = "EXPRESSION", value_parser = Expression::parse)]
    pub filter: Option<Expression>,

    /// Keep results on these ports: 22,443,U:53
    #[arg(short = 'p', long = "ports", value_name = "PORTS", allow_hyphen_values = true)]
    pub ports: Vec<String>,

    /// Keep results of these addresses, in the syntax of scans
    #[arg(long, value_name = "TARGETS")]
    pub targets: Vec<String>,

    /// Leave out results of these addresses
    #[arg(long, value_name = "TARGETS")]
    pub exclude: Vec<String>,

    /// Keep these states: open, closed, filtered, unfiltered, up, open|filtered; or all
    #[arg(long, value_name = "STATES", conflicts_with = "open")]
    pub show: Option<Show>,

    /// Keep open ports only
    #[arg(long)]
    pub open: bool,

    /// Write in order: of target (address, port, protocol) or of time
    #[arg(long, value_name = "BY", value_enum, num_args = 0..=1, default_missing_value = "target", require_equals = true)]
    pub sort: Option<SortBy>,

    /// Keep the first result of each target and state; writes in the order of targets
    #[arg(long)]
    pub dedup: bool,

    /// One result for each target: the newest, with the facts that only older ones have; in the order of targets
    #[arg(long, conflicts_with = "dedup")]
    pub join: bool,

    /// Where sorting keeps what memory does not hold [default: beside the first output]
    #[arg(long, value_name = "DIRECTORY")]
    pub temporary: Option<PathBuf>,

    /// Append to result files that exist
    #[arg(long, conflicts_with = "force")]
    pub append_output: bool,

    /// Replace result files that exist
    #[arg(long)]
    pub force: bool,

    /// Say nothing but errors
    #[arg(short = 'q', long)]
    pub quiet: bool,

    /// In whose format, and in how many parts.
    #[command(flatten)]
    pub outputs: Outputs,
}

impl ConvertArgs {
    /// The states that are kept.
    pub fn states(&self) -> Vec<State> {
        match &self.show {
            _ if self.open => vec![State::Open],
            Some(show) => show.0.clone(),
            None => State::ALL.to_vec(),
        }
    }
}

/// In which order results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    /// By address, port, protocol and time.
    Target,
    /// By time.
    Time,
}

fn command() -> clap::Command {
    let column = SOURCES.iter().map(|kind| kind.name.len()).max().unwrap_or(0);
    let rows: Vec<String> =
        SOURCES.iter().map(|kind| format!("  {:column$}  {}", kind.name, kind.about)).collect();
    ConvertArgs::command().after_help(format!("What can be read:\n{}\n{EXAMPLES}", rows.join("\n")))
}

/// Reads the words behind `swath convert`; the first is the program's name.
///
/// # Errors
/// The text for standard error, or what clap has to say (help, for one).
pub(super) fn read(words: Vec<OsString>) -> Result<Result<ConvertArgs, clap::Error>, String> {
    let mut command = command();
    let words = spelling::canonical(words, &command)?;
    let matches = command.try_get_matches_from_mut(words);
    Ok(matches.and_then(|matches| ConvertArgs::from_arg_matches(&matches)))
}

/// `swath --readscan FILE... [RANGES] [-oX FILE]`, as masscan has it, in the words of `swath convert`; `None` for words
/// that hold no such option. What follows the option up to the next one are files, other words without a dash are
/// addresses to keep; closed ports are shown only on request.
pub(super) fn readscan(words: &[OsString]) -> Option<Vec<OsString>> {
    let is_readscan = |word: &OsString| {
        let plain: String =
            word.to_str()?.strip_prefix("--")?.chars().filter(|letter| *letter != '-').collect();
        plain
            .to_ascii_lowercase()
            .split_once('=')
            .map_or(plain == "readscan", |(name, _)| name == "readscan")
            .then_some(())
    };
    let at = words.iter().position(|word| is_readscan(word).is_some())?;
    let command = command();
    let takes_value = |word: &str| match word.strip_prefix("--") {
        _ if word.contains('=') => false,
        Some(name) => command.get_arguments().any(|argument| {
            let named =
                argument.get_long().is_some_and(|long| spelling::plain(long) == spelling::plain(name));
            named && argument.get_action().takes_values() && !argument.is_require_equals_set()
        }),
        // `-p 80` and `-oX FILE`, but `-p80`.
        None => word == "-p" || word.starts_with("-o") && word.len() <= 3,
    };
    let mut converted = vec![OsString::from("swath convert")];
    let (mut files, mut values, mut shown) = (false, false, false);
    for (index, word) in words.iter().enumerate().skip(1) {
        let text = word.to_str().unwrap_or_default();
        if index == at {
            files = true;
            converted.extend(text.split_once('=').map(|(_, file)| OsString::from(file)));
            continue;
        }
        let dashed = text.starts_with('-') && text.len() != 1;
        if dashed {
            files = false;
            values = takes_value(text);
            shown |= text.to_ascii_lowercase().starts_with("--show");
            converted.push(word.clone());
        } else if values || files {
            values = false;
            converted.push(word.clone());
        } else {
            converted.extend([OsString::from("--targets"), word.clone()]);
        }
    }
    if !shown {
        converted.push(OsString::from("--show=open,up"));
    }
    Some(converted)
}

const EXAMPLES: &str = "
Examples:
  swath convert scan.bin -o scan.db                        masscan's binary file into SQLite
  swath convert a.xml b.json -o all.parquet --dedup        several files, every target once
  swath convert scan.db -o - --open -p 443 | wc -l         what is open on 443
  swath convert huge.ndjson.zst -oX huge.xml               nmap's XML, one host for each address
";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn masscan_s_readscan_becomes_a_conversion() {
        let converted =
            readscan(&words("swath --readscan a.bin b.bin -oL out.txt 10.0.0.0/8 -p 80")).expect("readscan");
        let text: Vec<&str> = converted.iter().map(|word| word.to_str().expect("text")).collect();
        assert_eq!(
            text.join(" "),
            "swath convert a.bin b.bin -oL out.txt --targets 10.0.0.0/8 -p 80 --show=open,up"
        );
        let args = read(converted).expect("spelled").expect("read");
        assert_eq!((args.input.len(), args.targets.len(), args.outputs.peer.len()), (2, 1, 1));
        assert_eq!(readscan(&words("swath 10.0.0.1 -p80")), None);
        let converted = readscan(&words("swath --compat masscan --readscan a.bin -oX - --quiet 10.0.0.1"));
        let args = read(converted.expect("readscan")).expect("spelled").expect("read");
        assert_eq!((args.input, args.targets), (vec!["a.bin".into()], vec!["10.0.0.1".to_owned()]));
        let shown = readscan(&words("swath --ReadScan=a.bin --show all")).expect("readscan");
        assert!(!shown.contains(&OsString::from("--show=open,up")));
    }

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
        assert!(read(words("convert")).expect("spelled").is_err());
        let args = read(words("convert a -o b.csv --sort --dedup")).expect("spelled").expect("read");
        assert_eq!(args.sort, Some(SortBy::Target));
    }
}
