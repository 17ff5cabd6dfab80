//! Configuration files, in the syntax of masscan's: `name = value`, the names of the long options, one a line. What
//! `swath --echo` prints is one, and so is masscan's `paused.conf`.
//!
//! A file becomes words of the command line where it is named, so that what comes later counts.

use std::ffi::OsString;
use std::fs;

use clap::ArgAction;

use super::habits;
use super::spelling::plain;

/// Replaces every `-c FILE`, `--conf FILE`, `--config FILE` and `--resume FILE` by the options in it.
///
/// # Errors
/// With file and line: for what cannot be read, a name that is no option, and what cannot be gone on with.
pub(super) fn expand(words: Vec<OsString>, command: &clap::Command) -> Result<Vec<OsString>, String> {
    let mut expanded = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let resumes = name.starts_with("--") && plain(name) == "resume";
        let named = name.starts_with("--") && matches!(plain(name).as_str(), "conf" | "config");
        if text != "-c" && !named && !resumes {
            expanded.push(word);
            continue;
        }
        let file = value.map(OsString::from).or_else(|| words.next());
        let file = file.ok_or_else(|| format!("swath: {name} names no file\n"))?;
        expanded.extend(read(&file, command)?);
        if resumes {
            expanded.push(OsString::from("--append-output"));
        }
    }
    Ok(expanded)
}

fn read(file: &OsString, command: &clap::Command) -> Result<Vec<OsString>, String> {
    let name: String = file.to_string_lossy().chars().flat_map(char::escape_debug).collect();
    let text = fs::read(file).map_err(|error| format!("swath: cannot read {name}: {error}\n"))?;
    let text = String::from_utf8(text).map_err(|_| format!("swath: cannot read {name}: it is no UTF-8\n"))?;
    let ours = text.lines().any(|line| line.starts_with(MARK));
    let mut words = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        // masscan takes every line that begins with punctuation for a comment.
        if line.is_empty() || line.starts_with(|first: char| first.is_ascii_punctuation()) {
            continue;
        }
        let fail = |cause: &str| format!("swath: {name}:{}: {cause}\n", index + 1);
        let (option, value) =
            line.split_once('=').map_or((line, ""), |(option, value)| (option.trim(), value.trim()));
        if plain(option) == "resumeindex" && value != "0" && !ours {
            return Err(fail(
                "masscan counts in an order of its own, which swath does not walk: remove resume-index and resume-count to scan all of it again",
            ));
        }
        words.extend(option_words(option, value, command).map_err(|cause| fail(&cause))?);
    }
    Ok(words)
}

/// One line as words of the command line.
fn option_words(option: &str, value: &str, command: &clap::Command) -> Result<Vec<OsString>, String> {
    let shown: String = option.chars().take(60).flat_map(char::escape_debug).collect();
    let name = plain(option.split('[').next().unwrap_or(option));
    let long = habits::alias(&name).unwrap_or(&name);
    let argument = command
        .get_arguments()
        .find(|argument| argument.get_long().is_some_and(|known| plain(known) == plain(long)));
    let takes_none = argument.is_some_and(|argument| matches!(argument.get_action(), ArgAction::SetTrue));
    if argument.is_none() && !habits::knows(&name) {
        return Err(format!("there is no option '{shown}'"));
    }
    if !takes_none && !habits::takes_none(&name) {
        return Ok(vec![OsString::from(if value.is_empty() {
            format!("--{option}")
        } else {
            format!("--{option}={value}")
        })]);
    }
    match value.to_ascii_lowercase().as_str() {
        "" | "true" | "on" | "yes" | "1" | "enable" | "enabled" => {
            Ok(vec![OsString::from(format!("--{option}"))])
        }
        "false" | "off" | "no" | "0" | "disable" | "disabled" => Ok(Vec::new()),
        _ => Err(format!("'{shown}' is true or false")),
    }
}

/// The comment by which a file of swath's is known from masscan's.
pub(crate) const MARK: &str = "# swath";
