//! Lines of text, one at a time, numbered. The last may be cut off: the writer was killed in the middle of it.
//!
//! Invariant: knows no format of results.

use std::io::{BufRead, Read};

use super::{Input, Source, SourceError};
use crate::event::Observations;

/// The longest line that is read. A record with a banner of 64 KiB, every byte of it escaped, fits.
const LINE_BYTES: usize = 1 << 20;

/// A file of lines.
pub(super) struct Lines {
    input: Input,
    number: u64,
    line: Vec<u8>,
    remarks: Vec<String>,
}

impl Lines {
    /// The lines of an input.
    pub(super) fn new(input: Input) -> Lines {
        Lines { input, number: 0, line: Vec::new(), remarks: Vec::new() }
    }

    /// The next line without its end (LF or CRLF), and whether it had one; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], bool)>, SourceError> {
        self.line.clear();
        let limit = LINE_BYTES as u64 + 1;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.line);
        read.map_err(|error| self.fault(error.to_string()))?;
        if self.line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let ended = self.line.ends_with(b"\n");
        if !ended && LINE_BYTES < self.line.len() {
            return Err(self.fault(format!("it is longer than {LINE_BYTES} bytes")));
        }
        let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        Ok(Some((text.strip_suffix(b"\r").unwrap_or(text), ended)))
    }

    /// An error about the line last read.
    pub(super) fn fault(&self, cause: impl Into<String>) -> SourceError {
        self.input.fault(Some(format!("line {}", self.number)), cause)
    }

    /// Notes that the line last read is cut off and left out.
    fn leave_out(&mut self) {
        let (name, number) = (self.input.name(), self.number);
        self.remarks.push(format!("{name} is cut off in line {number}, which is left out"));
    }

    /// What was found besides lines; call it at the end.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = self.remarks.clone();
        if remarks.is_empty() && self.input.is_cut() {
            remarks.push(format!("{} is cut off behind line {}", self.input.name(), self.number));
        }
        remarks
    }
}

/// How a format reads a line.
pub(super) trait Decode: Send {
    /// Adds what the line says to the batch; nothing for lines that hold no result. Told apart from a broken line only
    /// by the error.
    fn decode(&mut self, line: &[u8], batch: &mut Observations) -> Result<(), String>;

    /// Adds what was held back until the end.
    fn end(&mut self, batch: &mut Observations) {
        let _ = batch;
    }

    /// What the file says about the scan, so far.
    fn facts(&self) -> super::Facts {
        super::Facts::default()
    }
}

/// A source whose results stand one in a line.
pub(super) struct LineSource<D> {
    lines: Lines,
    decoder: D,
}

impl<D: Decode> LineSource<D> {
    /// Reads lines with a decoder.
    pub(super) fn new(lines: Lines, decoder: D) -> LineSource<D> {
        LineSource { lines, decoder }
    }
}

/// Opens a source of lines.
pub(super) fn open<D: Decode + Default + 'static>(input: Input) -> Result<Box<dyn Source>, SourceError> {
    Ok(Box::new(LineSource::new(Lines::new(input), D::default())))
}

impl<D: Decode> Source for LineSource<D> {
    fn read(&mut self, batch: &mut Observations) -> Result<bool, SourceError> {
        batch.clear();
        while batch.len() < super::BATCH {
            let Some((line, ended)) = self.lines.next()? else {
                self.decoder.end(batch);
                break;
            };
            match self.decoder.decode(line, batch) {
                Ok(()) => {}
                // Nobody ended this line: it is the part of a record that a killed writer left.
                Err(_) if !ended => self.lines.leave_out(),
                Err(cause) => return Err(self.lines.fault(cause)),
            }
        }
        Ok(!batch.is_empty())
    }

    fn facts(&self) -> super::Facts {
        self.decoder.facts()
    }

    fn remarks(&self) -> Vec<String> {
        self.lines.remarks()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn lines(text: &[u8]) -> Lines {
        let input = Input::from_reader("test", None, Box::new(Cursor::new(text.to_vec())));
        Lines::new(input.expect("opens"))
    }

    #[test]
    fn lines_are_numbered_and_know_whether_they_end() {
        let mut lines = lines(b"a\r\n\nb");
        assert_eq!(lines.next().expect("reads"), Some((&b"a"[..], true)));
        assert_eq!(lines.next().expect("reads"), Some((&b""[..], true)));
        assert_eq!(lines.next().expect("reads"), Some((&b"b"[..], false)));
        assert!(lines.fault("wrong").to_string().ends_with("test, line 3: wrong"));
        assert_eq!(lines.next().expect("reads"), None);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let error = lines(&vec![b'x'; 3 * LINE_BYTES]).next().map(|_| ()).expect_err("too long");
        assert!(error.to_string().contains("line 1: it is longer than"), "{error}");
    }
}
