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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::addresses::AddressSet;
    use super::super::list::Endpoints;
    use super::super::ports::parse_ports;
    use super::super::space::Space;
    use super::super::special;
    use super::*;

    fn read(text: &[u8]) -> Result<TargetList, String> {
        let mut list = TargetList::default();
        read_targets("targets.txt", text, &mut list).map_err(|error| error.to_string())?;
        Ok(list)
    }

    /// Hands out one byte at a time: every place a buffer can end.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((&byte, rest)) = self.0.split_first() else { return Ok(0) };
            self.0 = rest;
            buffer[0] = byte;
            Ok(1)
        }
    }

    const MIXED: &str = "\u{feff}# targets\r\n10.0.0.1\r\n\r\n  10.0.0.0/30\t10.0.1.1-10.0.1.3 ; more\n\
        192.0.2.1:443, 192.0.2.1:53/udp ,[2001:db8::1]:80\n10.0.2.1,10.0.2.2,\n10.0.3.1#close\n;\n\
        2001:db8::/64,10.0.0.1-3,5\nexample.org\n10.9.9.9";

    #[test]
    fn all_that_a_file_may_hold_is_read() {
        let list = read(MIXED.as_bytes()).expect("file");
        assert_eq!(list.ranges.len(), 1 + 4 + 3 + 2 + 1 + (1 << 64) + 4 + 1);
        assert_eq!(list.endpoints.len(), 3);
        assert_eq!(list.names.len(), 1);
        assert_eq!(read(b"").expect("empty"), TargetList::default());
        assert_eq!(read(b"\n# only comments").expect("empty"), TargetList::default());
    }

    #[test]
    fn where_the_buffer_ends_makes_no_difference() {
        let mut list = TargetList::default();
        read_targets("-", Dribble(MIXED.as_bytes()), &mut list).expect("file");
        assert_eq!(list, read(MIXED.as_bytes()).expect("file"));
        let mut list = TargetList::default();
        read_targets("-", Dribble(b"1"), &mut list)
            .expect_err("too short for a byte order mark, and no address");
    }

    #[test]
    fn a_bad_entry_is_an_error_that_says_where() {
        let shown = read(b"10.0.0.1\r\n# 10.0.0.999\n\n10.0.0.2 10.0.0.300\n").expect_err("octet");
        assert_eq!(shown, "targets.txt:4: cannot read target '10.0.0.300': octet 300 is above 255");
        for (text, reason) in [
            (&b"10.0.0.0/33"[..], "targets.txt:1: cannot read target '10.0.0.0/33'"),
            (b"\xff\xfe1\x000\x00", "it is not UTF-8 text"),
            (b"10.0.0.1,,10.0.0.2", "a part is empty"),
            (b"10.0.0.1\n\n\n10.0.0.1 - 10.0.0.2", "targets.txt:4: cannot read target '-'"),
        ] {
            let shown = read(text).expect_err(reason);
            assert!(shown.contains(reason), "{shown}");
        }
    }

    #[test]
    fn an_endless_entry_is_refused_and_a_long_line_is_not() {
        let shown = read(&vec![b'1'; BUFFER + 1]).expect_err("endless");
        assert!(shown.contains("an entry longer than 262144 bytes"), "{shown}");
        let line = "10.0.0.1 ".repeat(BUFFER / 4);
        assert_eq!(read(line.as_bytes()).expect("long line").ranges.v4.len(), BUFFER / 4);
        let comment = format!("# {}\n10.0.0.1", "x".repeat(3 * BUFFER));
        assert_eq!(read(comment.as_bytes()).expect("long comment").ranges.v4.len(), 1);
    }

    #[test]
    fn a_refusal_of_the_operating_system_is_passed_on() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk on fire"))
            }
        }
        let error = read_targets("t", Broken, &mut TargetList::default()).expect_err("broken");
        assert_eq!(error.to_string(), "cannot read t: disk on fire");
    }

    /// Distinct addresses of 20.0.0.0/6 in a scattered order: a multiplicative walk over 2^26 numbers.
    fn scattered(count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(|index| 0x1400_0000 + (index.wrapping_mul(0x9e37_79b1) & 0x03ff_ffff))
    }

    #[test]
    fn a_million_targets_less_half_a_million_excludes_are_exact() {
        let text = |addresses: &mut dyn Iterator<Item = u32>| {
            addresses.fold(String::new(), |mut text, address| {
                writeln!(text, "{}", std::net::Ipv4Addr::from(address)).expect("a string takes all");
                text
            })
        };
        let targets = read(text(&mut scattered(1_000_000)).as_bytes()).expect("targets");
        // The last quarter of the targets, and as many addresses that are no targets.
        let excludes = text(&mut scattered(1_250_000).skip(750_000));
        let excluded = read(excludes.as_bytes()).expect("excludes").ranges.into_set();
        assert_eq!(excluded.len(), 500_000);
        let applied = special::apply(targets.ranges);
        assert_eq!(applied.kept.len(), 1_000_000);
        assert_eq!(applied.skipped, AddressSet::default());
        let ports = parse_ports("80").expect("ports");
        let space = Space::new(&applied.kept, &ports, Endpoints::default(), &excluded).expect("space");
        assert_eq!(space.len(), 750_000);
        assert_eq!(space.excluded_count(), 250_000);
        for (index, address) in (0..1_000_000).zip(scattered(1_000_000)).step_by(997) {
            let target = crate::target::Target {
                address: std::net::Ipv4Addr::from(address).into(),
                port: ports.as_slice()[0],
            };
            assert_eq!(space.rank(&target).is_some(), index < 750_000, "{index}");
        }
    }
}
