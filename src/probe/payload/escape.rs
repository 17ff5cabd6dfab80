//! Bytes written as text: the escapes of C, and the ports before them.

/// Reads a text with escapes (`\n \r \t \0 \\ \" \' \a \b \f \v`, `\xHH`, up to three octal digits) as bytes.
///
/// # Errors
/// What cannot be read.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escaped = letters.next().ok_or("the text ends in the middle of an escape")?;
        bytes.push(match escaped {
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'v' => 11,
            '\\' | '"' | '\'' => escaped.to_string().as_bytes()[0],
            'x' => {
                let digits: String =
                    std::iter::from_fn(|| letters.next_if(char::is_ascii_hexdigit)).take(2).collect();
                u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2).ok_or_else(|| {
                    format!("\\x{digits} is no byte; write two hexadecimal digits, as in \\x0a")
                })?
            }
            '0'..='7' => {
                let more = std::iter::from_fn(|| letters.next_if(|digit| ('0'..='7').contains(digit)));
                let digits: String = std::iter::once(escaped).chain(more.take(2)).collect();
                u8::from_str_radix(&digits, 8)
                    .map_err(|_| format!("\\{digits} is no byte; \\377 is the highest"))?
            }
            other => return Err(format!("there is no escape \\{other}; a backslash is written \\\\")),
        });
    }
    Ok(bytes)
}

/// Reads ports: numbers and ranges, separated by commas.
///
/// # Errors
/// What cannot be read.
pub(super) fn ports(text: &str) -> Result<Vec<u16>, String> {
    let mut ports = Vec::new();
    for word in text.split(',').map(str::trim) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => ports.extend(first..=last),
            _ => return Err(format!("'{word}' is no port or range of ports; write 53 or 27015-27030")),
        }
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// Something wrong in a file, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to write instead.
    pub what: String,
}

/// A payload of a file.
#[derive(Debug, Clone)]
pub struct FilePayload {
    /// The line it starts in.
    pub line: usize,
    /// The ports it is for.
    pub ports: Vec<u16>,
    /// What they are asked.
    pub payload: super::Payload,
    /// A source port that the file asks for. It is not honoured: ports are part of what answers are told by.
    pub source: Option<u16>,
}

/// The longest payload: what a packet of 1,500 bytes holds behind the headers of IPv6 and UDP.
pub(super) const LONGEST: usize = 1500 - 40 - 8;

/// Refuses a payload that is too long for a packet.
///
/// # Errors
/// What is wrong.
pub(super) fn fits(length: usize) -> Result<(), String> {
    if length <= LONGEST {
        return Ok(());
    }
    Err(format!("a payload of {length} bytes does not fit a packet; {LONGEST} is the most"))
}
