//! The spellings people bring from masscan and nmap: option names ignore case and `-_.`, a few short options have
//! two letters, some options have other names.
//!
//! Invariant: rewrites words only; what an option means is in `args`.

use std::ffi::{OsStr, OsString};

use super::habits;

/// Rewrites every word that is an option under another spelling.
///
/// # Errors
/// For an option of masscan or nmap that swath refuses, with the reason.
pub(super) fn canonical(words: Vec<OsString>, command: &clap::Command) -> Result<Vec<OsString>, String> {
    let mut options_end = false;
    let mut canonical = Vec::with_capacity(words.len());
    let zmap = words.windows(2).any(|pair| pair[0] == "--compat" && pair[1] == "zmap")
        || words.iter().any(|word| word == "--compat=zmap");
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let Some(text) = word.to_str().filter(|_| !options_end) else {
            canonical.push(word);
            continue;
        };
        options_end = text == "--";
        if let Some((_, long)) = ZMAP.iter().find(|(short, _)| zmap && *short == text) {
            canonical.push(OsString::from(long));
        } else if let Some((_, instead)) = REFUSED.iter().find(|(option, _)| *option == text) {
            return Err(format!("swath: there is no {text}: {instead}\n"));
        } else if let Some(letter) = text.strip_prefix("-o").filter(|letter| OUTPUTS.contains(letter)) {
            let file =
                words.next().ok_or_else(|| format!("swath: {text} names no file; - is standard output\n"))?;
            let mut word = OsString::from(format!("--peer-output={letter}:"));
            word.push(file);
            canonical.push(word);
        } else if let Some(words) = scan_letters(text).or_else(|| ping_letter(text)) {
            canonical.extend(words);
        } else if let Some((_, long)) = TWO_LETTERS.iter().find(|(short, _)| *short == text) {
            canonical.push(OsString::from(long));
        } else if says_nothing(text) {
        } else if let Some(rest) = text.strip_prefix("--").filter(|rest| !rest.is_empty()) {
            let next = words.peek().and_then(|next| next.to_str());
            let took_next = push_long(rest, next, command, &mut canonical)?;
            if took_next {
                words.next();
            }
        } else {
            canonical.push(word);
        }
    }
    Ok(canonical)
}

/// `-v`, `-vv`, `-d`, `-6`: how much other tools say of themselves, and a family that targets tell by themselves.
fn says_nothing(text: &str) -> bool {
    let letters = text.strip_prefix('-').unwrap_or_default();
    let all = |letter: u8| !letters.is_empty() && letters.bytes().all(|byte| byte == letter);
    all(b'v') || all(b'd') || letters == "6"
}

/// Adds what a long option becomes; returns whether it took the word behind it.
fn push_long(
    rest: &str,
    next: Option<&str>,
    command: &clap::Command,
    canonical: &mut Vec<OsString>,
) -> Result<bool, String> {
    let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
    let plain = plain(name);
    // masscan seeds from the clock; swath from the system's randomness, unasked.
    if plain == "seed" && value.or(next) == Some("time") {
        return Ok(value.is_none());
    }
    match habits::rewrite(&plain, value, next) {
        Some(rewritten) => {
            let rewritten = rewritten?;
            canonical.extend(rewritten.words);
            Ok(rewritten.took_next)
        }
        None => {
            canonical.push(long_option(rest, command));
            Ok(false)
        }
    }
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
    let alias = habits::alias(&plain).map(ToOwned::to_owned);
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

/// The name without `-_.`, in lower case.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|letter| !matches!(letter, '-' | '_' | '.')).flat_map(char::to_lowercase).collect()
}

/// Short options of two letters.
const TWO_LETTERS: &[(&str, &str)] = &[("-iL", "--include-file"), ("-i", "--interface")];

/// The letters behind `-o` that take a file.
const OUTPUTS: [&str; 10] = ["L", "J", "D", "G", "X", "B", "U", "H", "N", "A"];

/// zmap's short options that mean something else to nmap and masscan.
const ZMAP: &[(&str, &str)] = &[("-f", "--output-fields"), ("-O", "--output-module")];

/// Short options of two letters that would otherwise be read as an option and its value (`-o J`), and what to say
/// instead.
const REFUSED: &[(&str, &str)] = &[
    ("-sI", "an idle scan speaks in a third party's name"),
    (
        "-b",
        "a bounce scan misuses a third party's server; --audit ftp-bounce asks your own whether they would allow it",
    ),
    ("-sL", "swath plan says what a scan would do"),
    ("-sV", "this version asks services nothing"),
    ("-oR", "write -o ndjson:- and pipe it to the database's own loader"),
    ("-oS", "there is no such output; -oN writes lines of text"),
    ("-iR", "random targets are somebody's; name those you may scan"),
    ("-W", "ip address lists interfaces"),
    ("-A", "this version asks services nothing"),
    ("-f", "frames are not fragmented; with --compat zmap it names output fields"),
    ("-O", "operating systems are not guessed; with --compat zmap it names the output module"),
    ("-F", "--top-ports 100 is what nmap scans with it"),
    ("-R", "no name is looked up"),
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
        let words = ["swath", "192.0.2.1", "-sV"].iter().map(OsString::from).collect();
        let error = canonical(words, &command()).expect_err("refused");
        assert!(error.contains("-sV") && error.contains("asks services nothing"), "{error}");
        let words = ["--", "-sV"].iter().map(OsString::from).collect();
        assert!(canonical(words, &command()).is_ok(), "no option behind --");
        for (option, instead) in REFUSED {
            assert!(option.len() <= 3 && !TWO_LETTERS.iter().any(|(short, _)| short == option), "{option}");
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
    fn every_letter_leads_to_an_option_that_exists() {
        let command = command();
        let longs: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let letters = SCANS.iter().map(|(_, long)| *long).chain(PINGS.iter().map(|(_, long, _)| *long));
        for long in TWO_LETTERS.iter().map(|(_, long)| *long).chain(letters) {
            let name = long[2..].split('=').next().expect("a name");
            assert!(longs.contains(&name), "{long}");
        }
    }

    #[test]
    fn habits_of_masscan_become_options() {
        assert_eq!(spelled(&["--range", "192.0.2.1", "--range=192.0.2.2"]), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(spelled(&["--nocapture", "servername", "-vv", "-d", "-6"]), [""; 0]);
        assert_eq!(spelled(&["--seed", "time", "--seed=time", "--seed", "7"]), ["--seed", "7"]);
        assert_eq!(
            spelled(&["-i", "eth0", "--router-mac-ipv4=x"]),
            ["--interface", "eth0", "--router-mac=x"]
        );
        assert_eq!(spelled(&["-oX", "a.xml", "-oL-", "-oJ=b"]), ["--peer-output=X:a.xml", "-oL-", "-oJ=b"]);
        assert_eq!(
            spelled(&["--compat", "zmap", "-f", "saddr", "-O", "json"]),
            ["--compat", "zmap", "--output-fields", "saddr", "--output-module", "json"]
        );
        for words in
            [&["--banners"][..], &["--hello-string[22]", "x"], &["-oX"], &["-iR", "10"], &["-f", "x"]]
        {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert!(canonical(words.clone(), &command()).is_err(), "{words:?}");
        }
    }
}
