//! The reading end of a spool: block by block, while it is still written or after its writer died.
//!
//! Invariant: never writes; what is damaged is skipped, counted and told, never guessed.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::block::{self, HEADER, Header, Kind};
use super::{DESTINATION, MANIFEST, segment_path};
use crate::event::{Manifest, Record, Untrusted};

/// What stands next in a spool.
#[derive(Debug)]
pub enum Item {
    /// Records were appended to the caller's vector; the index of the first of them.
    Records(u64),
    /// Bytes that a target sent.
    Attachment(Box<(Record, String, Untrusted)>),
    /// Nothing more stands there, yet.
    End,
}

/// What a reader had to skip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Records that stood in blocks which are damaged, as far as their number is known.
    pub lost: u64,
    /// Bytes at the end of the last segment that are no whole block: what a crash tore.
    pub torn_bytes: u64,
    /// Each finding, in words.
    pub findings: Vec<String>,
}

impl Damage {
    /// Whether nothing is wrong but what a crash always leaves: part of the block that was being written.
    pub fn is_only_torn(&self) -> bool {
        self.lost == 0
            && self.findings.len() <= 1
            && self.torn_bytes <= TORN_MAX
            && (0 < self.torn_bytes || self.findings.is_empty())
    }
}

/// The longest part of a block of records.
const TORN_MAX: u64 = HEADER as u64 + block::BLOCK_RECORDS as u64 * 64;

/// Reads a spool from its oldest segment on.
pub struct SpoolReader {
    directory: PathBuf,
    segment: Option<Segment>,
    /// Every segment that was begun and not removed, with the index of its first record.
    begun: Vec<(u32, u64)>,
    /// Number of the segment that is opened next.
    next: u32,
    /// The index of the record that comes next.
    position: u64,
    damage: Damage,
    payload: Vec<u8>,
}

struct Segment {
    number: u32,
    file: BufReader<File>,
    at: u64,
}

impl SpoolReader {
    /// Opens a spool.
    ///
    /// # Errors
    /// When it is none, or its directory cannot be read.
    pub fn open(directory: &Path) -> io::Result<SpoolReader> {
        let numbers = segments(directory)?;
        Ok(SpoolReader {
            directory: directory.to_owned(),
            segment: None,
            begun: Vec::new(),
            next: numbers.first().copied().unwrap_or(1),
            position: 0,
            damage: Damage::default(),
            payload: Vec::new(),
        })
    }

    /// The scan whose records these are, as it stood when it was last written.
    pub fn manifest(directory: &Path) -> io::Result<Manifest> {
        let bytes = fs::read(directory.join(MANIFEST))?;
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }

    /// Where the records were meant to go.
    pub fn destination(directory: &Path) -> io::Result<String> {
        fs::read_to_string(directory.join(DESTINATION))
    }

    /// The index of the record that comes next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What had to be skipped so far.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Reads the next block; records are appended to `records`.
    ///
    /// # Errors
    /// When the disk cannot be read. Damage is no error.
    pub fn next(&mut self, records: &mut Vec<Record>) -> io::Result<Item> {
        loop {
            if self.segment.is_none() && !self.open_next()? {
                return Ok(Item::End);
            }
            match self.block(records)? {
                Some(item) => return Ok(item),
                // The end of this segment, for good if another follows.
                None if segment_path(&self.directory, self.next).exists() => {
                    self.close_segment()?;
                }
                None => return Ok(Item::End),
            }
        }
    }

    /// Says what stands behind the last whole block. Call it when the writer is gone.
    pub fn finish(&mut self) -> io::Result<&Damage> {
        if self.segment.is_some() {
            self.close_segment()?;
        }
        Ok(&self.damage)
    }

