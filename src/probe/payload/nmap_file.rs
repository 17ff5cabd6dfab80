//! Payload files in the syntax that nmap had up to 7.93 and that masscan reads with `--nmap-payloads`:
//! `udp PORTS "text" "more text" source PORT`, where an entry may go over several lines and `#` starts a comment.
//!
//! Only the syntax is nmap's. No such file comes with swath: the user names one.

use super::Request;
use super::escape::{FileMistake, FilePayload, fits, ports, unescape};
use super::library::{Expectation, Payload};

/// Reads a file's text.
///
/// # Errors
/// The first thing that cannot be read, with its line.
pub fn read_nmap(text: &str) -> Result<Vec<FilePayload>, FileMistake> {
    let mut words = words(text)?.into_iter().peekable();
    let mut payloads = Vec::new();
    while let Some((line, word)) = words.next() {
        let wrong = |what: String| FileMistake { line, what };
        if word != Word::Plain("udp".into()) {
            return Err(wrong(format!(
                "{} where an entry begins; entries are: udp PORTS \"text\"",
                word.shown()
            )));
        }
        let ports = match words.next() {
            Some((_, Word::Plain(text))) => ports(&text).map_err(wrong)?,
            _ => return Err(wrong("'udp' without ports; write udp 53,5353 \"text\"".into())),
        };
        let mut request = Request::default();
        let mut strings = 0;
        while let Some((line, Word::Quoted(text))) =
            words.next_if(|(_, word)| matches!(word, Word::Quoted(_)))
        {
            request.extend(&unescape(&text).map_err(|what| FileMistake { line, what })?);
            strings += 1;
        }
        if strings == 0 {
            return Err(wrong(
                "an entry without a payload; write udp 53 \"text\", an empty one as \"\"".into(),
            ));
        }
        fits(request.len()).map_err(wrong)?;
        let source = match words.next_if(|(_, word)| *word == Word::Plain("source".into())) {
            None => None,
            Some((line, _)) => match words.next() {
                Some((_, Word::Plain(text))) if text.parse::<u16>().is_ok() => text.parse().ok(),
                _ => return Err(FileMistake { line, what: "'source' without a port".into() }),
            },
        };
        let payload = Payload::told(format!("line {line}"), request, false, Expectation::default());
        payloads.push(FilePayload { line, ports, payload, source });
    }
    Ok(payloads)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Plain(String),
    Quoted(String),
}

impl Word {
    fn shown(&self) -> String {
        match self {
            Word::Plain(text) => format!("'{text}'"),
            Word::Quoted(_) => "a text in quotes".into(),
        }
    }
}

/// The words of a file, each with its line.
fn words(text: &str) -> Result<Vec<(usize, Word)>, FileMistake> {
    let mut words = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
            if first == '"' {
                let end = closing_quote(&rest[1..]).ok_or_else(|| FileMistake {
                    line,
                    what: "a text that does not end in its line; close the quote and go on with another"
                        .into(),
                })?;
                words.push((line, Word::Quoted(rest[1..=end].to_owned())));
                rest = rest[end + 2..].trim_start();
            } else {
                let end = rest.find(|letter: char| letter.is_whitespace() || matches!(letter, '#' | '"'));
                let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
                words.push((line, Word::Plain(word.to_owned())));
                rest = after.trim_start();
            }
        }
    }
    Ok(words)
}

/// Where the first quote stands that no backslash precedes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_over_several_lines_with_every_escape() {
        let text = "# ours, to test with\n\nudp 53,5353 \"\\x00\\x01a\\r\\n\"\n  \"b\\\"c\\101\" source 500 # odd\nudp 7-9 \"\"\n";
        let read = read_nmap(text).expect("valid");
        let shown: Vec<_> = read
            .iter()
            .map(|entry| {
                (entry.line, entry.ports.clone(), entry.payload.request.bytes([0; 4].into()), entry.source)
            })
            .collect();
        assert_eq!(
            shown,
            [
                (3, vec![53, 5353], b"\0\x01a\r\nb\"cA".to_vec(), Some(500)),
                (5, vec![7, 8, 9], Vec::new(), None)
            ]
        );
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, part) in [
            ("udp 53 \"a\"\ntcp 80 \"b\"", 2, "'tcp'"),
            ("\"a\"", 1, "a text in quotes"),
            ("udp", 1, "without ports"),
            ("udp 0 \"a\"", 1, "'0' is no port"),
            ("udp 53-50 \"a\"", 1, "'53-50'"),
            ("udp 70000 \"a\"", 1, "'70000'"),
            ("udp 53", 1, "without a payload"),
            ("udp 53\n\"a", 2, "close the quote"),
            ("udp 53 \"a\"\n\"\\xg0\"", 2, "\\x is no byte"),
            ("udp 53 \"\\q\"", 1, "no escape \\q"),
            ("udp 53 \"\\400\"", 1, "\\400 is no byte"),
            ("udp 53 \"a\" source", 1, "'source' without a port"),
        ] {
            let mistake = read_nmap(text).map(|read| read.len()).expect_err(text);
            assert_eq!(mistake.line, line, "{text}");
            assert!(mistake.what.contains(part), "{text}: {}", mistake.what);
        }
        let long = format!("udp 53 \"{}\"", "a".repeat(1453));
        assert!(
            read_nmap(&long).map(|read| read.len()).expect_err("too long").what.contains("1452 is the most")
        );
    }
}
