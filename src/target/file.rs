//! Target files: `-iL`, `--excludefile`, standard input. Streamed, so that a file of any size costs one buffer.
//!
//! Entries are separated by white space, line ends or commas; `#` and `;` begin a comment that ends with the line.
//! CRLF and a UTF-8 byte order mark are no matter.
//!
//! Invariant: opens nothing; the caller brings the reader. No entry is skipped: a bad one is an error.

use std::io::{self, Read};

use thiserror::Error;

use super::error::{Reason, SpecError};
use super::list::{TargetList, parse_line};
use super::pattern;

/// Why a target file cannot be read.
#[derive(Debug, Error)]
pub enum FileError {
    /// An entry that cannot be read.
    #[error("{file}:{line}: {error}")]
    Entry {
        /// The file, as the caller named it.
        file: Box<str>,
        /// The line, from 1.
        line: u64,
        /// The entry and the reason.
        error: SpecError,
    },
    /// The operating system's refusal.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file, as the caller named it.
        file: Box<str>,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Reads all entries of a target file into a list. `file` names it in errors.
///
/// # Errors
/// The first entry that cannot be read, with its line; or that reading failed. The list may then hold the entries
/// before it.
pub fn read_targets(file: &str, mut reader: impl Read, list: &mut TargetList) -> Result<(), FileError> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let mut scanner = Scanner { file, line: 1, place: Place::Beginning, list };
    loop {
        let count = match reader.read(&mut buffer[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(FileError::Read { file: file.into(), source }),
        };
        filled += count;
        let used = scanner.scan(&buffer[..filled], count == 0)?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if count == 0 {
            return Ok(());
        }
        if filled == buffer.len() {
            return Err(scanner.fail(Reason::TooLong(BUFFER).target(&String::from_utf8_lossy(&buffer[..60]))));
        }
    }
}

/// Bytes read at a time, and the longest entry.
const BUFFER: usize = 1 << 18;

struct Scanner<'a> {
    file: &'a str,
    line: u64,
    place: Place,
    list: &'a mut TargetList,
}

/// Where in the file the scanner stands between two buffers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Beginning,
    Between,
    Comment,
}

impl Scanner<'_> {
    /// Reads the entries that end within the buffer, and says how many bytes are done with. At the end of the input
    /// that is all of them.
    fn scan(&mut self, buffer: &[u8], at_end: bool) -> Result<usize, FileError> {
        let mut at = 0;
        if self.place == Place::Beginning {
            if buffer.len() < BYTE_ORDER_MARK.len() && !at_end {
                return Ok(0);
            }
            at = if buffer.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
            self.place = Place::Between;
        }
        while let Some(&byte) = buffer.get(at) {
            if byte == b'\n' {
                self.line += 1;
                self.place = Place::Between;
                at += 1;
            } else if self.place == Place::Comment || is_separator(byte) {
                at += 1;
            } else if is_comment(byte) {
                self.place = Place::Comment;
                at += 1;
            } else {
                match self.entry(&buffer[at..], at_end)? {
                    0 => break,
                    length => at += length,
                }
            }
        }
        Ok(at)
    }

    /// Reads the entry that the buffer begins with, and gives its length, or 0 if it may go on behind the buffer.
    #[inline]
    fn entry(&mut self, buffer: &[u8], at_end: bool) -> Result<usize, FileError> {
        if let Some((first, last, length)) = pattern::leading_block(buffer)
            && buffer.get(length).map_or(at_end, u8::is_ascii_whitespace)
        {
            self.list.ranges.v4.push((first, last));
            return Ok(length);
        }
        self.odd_entry(buffer, at_end)
    }

    /// As [`Scanner::entry`], for all that is not a plain IPv4 address or block.
    #[cold]
    fn odd_entry(&mut self, buffer: &[u8], at_end: bool) -> Result<usize, FileError> {
        let ends = |&byte: &u8| byte.is_ascii_whitespace() || is_comment(byte);
        let length = match buffer.iter().position(ends) {
            Some(length) => length,
            None if at_end => buffer.len(),
            None => return Ok(0),
        };
        let entry = &buffer[..length];
        let Ok(text) = std::str::from_utf8(entry) else {
            return Err(self.fail(Reason::NotText.target(&String::from_utf8_lossy(entry))));
        };
        // Commas at the ends are separators like white space; inside an entry they may be part of a pattern.
        let text = text.trim_end_matches(',');
        parse_line(text, self.list).map_err(|error| self.fail(error))?;
        Ok(length)
    }

    fn fail(&self, error: SpecError) -> FileError {
        FileError::Entry { file: self.file.into(), line: self.line, error }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn is_separator(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b','
}

fn is_comment(byte: u8) -> bool {
    byte == b'#' || byte == b';'
}