    /// Removes the segments that were read to their end and whose records are all below `delivered`.
    pub fn remove_before(&mut self, delivered: u64) -> io::Result<()> {
        while let [(number, _), (_, first), ..] = self.begun[..]
            && first <= delivered
        {
            fs::remove_file(segment_path(&self.directory, number))?;
            self.begun.remove(0);
        }
        Ok(())
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let path = segment_path(&self.directory, self.next);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut header = [0; block::SEGMENT_HEADER];
        let read = fill(&mut file, &mut header)?;
        if read < header.len() {
            return Ok(false); // its writer has just made it, or died doing so
        }
        match block::read_segment_header(&header) {
            Some(first) => self.advance_to(first, self.next),
            None => self.note(format!("segment {}: its header is damaged", self.next)),
        }
        self.begun.push((self.next, self.position));
        let at = block::SEGMENT_HEADER as u64;
        self.segment = Some(Segment { number: self.next, file, at });
        self.next += 1;
        Ok(true)
    }

    /// Reads one block of the open segment; `None` at its end, or at what is no block.
    fn block(&mut self, records: &mut Vec<Record>) -> io::Result<Option<Item>> {
        loop {
            let Some(segment) = &mut self.segment else { return Ok(None) };
            let mut header = [0; HEADER];
            let read = fill(&mut segment.file, &mut header)?;
            let parsed = block::read_header(&header).filter(|_| read == HEADER);
            let Some((header_read, length, sum)) = parsed else {
                return self.rewind();
            };
            self.payload.resize(length, 0);
            let segment = self.segment.as_mut().expect("open");
            if fill(&mut segment.file, &mut self.payload)? < length {
                return self.rewind();
            }
            segment.at += (HEADER + length) as u64;
            let number = segment.number;
            if block::is_sound(&header, &self.payload, sum) {
                if let Some(item) = self.take(&header_read, number, records) {
                    return Ok(Some(item));
                }
            } else {
                // Its length stood in a header that cannot be believed; if a block follows there, all is well again.
                self.note(format!("segment {number}: the checksum of a block does not fit"));
            }
        }
    }

    /// Hands out a sound block; `None` when it holds something this version does not know.
    fn take(&mut self, header: &Header, number: u32, records: &mut Vec<Record>) -> Option<Item> {
        match header.kind {
            Kind::Records => {
                self.advance_to(header.first, number);
                let (chunks, _) = self.payload.as_chunks::<64>();
                let known = records.len();
                records.extend(chunks.iter().filter_map(Record::from_bytes));
                let count = chunks.len() as u64;
                let unknown = count - (records.len() - known) as u64;
                if 0 < unknown {
                    self.damage.lost += unknown;
                    self.note(format!("segment {number}: {unknown} records are of a newer version"));
                }
                self.position += count;
                Some(Item::Records(header.first))
            }
            Kind::Attachment => {
                let (record, key, bytes) = block::read_attachment(&self.payload)?;
                Some(Item::Attachment(Box::new((record, key, Untrusted(bytes)))))
            }
        }
    }

    /// Goes back to the last whole block: what stands behind it may still be on its way to the disk.
    fn rewind(&mut self) -> io::Result<Option<Item>> {
        if let Some(segment) = &mut self.segment {
            segment.file.seek(SeekFrom::Start(segment.at))?;
        }
        Ok(None)
    }

    /// Leaves the open segment; what stands behind its last whole block is told.
    fn close_segment(&mut self) -> io::Result<()> {
        let Some(segment) = self.segment.take() else { return Ok(()) };
        let left = segment.file.get_ref().metadata()?.len().saturating_sub(segment.at);
        if 0 < left {
            self.damage.torn_bytes += left;
            self.note(format!(
                "segment {}: {left} bytes at its end are no whole block: what a crash or a full disk tore",
                segment.number
            ));
        }
        Ok(())
    }

    /// Records whose indexes are missing before `first` are lost.
    fn advance_to(&mut self, first: u64, number: u32) {
        // The oldest segment begins where those before it were delivered.
        let begun = self.position != 0 || !self.damage.findings.is_empty();
        if begun && self.position < first {
            let lost = first - self.position;
            self.damage.lost += lost;
            self.note(format!("segment {number}: {lost} records before number {first} are lost"));
        }
        self.position = self.position.max(first);
    }

    fn note(&mut self, finding: String) {
        if self.damage.findings.len() < 100 {
            self.damage.findings.push(finding);
        }
    }
}

/// The numbers of the segments that are there, in order.
fn segments(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads until the buffer is full or the file ends; returns how much.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
