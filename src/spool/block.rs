//! The bytes of a spool: a segment is a header and blocks; a block is a header with a checksum over all of it, and
//! either records or one attachment.
//!
//! Invariant: pure; every number is little endian; nothing here opens a file.

use crate::event::Record;

/// Records a block holds at most: 256 KiB.
pub(super) const BLOCK_RECORDS: u32 = 4096;

/// Bytes of a segment's header: magic, version, number, index of its first record, checksum.
pub(super) const SEGMENT_HEADER: usize = 32;

/// Bytes of a block's header: magic, kind, length of what follows, records, index of the first, checksum.
pub(super) const HEADER: usize = 28;

/// The longest payload a reader believes: an attachment is at most this long.
pub(super) const PAYLOAD_MAX: usize = 16 << 20;

const SEGMENT_MAGIC: &[u8; 8] = b"swathspl";
const VERSION: u32 = 1;
const BLOCK_MAGIC: u32 = 0x6b6c_6273; // "sblk"

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records of 64 bytes.
    Records = 1,
    /// A record, a key and bytes that its target sent.
    Attachment = 2,
}

/// What the header of a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) records: u32,
    /// The index of its first record in the spool.
    pub(super) first: u64,
}

/// A block's buffer, with room for its header.
pub(super) fn begin() -> Vec<u8> {
    let mut buffer = Vec::with_capacity(HEADER + BLOCK_RECORDS as usize * 64);
    buffer.resize(HEADER, 0);
    buffer
}

/// Writes the header over the room that [`begin`] left.
pub(super) fn seal(buffer: &mut [u8], header: &Header) {
    let length = u32::try_from(buffer.len() - HEADER).expect("far below 4 GiB");
    buffer[..4].copy_from_slice(&BLOCK_MAGIC.to_le_bytes());
    buffer[4..8].copy_from_slice(&(header.kind as u32).to_le_bytes());
    buffer[8..12].copy_from_slice(&length.to_le_bytes());
    buffer[12..16].copy_from_slice(&header.records.to_le_bytes());
    buffer[16..24].copy_from_slice(&header.first.to_le_bytes());
    let sum = checksum(&buffer[..24], &buffer[HEADER..]);
    buffer[24..28].copy_from_slice(&sum.to_le_bytes());
}

/// The header of a segment.
pub(super) fn segment_header(number: u32, first: u64) -> [u8; SEGMENT_HEADER] {
    let mut bytes = [0; SEGMENT_HEADER];
    bytes[..8].copy_from_slice(SEGMENT_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    let sum = checksum(&bytes[..28], &[]);
    bytes[28..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads a segment's header: the index of its first record. `None` when it is not one.
pub(super) fn read_segment_header(bytes: &[u8]) -> Option<u64> {
    let sound = bytes.starts_with(SEGMENT_MAGIC)
        && word(bytes, 8)? == VERSION
        && word(bytes, 28)? == checksum(&bytes[..28], &[]);
    sound.then(|| long(bytes, 16)).flatten()
}

/// Reads a block's header as far as it can be believed before its payload is seen: kind and numbers, and the length
/// and the checksum of the payload.
pub(super) fn read_header(bytes: &[u8; HEADER]) -> Option<(Header, usize, u32)> {
    let kind = match word(bytes, 4)? {
        1 => Kind::Records,
        2 => Kind::Attachment,
        _ => return None,
    };
    let (length, records) = (word(bytes, 8)? as usize, word(bytes, 12)?);
    let fits = match kind {
        Kind::Records => 0 < records && records <= BLOCK_RECORDS && length == records as usize * 64,
        Kind::Attachment => records == 0 && (65..=PAYLOAD_MAX).contains(&length),
    };
    let sound = word(bytes, 0)? == BLOCK_MAGIC && fits;
    sound.then_some((Header { kind, records, first: long(bytes, 16)? }, length, word(bytes, 24)?))
}

/// Whether header and payload are what was written.
pub(super) fn is_sound(header: &[u8; HEADER], payload: &[u8], sum: u32) -> bool {
    checksum(&header[..24], payload) == sum
}

/// The payload of an attachment: the record, the length of the key, the key, the bytes.
pub(super) fn attachment(record: &Record, key: &str, bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(65 + key.len() + bytes.len());
    payload.extend_from_slice(&record.to_bytes());
    let key = &key.as_bytes()[..key.len().min(255)];
    payload.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
    payload.extend_from_slice(key);
    payload.extend_from_slice(&bytes[..bytes.len().min(PAYLOAD_MAX - payload.len())]);
    payload
}

/// Reads the payload of an attachment.
pub(super) fn read_attachment(payload: &[u8]) -> Option<(Record, String, Vec<u8>)> {
    let (record, rest) = payload.split_first_chunk::<64>()?;
    let (&length, rest) = rest.split_first()?;
    let (key, bytes) = rest.split_at_checked(usize::from(length))?;
    Some((Record::from_bytes(record)?, String::from_utf8(key.to_vec()).ok()?, bytes.to_vec()))
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
