//! IPv4 in text: the plain forms fast, and nmap's octet patterns (`10.0-1.1,3.0`, `10.0.0.*`).
//!
//! Invariant: knows no names, no prefixes outside the fast path, no policy.

use super::error::Reason;

/// The most ranges one pattern may become (128 MiB of them). `*.*.*.1` is the widest that fits.
pub(super) const RANGES_MAX: u64 = 1 << 24;

/// Whether a text has only characters of octet patterns, so that it cannot be a name.
pub(super) fn is_numeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b".*-,".contains(&byte))
}

/// Reads exactly `a.b.c.d` or `a.b.c.d/n`, decimal, no leading zeros, as an inclusive range; `None` for every other
/// text, valid or not. This is what nearly every line of a long target list is.
#[inline]
pub(super) fn plain_block(text: &[u8]) -> Option<(u32, u32)> {
    match leading_block(text) {
        Some((first, last, length)) if length == text.len() => Some((first, last)),
        _ => None,
    }
}

/// As [`plain_block`], for the longest such text that `text` begins with; also says how long it is. What follows it
/// is for the caller to judge.
#[inline]
pub(super) fn leading_block(text: &[u8]) -> Option<(u32, u32, usize)> {
    let mut address = 0;
    let mut at = 0;
    for octet in 0..4 {
        if octet != 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let (value, length) = leading_number(&text[at..], 255)?;
        address = address << 8 | value;
        at += length;
    }
    if text.get(at) != Some(&b'/') {
        return Some((address, address, at));
    }
    let (prefix, length) = leading_number(&text[at + 1..], 32)?;
    let hosts = u32::MAX.checked_shr(prefix).unwrap_or(0);
    Some((address & !hosts, address | hosts, at + 1 + length))
}

/// A decimal number of at most three digits and at most `highest`, without leading zeros, and its length.
#[inline]
fn leading_number(text: &[u8], highest: u32) -> Option<(u32, usize)> {
    let mut value = 0;
    let mut length = 0;
    while let Some(digit) = text.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
        if length == 3 || (length == 1 && value == 0) {
            return None;
        }
        value = value * 10 + u32::from(digit);
        length += 1;
    }
    (length != 0 && value <= highest).then_some((value, length))
}

/// Reads one IPv4 address of numbers and dots.
pub(super) fn parse_address(text: &str) -> Result<u32, Reason> {
    let ranges = octets(text)?;
    if text.contains(['-', '*', ',']) {
        return Err(Reason::RangeEnd(text.into()));
    }
    Ok(ranges.iter().fold(0, |address, octet| address << 8 | octet.first().map_or(0, |range| range.0)))
}

/// Expands an octet pattern into ascending disjoint ranges, as few as there are.
pub(super) fn expand(text: &str) -> Result<Vec<(u32, u32)>, Reason> {
    let octets = octets(text)?;
    let mut ranges = vec![(0u32, 0u32)];
    for (place, octet) in octets.iter().rev().enumerate() {
        let width = 8 * u32::try_from(place).unwrap_or(0);
        let full = (1u64 << width) - 1;
        if let [(0, last)] = ranges.as_slice()
            && u64::from(*last) == full
        {
            // Everything below this octet is full: its own ranges stay whole.
            ranges = octet.iter().map(|&(low, high)| (low << width, high << width | *last)).collect();
            continue;
        }
        let values: u64 = octet.iter().map(|&(low, high)| u64::from(high - low) + 1).sum();
        let count = values * ranges.len() as u64;
        if RANGES_MAX < count {
            return Err(Reason::TooManyRanges(count, RANGES_MAX));
        }
        let values = octet.iter().flat_map(|&(low, high)| low..=high);
        ranges = values
            .flat_map(|value| {
                ranges.iter().map(move |&(low, high)| (value << width | low, value << width | high))
            })
            .collect();
    }
    Ok(ranges)
}

/// The four octets of a pattern, each as ascending, disjoint, non-adjacent ranges of values.
fn octets(text: &str) -> Result<[Vec<(u32, u32)>; 4], Reason> {
    let count = text.split('.').count();
    if count == 1 && !text.contains(['-', '*', ',']) {
        check_zeros(text)?;
        let number = text.parse::<u32>().map_err(|_| Reason::OctetCount(1))?;
        return Err(Reason::SingleNumber(number.into()));
    }
    if text.split('.').any(str::is_empty) {
        return Err(Reason::EmptyPart('.'));
    }
    let mut octets: [Vec<(u32, u32)>; 4] = Default::default();
    if count != octets.len() {
        return Err(Reason::OctetCount(count));
    }
    for (octet, text) in octets.iter_mut().zip(text.split('.')) {
        *octet = parse_octet(text)?;
    }
    Ok(octets)
}

/// One octet: numbers, ranges open or closed, `*`, separated by commas.
fn parse_octet(text: &str) -> Result<Vec<(u32, u32)>, Reason> {
    let mut ranges = Vec::with_capacity(1);
    for item in text.split(',') {
        if item.is_empty() {
            return Err(Reason::EmptyPart(','));
        }
        let (low, high) = match item.split_once('-') {
            _ if item == "*" => (0, 255),
            Some((low, high)) => (bound(low, 0)?, bound(high, 255)?),
            None => bound(item, 0).map(|value| (value, value))?,
        };
        if high < low {
            return Err(Reason::Reversed(low.to_string().into(), high.to_string().into()));
        }
        ranges.push((low, high));
    }
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joins = next.0 <= kept.1 + 1;
        kept.1 = if joins { kept.1.max(next.1) } else { kept.1 };
        joins
    });
    Ok(ranges)
}

/// One end of an octet range; `open` when it is not written.
fn bound(text: &str, open: u32) -> Result<u32, Reason> {
    if text.is_empty() {
        return Ok(open);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::RangeEnd(text.into()));
    }
    check_zeros(text)?;
    match text.parse() {
        Ok(value) if value <= 255 => Ok(value),
        _ => Err(Reason::OctetAbove(text.into())),
    }
}

/// Refuses leading zeros: nmap reads `010` as 10, inet_aton as 8.
fn check_zeros(text: &str) -> Result<(), Reason> {
    match text.trim_start_matches('0') {
        _ if text.len() < 2 || !text.starts_with('0') => Ok(()),
        "" => Err(Reason::LeadingZero(text.into(), "0".into())),
        rest => Err(Reason::LeadingZero(text.into(), rest.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_path_reads_plain_blocks_and_nothing_else() {
        assert_eq!(plain_block(b"1.2.3.4"), Some((0x0102_0304, 0x0102_0304)));
        assert_eq!(plain_block(b"255.255.255.255/0"), Some((0, u32::MAX)));
        assert_eq!(plain_block(b"10.0.0.9/31"), Some((0x0a00_0008, 0x0a00_0009)));
        for odd in [
            "",
            "1",
            "1.2.3",
            "1.2.3.",
            "1.2.3.4.",
            "1.2.3.4/",
            "1.2.3.4/33",
            "1.2.3.256",
            "01.2.3.4",
            "1.2.3.00",
            "1.2.3.4 ",
            " 1.2.3.4",
            "1.2.3.4/024",
            "1.2.3.4/8/8",
            "1.2.3.-4",
            "1234.2.3.4",
            "1.2.3.4-5",
        ] {
            assert_eq!(plain_block(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn the_widest_pattern_within_the_limit_expands() {
        assert_eq!(expand("*.*.*.1").map(|ranges| ranges.len() as u64), Ok(RANGES_MAX));
    }
}
