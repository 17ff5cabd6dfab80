//! What an answer turned out to be, and the pieces that the checks are made of.

use crate::batch::{Carry, Secrets};

/// What a datagram from a probed port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// A whole answer that brings back so many secret bits.
    Proved(u32),
    /// An answer of this protocol to another question.
    OtherCookie,
    /// It ends before what it announces.
    Truncated,
    /// Nothing of this protocol. Something listens there all the same, and what it said came to our port.
    Foreign,
}

/// An answer that is told by bytes at fixed places.
pub(super) struct Shape {
    /// Bytes that every answer has, by offset.
    pub(super) magic: &'static [(usize, &'static [u8])],
    /// Where the cookie comes back.
    pub(super) echo: Option<(usize, Carry)>,
    /// The shortest whole answer.
    pub(super) least: usize,
    /// The length that an answer of at least [`Shape::least`] bytes announces; 0 when it announces none.
    pub(super) announced: fn(&[u8]) -> usize,
}

impl Shape {
    pub(super) fn judge(&self, answer: &[u8], secrets: &Secrets) -> Finding {
        if !self.magic.iter().all(|&(at, magic)| agrees(answer, at, magic)) {
            return Finding::Foreign;
        }
        if answer.len() < self.least || answer.len() < (self.announced)(answer) {
            return Finding::Truncated;
        }
        match self.echo {
            Some((at, carry)) => echoed(answer, at, carry, secrets),
            None => Finding::Proved(0),
        }
    }
}

/// Whether the bytes at an offset are these, as far as the answer goes.
pub(super) fn agrees(answer: &[u8], at: usize, magic: &[u8]) -> bool {
    let there = answer.get(at..).unwrap_or_default();
    there.iter().zip(magic).all(|(byte, magic)| byte == magic)
}

/// Whether the cookie came back at an offset of a whole answer.
pub(super) fn echoed(answer: &[u8], at: usize, carry: Carry, secrets: &Secrets) -> Finding {
    match answer.get(at..) {
        Some(field) if carry.is_in(field, secrets) => Finding::Proved(carry.bits()),
        _ => Finding::OtherCookie,
    }
}

/// The 16-bit number at an offset, most significant byte first; 0 behind the end.
pub(super) fn be16(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => usize::from(high) << 8 | usize::from(low),
        _ => 0,
    }
}

/// As [`be16`], least significant byte first.
pub(super) fn le16(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[low, high]) => usize::from(high) << 8 | usize::from(low),
        _ => 0,
    }
}

/// No length is announced.
pub(super) fn unannounced(_: &[u8]) -> usize {
    0
}

/// Where `part` begins in `text`.
pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Judges a text that repeats `label` and the cookie behind it, wherever: nothing proved when the label is missing,
/// [`Finding::OtherCookie`] when another cookie follows it.
pub(super) fn labelled(text: &[u8], label: &[u8], carry: Carry, secrets: &Secrets) -> Finding {
    match find(text, label) {
        Some(at) => echoed(text, at + label.len(), carry, secrets),
        None => Finding::Proved(0),
    }
}

/// Judges an answer in the manner of HTTP (RFC 2616 section 6): a status line that starts with `version`, header
/// lines, an empty line, and a body as long as the headers say; then [`labelled`].
pub(super) fn status_and_headers(
    answer: &[u8],
    version: &[u8],
    (label, carry): (&[u8], Carry),
    secrets: &Secrets,
) -> Finding {
    if !agrees(answer, 0, version) {
        return Finding::Foreign;
    }
    let Some(end) = find(answer, b"\r\n\r\n") else { return Finding::Truncated };
    let (headers, body) = answer.split_at(end + 4);
    if body.len() < content_length(headers) {
        return Finding::Truncated;
    }
    labelled(headers, label, carry, secrets)
}

/// The length of the body that the headers announce.
fn content_length(headers: &[u8]) -> usize {
    let lines = headers.split(|byte| *byte == b'\n');
    let value = |line: &[u8]| {
        let text = std::str::from_utf8(line).ok()?;
        let (name, value) = text.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    lines.filter_map(value).next().unwrap_or(0)
}
