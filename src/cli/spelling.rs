//! The spellings people bring from masscan and nmap: option names ignore case and `-_.`, a few short options have
//! two letters, some options have other names.
//!
//! Invariant: rewrites words only; what an option means is in `args`.

use std::ffi::{OsStr, OsString};

/// Rewrites every word that is an option under another spelling.
///
/// # Errors
/// For an option of masscan or nmap that swath refuses, with the reason.
pub(super) fn canonical(words: Vec<OsString>, command: &clap::Command) -> Result<Vec<OsString>, String> {
    let mut options_end = false;
    let mut canonical = Vec::with_capacity(words.len());
    for word in words {
        let Some(text) = word.to_str().filter(|_| !options_end) else {
            canonical.push(word);
            continue;
        };
        options_end = text == "--";
        if let Some((_, instead)) = REFUSED.iter().find(|(option, _)| *option == text) {
            return Err(format!("swath: there is no {text}: {instead}\n"));
        }
        if let Some(words) = scan_letters(text).or_else(|| ping_letter(text)) {
            canonical.extend(words);
        } else if let Some((_, long)) = TWO_LETTERS.iter().find(|(short, _)| *short == text) {
            canonical.push(OsString::from(long));
        } else if let Some(rest) = text.strip_prefix("--").filter(|rest| !rest.is_empty()) {
            canonical.push(long_option(rest, command));
        } else {
            canonical.push(word);
        }
    }
    Ok(canonical)
}

/// `-sSU` to `--scan=syn --scan=udp`; none for a word with a letter that is no kind of scan.
fn scan_letters(text: &str) -> Option<Vec<OsString>> {
    let letters = text.strip_prefix("-s").filter(|letters| !letters.is_empty())?;
    let option = |letter: char| {
        SCANS.iter().find(|(known, _)| *known == letter).map(|(_, option)| OsString::from(option))
    };
    letters.chars().map(option).collect()
}

/// `-PS22,80` to `--ping-syn=22,80`, `-PE` to `--ping`.
fn ping_letter(text: &str) -> Option<Vec<OsString>> {
    let rest = text.strip_prefix("-P")?;
    let (_, option, takes_ports) = PINGS.iter().find(|(letter, _, _)| rest.starts_with(*letter)).copied()?;
    let mut word = OsString::from(option);
    match (&rest[1..], takes_ports) {
        ("", _) => {}
        (_, false) => return None,
        (ports, true) => {
            word.push("=");
            word.push(ports);
        }
    }
    Some(vec![word])
}

/// The letters behind `-s`.
const SCANS: &[(char, &str)] = &[
    ('S', "--scan=syn"),
    ('F', "--scan=fin"),
    ('N', "--scan=null"),
    ('X', "--scan=xmas"),
    ('A', "--scan=ack"),
    ('W', "--scan=window"),
    ('M', "--scan=maimon"),
    ('U', "--scan=udp"),
    ('Y', "--scan=init"),
    ('Z', "--scan=cookie-echo"),
    ('O', "--scan=ip"),
    ('T', "--scan=connect"),
    ('n', "--hosts-only"),
    ('P', "--hosts-only"),
];

/// The letters behind `-P`, and whether ports may follow.
const PINGS: &[(char, &str, bool)] = &[
    ('E', "--ping", false),
    ('P', "--ping-timestamp", false),
    ('M', "--ping-mask", false),
    ('S', "--ping-syn", true),
    ('A', "--ping-ack", true),
    ('U', "--ping-udp", true),
    ('Y', "--ping-init", true),
    ('O', "--ping-ip", true),
    ('R', "--arp", false),
    ('n', "--no-ping", false),
    ('0', "--no-ping", false),
    ('N', "--no-ping", false),
    ('D', "--no-ping", false),
];

/// `--Exclude_File=x` to `--exclude-file=x`. A name nobody knows stays as it is: clap explains.
fn long_option(rest: &str, command: &clap::Command) -> OsString {
    let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
    let plain = plain(name);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == plain).map(|(_, long)| (*long).to_owned());
    let long = alias.or_else(|| {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        // clap adds these two later, when it reads.
        let mut longs = longs.chain(["help", "version"]);
        longs.find(|long| self::plain(long) == plain).map(ToOwned::to_owned)
    });
    let mut word = OsString::from("--");
    word.push(long.as_deref().unwrap_or(name));
    if let Some(value) = value {
        word.push(OsStr::new("="));
        word.push(value);
    }
    word
}

fn plain(name: &str) -> String {
    name.chars().filter(|letter| !matches!(letter, '-' | '_' | '.')).flat_map(char::to_lowercase).collect()
}

/// Short options of two letters.
const TWO_LETTERS: &[(&str, &str)] = &[("-iL", "--include-file")];

