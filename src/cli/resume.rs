//! The words of `swath resume`, and those of the scan it goes on with. No I/O.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Args, args, spelling};
use crate::checkpoint::Mode;

/// Which scan goes on, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeArgs {
    /// The checkpoint, or a directory that holds one.
    pub path: PathBuf,
    /// What becomes of probes whose replies nobody heard.
    pub mode: Mode,
    /// More options: those of the scan are taken first.
    pub words: Vec<OsString>,
}

/// What `swath resume --help` says.
pub(super) const HELP: &str = "\
Go on with a scan that was stopped or killed, with the same plan and the same outputs

Usage: swath resume FILE|DIR [--resume=complete|exact] [options]

FILE is the checkpoint of the scan (OUTPUT.swath, or what --checkpoint said); DIR a directory that holds one.

  --resume=complete   probe again whatever may have been answered while nobody listened: nothing is lost (default)
  --resume=exact      probe nothing again; says how many probes' replies may be lost

Options of the set-up (--rate, --wait, -e, -q, ...) replace those of the scan. What belongs to the plan (targets, ports,
seed, passes, shard) cannot be changed; the exclude list may grow and may not shrink.
";

/// Reads the words after `swath resume`. `Ok(None)` when help is asked for.
pub(super) fn read(words: &[OsString]) -> Result<Option<ResumeArgs>, String> {
    let (mut path, mut mode, mut rest) = (None, Mode::default(), Vec::new());
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        let mode_word = match text.split_once('=') {
            Some(("--resume", value)) => Some(value.to_owned()),
            None if text == "--resume" => {
                Some(words.next().and_then(|word| word.to_str()).unwrap_or_default().to_owned())
            }
            _ => None,
        };
        match mode_word.as_deref() {
            Some("complete") => mode = Mode::Complete,
            Some("exact") => mode = Mode::Exact,
            Some(other) => {
                return Err(format!("swath: '{other}' is no way to resume; there are complete and exact\n"));
            }
            None if matches!(text, "--help" | "-h" | "help") => return Ok(None),
            None if path.is_none() && !text.starts_with('-') => path = Some(PathBuf::from(word)),
            None => rest.push(word.clone()),
        }
    }
    let path = path.ok_or("swath: resume what? name the checkpoint: swath resume FILE\n")?;
    Ok(Some(ResumeArgs { path, mode, words: rest }))
}

/// The options of a scan that goes on: its own words, then more, of which the later replace the earlier.
///
/// # Errors
/// The text for standard error.
pub fn again(argv: &[String], more: &[OsString]) -> Result<Args, String> {
    let words = argv.iter().map(OsString::from).chain(more.iter().cloned()).collect();
    let words = spelling::canonical(words, &args::command())?;
    args::read_again(words).map_err(|error| error.render().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_path_the_mode_and_the_rest_stand_in_any_order() {
        for text in ["a.swath --resume=exact --rate 5k", "--resume exact --rate=5k a.swath"] {
            let args = read(&words(text)).expect("reads").expect("no help");
            assert_eq!((args.path, args.mode), (PathBuf::from("a.swath"), Mode::Exact));
        }
        assert_eq!(read(&words("a.swath")).expect("reads").expect("no help").mode, Mode::Complete);
        assert_eq!(read(&words("--help")), Ok(None));
        for bad in ["", "--resume=exact", "a --resume=never", "a --resume"] {
            assert!(read(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn later_options_replace_those_of_the_scan() {
        let argv: Vec<String> =
            ["swath", "192.0.2.0/24", "-p80", "--rate", "10", "-o", "a.csv"].map(String::from).into();
        let args = again(&argv, &words("--rate 99 --Max_Rate=77")).expect("reads");
        assert_eq!(args.rate, crate::pace::Rate::MilliFrames(77_000));
        assert_eq!(args.output, ["a.csv"]);
        assert!(again(&argv, &words("--no-such")).is_err());
    }
}
