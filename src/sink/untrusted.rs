//! The only place where bytes from the network become text of a result file: one function for each kind of escaping.
//!
//! Whatever the bytes, no control character, no character that turns the direction of text and, where the format is
//! ASCII, nothing beyond it is written.

use std::fmt::Write;

use crate::event::Untrusted;

/// masscan's text formats: printable ASCII but `< > & \ " '` as it is, every other byte as `\xHH`.
pub(super) fn masscan_text(bytes: &Untrusted, text: &mut Vec<u8>) {
    for &byte in &bytes.0 {
        if is_plain(byte) { text.push(byte) } else { hex(text, b"\\x", byte) }
    }
}

/// masscan's JSON: the same bytes as `\u00HH`, which says what each byte was but makes two characters of one in UTF-8.
pub(super) fn masscan_json(bytes: &Untrusted, text: &mut Vec<u8>) {
    for &byte in &bytes.0 {
        if is_plain(byte) { text.push(byte) } else { hex(text, b"\\u00", byte) }
    }
}

/// A comma-separated value: printable ASCII but the backslash as it is, every other byte as `\xHH`, in quotes. An
/// apostrophe in front of what a spreadsheet would read as a formula.
pub(super) fn csv_field(bytes: &[u8], text: &mut Vec<u8>) {
    text.push(b'"');
    if matches!(bytes.first(), Some(b'=' | b'+' | b'-' | b'@' | b'\'')) {
        text.push(b'\'');
    }
    for &byte in bytes {
        match byte {
            b'"' => text.extend_from_slice(b"\"\""),
            b'\\' => hex(text, b"\\x", byte),
            b' '..=b'~' => text.push(byte),
            _ => hex(text, b"\\x", byte),
        }
    }
    text.push(b'"');
}

/// The inside of a JSON string that holds exactly this text: control characters and those that turn the direction of
/// text are escaped (RFC 8259 section 7).
pub(super) fn json_string(content: &str, text: &mut Vec<u8>) {
    let mut units = [0; 2];
    for character in content.chars() {
        match character {
            '"' => text.extend_from_slice(b"\\\""),
            '\\' => text.extend_from_slice(b"\\\\"),
            '\n' => text.extend_from_slice(b"\\n"),
            '\r' => text.extend_from_slice(b"\\r"),
            '\t' => text.extend_from_slice(b"\\t"),
            _ if is_dangerous(character) => {
                for unit in character.encode_utf16(&mut units) {
                    let [high, low] = unit.to_be_bytes();
                    hex(text, b"\\u", high);
                    hex(text, b"", low);
                }
            }
            _ => text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Bytes as pairs of hexadecimal digits.
pub(super) fn hexadecimal(bytes: &Untrusted, text: &mut Vec<u8>) {
    bytes.0.iter().for_each(|byte| hex(text, b"", *byte));
}

/// The value of an XML attribute between double quotes: printable ASCII with the five entities, every other byte as
/// `\xHH`, which is text (a character reference to a control character is not allowed in XML 1.0).
pub(super) fn xml_attribute(bytes: &[u8], text: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'<' => text.extend_from_slice(b"&lt;"),
            b'>' => text.extend_from_slice(b"&gt;"),
            b'&' => text.extend_from_slice(b"&amp;"),
            b'"' => text.extend_from_slice(b"&quot;"),
            b'\'' => text.extend_from_slice(b"&apos;"),
            b'\\' => hex(text, b"\\x", byte),
            b' '..=b'~' => text.push(byte),
            _ => hex(text, b"\\x", byte),
        }
    }
}

/// What stands for a name that came with bytes: letters, digits, `-`, `.` and `_` only, at most 40.
pub(super) fn word(name: &str) -> String {
    let plain = |character: &char| {
        character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_' | '(' | ')')
    };
    name.chars().filter(plain).take(40).collect()
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'<' | b'>' | b'&' | b'\\' | b'"' | b'\'')
}

/// Control characters (Unicode category Cc), and what turns or hides text (UAX 9 section 2, and the invisible rest of
/// the general punctuation).
fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(character, '\u{feff}' | '\u{fff9}'..='\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

fn hex(text: &mut Vec<u8>, prefix: &[u8], byte: u8) {
    text.extend_from_slice(prefix);
    let digits = b"0123456789abcdef";
    text.extend_from_slice(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
}

/// Appends what `format!` would give.
pub(super) fn print(text: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl Write for Bytes<'_> {
        fn write_str(&mut self, part: &str) -> std::fmt::Result {
            self.0.extend_from_slice(part.as_bytes());
            Ok(())
        }
    }
    // Writing to memory does not fail, and what is printed here implements Display without failing.
    let _ = Bytes(text).write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(escape: fn(&Untrusted, &mut Vec<u8>), bytes: &[u8]) -> String {
        let mut text = Vec::new();
        escape(&Untrusted(bytes.to_vec()), &mut text);
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn masscan_s_escapes_are_its_own() {
        let bytes = b"nginx <\"'&\\>\r\n\xff~";
        assert_eq!(escaped(masscan_text, bytes), "nginx \\x3c\\x22\\x27\\x26\\x5c\\x3e\\x0d\\x0a\\xff~");
        assert_eq!(
            escaped(masscan_json, bytes),
            "nginx \\u003c\\u0022\\u0027\\u0026\\u005c\\u003e\\u000d\\u000a\\u00ff~"
        );
    }

    #[test]
    fn a_json_string_reads_back_as_the_same_text_and_shows_nothing_that_drives_a_terminal() {
        let content = "a\"\\\n\r\t\u{1b}[2J\u{7f}\u{85}\u{202e}\u{200d}\u{feff}\u{e0041}é😀\0";
        let mut text = b"\"".to_vec();
        json_string(content, &mut text);
        text.push(b'"');
        let text = String::from_utf8(text).expect("text");
        assert!(!text.chars().any(is_dangerous) && text.contains('é') && text.contains('😀'));
        assert_eq!(serde_json::from_str::<String>(&text).expect("a string"), content);
    }
}
