//! What a source reads from: a file or standard input, decompressed when its first bytes say so.
//!
//! Invariant: knows no format of results.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use super::SourceError;

/// An opened file whose beginning is known. Reads as one stream from its first byte; where a compressed file is cut
/// off, the stream ends and [`Input::is_cut`] says so.
pub struct Input {
    name: String,
    path: Option<PathBuf>,
    head: Vec<u8>,
    reader: Box<dyn BufRead + Send>,
    position: u64,
    cut: bool,
}

impl Input {
    /// Bytes of the beginning that [`Input::head`] holds, at most.
    pub const HEAD: usize = 8192;

    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be opened or its beginning cannot be read.
    pub fn open(path: &Path) -> Result<Input, SourceError> {
        if path == Path::new("-") {
            return Input::from_reader("standard input", None, Box::new(io::stdin()));
        }
        let name: String = path.to_string_lossy().chars().flat_map(visible).collect();
        let failed = |error: io::Error| fault(&name, None, error.to_string());
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(fault(&name, None, "it is a directory"));
        }
        Input::from_reader(&name, Some(path.to_owned()), Box::new(file))
    }

    /// Takes a reader under a name for messages, and reads its beginning.
    ///
    /// # Errors
    /// When reading fails.
    pub fn from_reader(
        name: &str,
        path: Option<PathBuf>,
        reader: Box<dyn Read + Send>,
    ) -> Result<Input, SourceError> {
        let failed = |error: io::Error| fault(name, None, error.to_string());
        let mut input = Input {
            name: name.to_owned(),
            path,
            head: Vec::new(),
            reader: Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)),
            position: 0,
            cut: false,
        };
        input.read_head().map_err(failed)?;
        let packed = std::mem::replace(&mut input.reader, Box::new(io::empty()));
        let plain: Box<dyn Read + Send> = if input.head.starts_with(GZIP) {
            Box::new(flate2::bufread::MultiGzDecoder::new(packed))
        } else if input.head.starts_with(ZSTD) {
            Box::new(zstd::Decoder::with_buffer(packed).map_err(failed)?)
        } else {
            input.reader = packed;
            return Ok(input);
        };
        // What is decompressed is a stream of its own, not the file that a database could be opened by.
        input.path = None;
        input.reader = Box::new(BufReader::with_capacity(BUFFER_BYTES, plain));
        input.read_head().map_err(failed)?;
        Ok(input)
    }

    /// Reads the beginning and puts it back in front.
    fn read_head(&mut self) -> io::Result<()> {
        let mut reader = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        let mut head = Vec::with_capacity(Input::HEAD);
        match reader.by_ref().take(Input::HEAD as u64).read_to_end(&mut head) {
            // A compressed file may be cut off this early.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.cut = true,
            result => drop(result?),
        }
        self.reader = Box::new(Cursor::new(head.clone()).chain(reader));
        self.head = head;
        Ok(())
    }

    /// The file as messages name it, without control characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the file is; `None` for standard input and for what is decompressed.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The first bytes: [`Input::HEAD`] of them, or the whole file.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the stream ended where its compression does not.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// An error about this file, at a place such as `line 7`.
    pub fn fault(&self, place: Option<String>, cause: impl Into<String>) -> SourceError {
        fault(&self.name, place, cause)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let Input { reader, cut, .. } = self;
        match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                *cut = true;
                Ok(&[])
            }
            result => result,
        }
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
        self.reader.consume(count);
    }
}

fn fault(file: &str, place: Option<String>, cause: impl Into<String>) -> SourceError {
    let place = place.map_or_else(String::new, |place| format!(", {place}"));
    SourceError { file: file.to_owned(), place, cause: cause.into() }
}

fn visible(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = (!character.is_control()).then_some(character);
    plain.into_iter().chain(escaped.into_iter().flatten())
}

const BUFFER_BYTES: usize = 1 << 18;
/// RFC 1952 section 2.3.1: ID1, ID2 and the one compression method there is.
const GZIP: &[u8] = &[0x1f, 0x8b, 8];
/// RFC 8878 section 3.1.1, little endian 0xfd2fb528.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn input(bytes: &[u8]) -> Input {
        Input::from_reader("test", None, Box::new(Cursor::new(bytes.to_vec()))).expect("opens")
    }

    fn whole(bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut input = input(bytes);
        let mut read = Vec::new();
        input.read_to_end(&mut read).expect("reads");
        assert_eq!(input.position(), read.len() as u64);
        (read, input.is_cut())
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn a_stream_is_read_from_its_first_byte_packed_or_not() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        assert_eq!(whole(&text), (text.clone(), false));
        assert_eq!(whole(&gzip(&text)), (text.clone(), false));
        assert_eq!(whole(&[gzip(&text[..7]), gzip(&text[7..])].concat()), (text.clone(), false));
        let frames = [&text[..9], &text[9..]].map(|part| zstd::encode_all(part, 1).expect("memory")).concat();
        assert_eq!(whole(&frames), (text, false));
        assert_eq!(whole(b""), (vec![], false));
    }

    #[test]
    fn a_packed_stream_that_is_cut_off_is_read_as_far_as_it_goes() {
        let text: Vec<u8> = (0..50_000_u32).flat_map(u32::to_be_bytes).collect();
        for packed in [
            [gzip(&text), gzip(&text)].concat(),
            [&text, &text].map(|part| zstd::encode_all(&part[..], 1).expect("memory")).concat(),
        ] {
            for missing in [1, 5, 100] {
                let (read, cut) = whole(&packed[..packed.len() - missing]);
                assert!(cut && text.len() <= read.len() && read.starts_with(&text));
            }
            assert!(whole(&packed[..12]).1);
        }
    }
}