/// Short options of two letters that would otherwise be read as an option and its value (`-o J`), and what to say
/// instead.
const REFUSED: &[(&str, &str)] = &[
    ("-oJ", "write -o FILE.json (one JSON object a line)"),
    ("-oD", "write -o FILE.ndjson (one JSON object a line)"),
    ("-oL", "write -o FILE.txt (ip:port lines) or -o FILE.csv"),
    ("-oG", "write -o FILE.csv, or -o FILE.txt for ip:port lines"),
    ("-oX", "write -o FILE.db (SQLite), -o FILE.ndjson or -o FILE.csv"),
    ("-oB", "write -o FILE.db (SQLite), which needs no conversion"),
    ("-oN", "lines of text are the default on standard output; -o text:FILE writes them to a file"),
    ("-oA", "repeat -o, once for each format: -o FILE.db -o FILE.ndjson"),
    ("-sI", "an idle scan speaks in a third party's name"),
    ("-sL", "swath plan says what a scan would do"),
    ("-sV", "this version asks services nothing"),
];

/// Other names of long options, without `-_.`, in lower case.
const ALIASES: &[(&str, &str)] = &[
    ("adapter", "interface"),
    ("adapterip", "source-ip"),
    ("pingscan", "hosts-only"),
    ("adapterport", "source-port"),
    ("destmac", "router-mac"),
    ("excludeip", "exclude"),
    ("excludeport", "exclude-ports"),
    ("excluderange", "exclude"),
    ("includefile", "include-file"),
    ("maxrate", "rate"),
    ("maxretries", "retries"),
    ("openonly", "open"),
    ("port", "ports"),
    ("randomseed", "seed"),
    ("router", "router-mac"),
    ("shards", "shard"),
    ("sourceaddress", "source-ip"),
    ("srcip", "source-ip"),
    ("topport", "top-ports"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::command;

    fn spelled(words: &[&str]) -> Vec<String> {
        let words = words.iter().map(OsString::from).collect();
        let canonical = canonical(words, &command()).expect("accepted");
        canonical.into_iter().map(|word| word.into_string().expect("UTF-8")).collect()
    }

    #[test]
    fn names_ignore_case_and_punctuation() {
        assert_eq!(
            spelled(&["--excludefile", "x", "--Exclude_File=y", "--exclude.file"]),
            ["--exclude-file", "x", "--exclude-file=y", "--exclude-file"]
        );
        assert_eq!(
            spelled(&["--max-rate=10k", "-iL", "f", "--TOPPORTS"]),
            ["--rate=10k", "--include-file", "f", "--top-ports"]
        );
        assert_eq!(spelled(&["--HELP", "--Version"]), ["--help", "--version"]);
    }

    #[test]
    fn what_is_no_option_stays_as_it_is() {
        assert_eq!(spelled(&["-p80", "-", "--", "--Rate"]), ["-p80", "-", "--", "--Rate"]);
        assert_eq!(spelled(&["--no-such=1"]), ["--no-such=1"]);
    }

    #[test]
    fn options_of_two_letters_that_are_none_of_ours_say_what_to_write_instead() {
        let words = ["swath", "192.0.2.1", "-oJ", "out.json"].iter().map(OsString::from).collect();
        let error = canonical(words, &command()).expect_err("refused");
        assert!(error.contains("-oJ") && error.contains("-o FILE.json"), "{error}");
        let words = ["--", "-oJ"].iter().map(OsString::from).collect();
        assert!(canonical(words, &command()).is_ok(), "no option behind --");
        for (option, instead) in REFUSED {
            assert!(option.len() == 3 && !TWO_LETTERS.iter().any(|(short, _)| short == option), "{option}");
            assert!(!instead.ends_with('.'), "{instead}");
        }
    }

    #[test]
    fn letters_of_nmap_become_names() {
        assert_eq!(spelled(&["-sSU", "-sn"]), ["--scan=syn", "--scan=udp", "--hosts-only"]);
        assert_eq!(
            spelled(&["-PE", "-PS", "-PA80,443", "-Pn"]),
            ["--ping", "--ping-syn", "--ping-ack=80,443", "--no-ping"]
        );
        assert_eq!(spelled(&["-sQ", "-PEx"]), ["-sQ", "-PEx"]);
    }

    #[test]
    fn every_alias_leads_to_an_option_that_exists() {
        let command = command();
        let longs: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for (alias, long) in ALIASES {
            assert!(longs.contains(long), "{alias} -> {long}");
            assert!(
                !longs.iter().any(|other| plain(other) == *alias && other != long),
                "{alias} hides an option"
            );
        }
        let letters = SCANS.iter().map(|(_, long)| *long).chain(PINGS.iter().map(|(_, long, _)| *long));
        for long in TWO_LETTERS.iter().map(|(_, long)| *long).chain(letters) {
            let name = long[2..].split('=').next().expect("a name");
            assert!(longs.contains(&name), "{long}");
        }
    }
}
