//! Payload files of our own, in TOML: docs/udp.md describes them.

use serde::Deserialize;
use toml::Spanned;

use super::escape::{FileMistake, FilePayload, fits, ports, unescape};
use super::library::{Expectation, Payload};
use super::{Part, Request};
use crate::batch::Carry;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    payload: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: Spanned<String>,
    ports: Spanned<String>,
    request: Spanned<String>,
    answer: Option<Spanned<String>>,
    echo: Option<Spanned<Echo>>,
    #[serde(default)]
    any_port: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Echo {
    At(usize),
    Word(String),
}

/// Reads a file's text.
///
/// # Errors
/// The first thing that cannot be read, with its line.
pub fn read_toml(text: &str) -> Result<Vec<FilePayload>, FileMistake> {
    let line =
        |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    let file: File = toml::from_str(text).map_err(|error| FileMistake {
        line: line(error.span().map_or(0, |span| span.start)),
        what: error.message().to_owned(),
    })?;
    let read = |entry: &Spanned<Entry>| {
        let start = line(entry.span().start);
        payload(entry.get_ref(), start).map_err(|(at, what)| FileMistake { line: line(at), what })
    };
    file.payload.iter().map(read).collect()
}

/// Reads an entry; where something is wrong, its offset in the file.
fn payload(entry: &Entry, line: usize) -> Result<FilePayload, (usize, String)> {
    let Entry { name, ports: numbers, request, answer, echo, any_port } = entry;
    let at = |spanned: &Spanned<String>| spanned.span().start;
    let read_ports = ports(numbers.get_ref()).map_err(|what| (at(numbers), what))?;
    if name.get_ref().is_empty() {
        return Err((at(name), "a payload needs a name".into()));
    }
    let read_request = parts(request.get_ref()).map_err(|what| (at(request), what))?;
    fits(read_request.len()).map_err(|what| (at(request), what))?;
    let prefix = match answer {
        Some(answer) => unescape(answer.get_ref()).map_err(|what| (at(answer), what))?,
        None => Vec::new(),
    };
    let echo = match echo {
        Some(echo) => Some(place(echo.get_ref(), &read_request).map_err(|what| (echo.span().start, what))?),
        None => None,
    };
    let expectation = Expectation { prefix, echo };
    let payload = Payload::told(name.get_ref().clone(), read_request, *any_port, expectation);
    Ok(FilePayload { line, ports: read_ports, payload, source: None })
}

/// Where the first field of the request comes back.
fn place(echo: &Echo, request: &Request) -> Result<(Carry, Option<usize>), String> {
    let Some(carry) = request.fields().first().map(|field| field.carry) else {
        return Err("echo without a field in the request; write {sequence} or another into it".into());
    };
    match echo {
        Echo::At(at) => Ok((carry, Some(*at))),
        Echo::Word(word) if word == "anywhere" && 26 <= carry.bits() => Ok((carry, None)),
        Echo::Word(word) if word == "anywhere" => Err(format!(
            "{} bits are found anywhere by chance; say at which offset they come back, as in echo = 0",
            carry.bits()
        )),
        Echo::Word(word) => Err(format!("echo is an offset or \"anywhere\", not \"{word}\"")),
    }
}

/// Reads a request: text with escapes, and fields in braces; a brace itself is written twice.
fn parts(text: &str) -> Result<Request, String> {
    let mut request = Request::default();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        request.extend(&unescape(before)?);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            request.extend(&from.as_bytes()[..1]);
            rest = after;
            continue;
        }
        let name = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let (name, after) = name.ok_or("a brace by itself; write {{ or }} for one")?;
        let Some((_, part)) = FIELDS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no field {{{name}}}; there are {}", names.join(", ")));
        };
        request.push(*part);
        rest = after;
    }
    request.extend(&unescape(rest)?);
    Ok(request)
}

/// The fields and their names.
const FIELDS: &[(&str, Part)] = &[
    ("byte", Part::Carry(Carry::Byte)),
    ("low", Part::Carry(Carry::Low)),
    ("sequence", Part::Carry(Carry::Sequence)),
    ("positive", Part::Carry(Carry::Positive)),
    ("wide", Part::Carry(Carry::Wide)),
    ("text", Part::Carry(Carry::Text)),
    ("digits", Part::Carry(Carry::Digits)),
    ("own4", Part::Own4),
    ("own16", Part::Own16),
];

#[cfg(test)]
mod tests {
    use super::super::Finding;
    use super::*;
    use crate::batch::Secrets;

    const SECRETS: Secrets = Secrets { source_port: 0x4001, sequence: 0x89ab_cdef, identification: 0x1234 };

    #[test]
    fn an_entry_is_sent_and_judged_as_it_says() {
        let text = r#"
[[payload]]
name = "ours"
ports = "9000-9001,9100"
request = 'ask {low}\r\n{{"id":"{text}"}}{own4}'
answer = 'told \x01'
echo = 6

[[payload]]
name = "anywhere"
ports = "9000"
request = "{text}"
echo = "anywhere"
any-port = true
"#;
        let read = read_toml(text).expect("valid");
        assert_eq!((read[0].line, read[0].ports.clone()), (2, vec![9000, 9001, 9100]));
        let written = read[0].payload.request.written([192, 0, 2, 1].into(), &SECRETS);
        assert_eq!(written, b"ask \xcd\xef\r\n{\"id\":\"89abcdef\"}\xc0\0\x02\x01");
        let judged = |answer: &[u8]| read[0].payload.judge(answer, &SECRETS);
        assert_eq!(judged(b"told \x01\xcd\xef and more"), Finding::Proved(16));
        assert_eq!(judged(b"told \x01\xcd\xee"), Finding::OtherCookie);
        assert_eq!(judged(b"told \x01\xcd"), Finding::Truncated);
        assert_eq!(judged(b"told"), Finding::Truncated);
        assert_eq!(judged(b"else"), Finding::Foreign);
        assert!(read[1].payload.any_port);
        assert_eq!(read[1].payload.judge(b"xx89abcdefxx", &SECRETS), Finding::Proved(32));
        assert_eq!(read[1].payload.judge(b"xx89abcdeexx", &SECRETS), Finding::OtherCookie);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let entry = |more: &str| format!("# a comment\n[[payload]]\nname = \"x\"\n{more}");
        for (text, line, part) in [
            (entry("ports = \"0\"\nrequest = \"\""), 4, "'0' is no port"),
            (entry("ports = \"7\"\nrequest = '\\q'"), 5, "no escape"),
            (entry("ports = \"7\"\nrequest = '{no}'"), 5, "there is no field {no}; there are byte"),
            (entry("ports = \"7\"\nrequest = 'a}'"), 5, "brace"),
            (entry("ports = \"7\"\nrequest = ''\necho = 0"), 6, "without a field"),
            (entry("ports = \"7\"\nrequest = '{low}'\necho = 'anywhere'"), 6, "16 bits"),
            (entry("ports = \"7\"\nrequest = '{low}'\necho = 'there'"), 6, "not \"there\""),
            (entry("ports = \"7\"\nrequest = ''\nreply = ''"), 6, "unknown field `reply`"),
            (entry("ports = \"7\""), 2, "missing field `request`"),
            ("[[payload]\n".into(), 1, ""),
        ] {
            let mistake = read_toml(&text).map(|read| read.len()).expect_err(&text);
            assert_eq!(mistake.line, line, "{text}: {}", mistake.what);
            assert!(mistake.what.contains(part), "{text}: {}", mistake.what);
        }
    }
}
