//! One target spec: an address, a block, a range, an octet pattern, a list of these, or a name.
//!
//! The grammar is the union of nmap's and masscan's. A text that different programs read differently (`010.0.0.1`,
//! `10.1`) or that cannot mean what it says (`/33`) is refused, with the way out.
//!
//! Invariant: resolves nothing. A name is handed back as a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::addresses::RangeList;
use super::error::{Reason, SpecError};
use super::pattern;
use super::special;

/// What a spec means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// Addresses, as ranges.
    Addresses(RangeList),
    /// Something to resolve first.
    Name(Name),
}

/// A host name, not resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// The name as written.
    pub name: Box<str>,
    /// With `name/24`: the length of the block around each address that the name resolves to.
    pub prefix: Option<u8>,
}

/// Reads one spec:
///
/// | form | meaning |
/// |---|---|
/// | `10.0.0.1`, `2001:db8::1`, `[2001:db8::1]` | one address |
/// | `10.0.0.40/24`, `2001:db8::/120` | the whole block, also when host bits are set |
/// | `10.0.0.1-10.0.0.9`, `2001:db8::1-2001:db8::9`, `[a]-[b]` | first to last, both included |
/// | `10.0-1.1,3.0`, `10.0.0.-3`, `10.0.0.253-`, `10.0.0.*` | octet patterns: four octets, always |
/// | `10.0.0.1,10.0.0.3` | a list of any of the above |
/// | `example.org`, `example.org/24` | a [`Name`] |
///
/// # Errors
/// Everything else, with the text, the reason and the way out.
pub fn parse_spec(text: &str) -> Result<Spec, SpecError> {
    let mut ranges = RangeList::default();
    let parts = split_list(text)?;
    for part in &parts {
        match parse_part(part, &mut ranges).map_err(|reason| reason.target(part))? {
            Some(name) if parts.len() == 1 => return Ok(Spec::Name(name)),
            Some(_) => return Err(Reason::NameInList.target(part)),
            None => {}
        }
    }
    Ok(Spec::Addresses(ranges))
}

/// Splits a comma list into specs. A comma inside an octet pattern does not split: in `10.0.0.1,3` the `3` is a
/// last octet, since alone it would be nothing.
pub(super) fn split_list(text: &str) -> Result<Vec<&str>, SpecError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Reason::Empty.target(text));
    }
    let mut parts = Vec::with_capacity(1);
    let mut offset = 0;
    let mut group = Group::default();
    for piece in text.split(',') {
        let end = offset + piece.len();
        if piece.is_empty() {
            return Err(Reason::EmptyPart(',').target(text));
        }
        // Only digits and the marks of patterns can be part of a pattern; everything else stands alone.
        let dots = pattern::is_numeric(piece).then(|| piece.bytes().filter(|&byte| byte == b'.').count());
        match (group.dots, dots) {
            (Some(before), Some(more)) if before + more <= 3 => {
                group.dots = Some(before + more);
                group.loose = (before == 3).then_some(piece);
            }
            (before, _) => {
                if let (Some(loose), Some(1..)) = (group.loose, dots) {
                    return Err(Reason::AmbiguousList(loose.into()).target(text));
                }
                if before.is_some() || group.end != 0 {
                    parts.push(&text[group.start..group.end]);
                }
                group = Group { start: offset, end, dots, loose: None };
            }
        }
        group.end = end;
        offset = end + 1;
    }
    parts.push(&text[group.start..group.end]);
    Ok(parts)
}

/// The pieces of a comma list that make up one spec so far.
#[derive(Default)]
struct Group<'a> {
    start: usize,
    end: usize,
    /// Dots so far, if all pieces are numeric.
    dots: Option<usize>,
    /// A piece without dots after three dots were complete: it belongs here unless another address follows.
    loose: Option<&'a str>,
}

/// Reads one part of a list into ranges, or gives back a name.
pub(super) fn parse_part(part: &str, ranges: &mut RangeList) -> Result<Option<Name>, Reason> {
    if let Some((first, last)) = pattern::plain_block(part.as_bytes()) {
        ranges.v4.push((first, last));
        return Ok(None);
    }
    check_characters(part)?;
    if part.contains([':', '[', ']']) {
        ranges.v6.push(parse_v6(part)?);
        return Ok(None);
    }
    let (body, prefix) = match part.split_once('/') {
        Some((body, prefix)) => (body, Some(prefix)),
        None => (part, None),
    };
    if pattern::is_numeric(body) {
        parse_v4(body, prefix, ranges)?;
        return Ok(None);
    }
    let prefix = prefix.map(|prefix| parse_prefix(prefix, 128)).transpose()?;
    check_name(body)?;
    Ok(Some(Name { name: body.into(), prefix }))
}

/// Refuses texts that no form allows, with a reason of their own.
fn check_characters(part: &str) -> Result<(), Reason> {
    if part.is_empty() {
        return Err(Reason::Empty);
    }
    if part.contains("://") {
        return Err(Reason::Url);
    }
    if part.contains('%') {
        return Err(Reason::Zone);
    }
    for character in part.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | '*' | '/' | ':' | '[' | ']' | ',' => {}
            '\u{2010}'..='\u{2015}' => return Err(Reason::Dash(character)),
            _ => return Err(Reason::Character(character)),
        }
    }
    Ok(())
}

fn parse_v4(body: &str, prefix: Option<&str>, ranges: &mut RangeList) -> Result<(), Reason> {
    if body.is_empty() {
        return Err(Reason::EmptyPart('/'));
    }
    if let Some(prefix) = prefix {
        if body.contains(['-', '*', ',']) || prefix.find('-').is_some_and(|at| 0 < at) {
            return Err(Reason::PrefixOnRange);
        }
        let address = pattern::parse_address(body)?;
        ranges.v4.push(block_v4(address, parse_prefix(prefix, 32)?));
        return Ok(());
    }
    if let Some((first, last)) = body.split_once('-')
        && 3 < body.bytes().filter(|&byte| byte == b'.').count()
    {
        let (first, last) = (range_end(first)?, range_end(last)?);
        if last < first {
            return Err(Reason::Reversed(first.to_string().into(), last.to_string().into()));
        }
        ranges.v4.push((first.into(), last.into()));
        return Ok(());
    }
    let expanded = pattern::expand(body)?;
    match expanded.as_slice() {
        [one] => ranges.v4.push(*one),
        [first, .., last] => {
            // A pattern is one spec: it lies inside a special-purpose prefix if both its ends do.
            let (lowest, highest) = (Ipv4Addr::from(first.0), Ipv4Addr::from(last.1));
            let named = special::naming(IpAddr::V4(lowest), IpAddr::V4(highest)).is_some();
            let list = if named { &mut ranges.v4 } else { &mut ranges.swept };
            list.extend_from_slice(&expanded);
        }
        [] => {}
    }
    Ok(())
}

/// One end of a range `a-b` of whole addresses.
fn range_end(text: &str) -> Result<Ipv4Addr, Reason> {
    if text.bytes().filter(|&byte| byte == b'.').count() != 3 || text.contains(['-', '*', ',']) {
        return Err(Reason::RangeEnd(text.into()));
    }
    pattern::parse_address(text).map(Ipv4Addr::from)
}

fn block_v4(address: u32, prefix: u8) -> (u32, u32) {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (address & !hosts, address | hosts)
}

fn parse_v6(part: &str) -> Result<(u128, u128), Reason> {
    // One colon alone makes no IPv6 address: it is address:port or name:port.
    if part.contains("]:") || (!part.contains('[') && part.bytes().filter(|&byte| byte == b':').count() == 1)
    {
        return Err(Reason::PortOutsideFile);
    }
    let inside = part.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let part = inside.filter(|rest| !rest.contains(['[', ']'])).unwrap_or(part);
    let (first, last) = if let Some((first, last)) = part.split_once('-') {
        if part.contains('/') {
            return Err(Reason::PrefixOnRange);
        }
        (parse_v6_address(first)?, parse_v6_address(last)?)
    } else if let Some((address, prefix)) = part.split_once('/') {
        let address = u128::from(parse_v6_address(address)?);
        let hosts = u128::MAX.checked_shr(u32::from(parse_prefix(prefix, 128)?)).unwrap_or(0);
        (Ipv6Addr::from(address & !hosts), Ipv6Addr::from(address | hosts))
    } else {
        let address = parse_v6_address(part)?;
        (address, address)
    };
    if let (Some(mapped), Some(_)) = (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
        let hint = if first == last { format!(", {mapped}") } else { String::new() };
        return Err(Reason::Mapped(hint.into()));
    }
    if last < first {
        return Err(Reason::Reversed(first.to_string().into(), last.to_string().into()));
    }
    Ok((first.into(), last.into()))
}

/// One IPv6 address, in brackets or not.
pub(super) fn parse_v6_address(text: &str) -> Result<Ipv6Addr, Reason> {
    let bare = match (text.strip_prefix('['), text.strip_suffix(']')) {
        (Some(rest), Some(_)) => &rest[..rest.len().saturating_sub(1)],
        (None, None) => text,
        _ => return Err(Reason::Brackets),
    };
    if bare.contains(['[', ']']) {
        return Err(Reason::Brackets);
    }
    bare.parse().map_err(|_| {
        if bare.parse::<Ipv4Addr>().is_ok() { Reason::MixedFamilies } else { Reason::NotIpv6(bare.into()) }
    })
}

/// A prefix length from 0 to `bits`, in decimal.
fn parse_prefix(text: &str, bits: u8) -> Result<u8, Reason> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::PrefixText(text.into(), bits));
    }
    if text.len() > 1 && text.starts_with('0') {
        let shown = match text.trim_start_matches('0') {
            "" => "0",
            rest => rest,
        };
        return Err(Reason::LeadingZero(format!("/{text}").into(), format!("/{shown}").into()));
    }
    match text.parse::<u8>() {
        Ok(length) if length <= bits => Ok(length),
        _ => Err(Reason::PrefixAbove(text.into(), bits)),
    }
}

/// Whether a text may be a host name (RFC 1123 section 2.1, with underscores, which exist).
fn check_name(text: &str) -> Result<(), Reason> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = |label: &str| label.starts_with("0x") || label.starts_with("0X");
    if text.split('.').all(|label| digits(label) || hexadecimal(label)) {
        return Err(Reason::Hexadecimal);
    }
    if text.get(..2).is_some_and(|head| head.eq_ignore_ascii_case("as")) && digits(&text[2..]) {
        return Err(Reason::AutonomousSystem);
    }
    if text.contains('*') {
        return Err(Reason::BadName("* stands for an octet of an IPv4 address, not for part of a name"));
    }
    if text.contains([',', '/']) {
        return Err(Reason::BadName("a name holds letters, digits, hyphens and dots"));
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    if 253 < text.len() {
        return Err(Reason::BadName("a name has at most 253 characters"));
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err(Reason::BadName("two dots follow each other, or a dot stands first"));
        }
        if 63 < label.len() {
            return Err(Reason::BadName("a part between dots has at most 63 characters"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(Reason::BadName("a part between dots neither begins nor ends with a hyphen"));
        }
    }
    if text.rsplit('.').next().is_some_and(digits) {
        return Err(Reason::BadName("the last part of a name is not a number"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::addresses::AddressSet;
    use super::super::ranges::Ranges;
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    /// The set a spec means.
    fn set(text: &str) -> AddressSet {
        match parse_spec(text) {
            Ok(Spec::Addresses(ranges)) => ranges.into_set(),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// The set of inclusive ranges, `first last first last`.
    fn ranges(pairs: &[(&str, &str)]) -> AddressSet {
        AddressSet::from_ip_ranges(pairs.iter().map(|&(first, last)| (ip(first), ip(last))))
    }

    fn error(text: &str) -> String {
        match parse_spec(text) {
            Ok(spec) => panic!("{text}: {spec:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// Checks for each text that it is refused, and that the reason holds the given words.
    fn refuses(cases: &[(&str, &str)]) {
        for &(text, reason) in cases {
            let shown = error(text);
            assert!(shown.starts_with("cannot read target '"), "{text}: {shown}");
            assert!(shown.contains(reason), "{text}: {shown}");
        }
    }

    #[test]
    fn addresses_and_blocks_mean_what_they_say() {
        for (text, first, last) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
            (" 10.0.0.1 ", "10.0.0.1", "10.0.0.1"),
            ("0.0.0.0", "0.0.0.0", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.255", "255.255.255.255"),
            ("10.0.0.0/30", "10.0.0.0", "10.0.0.3"),
            ("10.0.0.40/24", "10.0.0.0", "10.0.0.255"),
            ("10.0.1.2/16", "10.0.0.0", "10.0.255.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("10.0.0.1/32", "10.0.0.1", "10.0.0.1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::1"),
            ("2001:DB8::A", "2001:db8::a", "2001:db8::a"),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
            ("[2001:db8::1]", "2001:db8::1", "2001:db8::1"),
            ("2001:db8::5/126", "2001:db8::4", "2001:db8::7"),
            ("[1::1]/126", "1::", "1::3"),
            ("[1::1/126]", "1::", "1::3"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2607:f8b0:4002:801::2004/124", "2607:f8b0:4002:801::2000", "2607:f8b0:4002:801::200f"),
            ("64:ff9b::192.0.2.1", "64:ff9b::c000:201", "64:ff9b::c000:201"),
        ] {
            assert_eq!(set(text), ranges(&[(first, last)]), "{text}");
        }
    }

    #[test]
    fn full_ranges_are_read_in_both_families() {
        for (text, first, last) in [
            ("10.0.0.1-10.0.0.3", "10.0.0.1", "10.0.0.3"),
            ("10.0.0.3-10.0.0.3", "10.0.0.3", "10.0.0.3"),
            ("0.0.0.0-255.255.255.255", "0.0.0.0", "255.255.255.255"),
            ("1::1-2::3", "1::1", "2::3"),
            ("[1::1]-[2::3]", "1::1", "2::3"),
            ("[1::1-2::3]", "1::1", "2::3"),
            ("[1::1]-2::3", "1::1", "2::3"),
        ] {
            assert_eq!(set(text), ranges(&[(first, last)]), "{text}");
        }
    }

    #[test]
    fn octet_patterns_mean_what_they_mean_to_nmap() {
        let one = |address| (address, address);
        for (text, expected) in [
            ("10.0-1.1,3.0", &[one("10.0.1.0"), one("10.0.3.0"), one("10.1.1.0"), one("10.1.3.0")][..]),
            (
                "192.168.3-5,7.1",
                &[one("192.168.3.1"), one("192.168.4.1"), one("192.168.5.1"), one("192.168.7.1")],
            ),
            ("10.0.0.1-3,5-6", &[("10.0.0.1", "10.0.0.3"), ("10.0.0.5", "10.0.0.6")]),
            ("10.0.0.-3", &[("10.0.0.0", "10.0.0.3")]),
            ("10.0.0.253-", &[("10.0.0.253", "10.0.0.255")]),
            ("10.0.0.-", &[("10.0.0.0", "10.0.0.255")]),
            ("10.0.0.*", &[("10.0.0.0", "10.0.0.255")]),
            ("10.0-1.*.*", &[("10.0.0.0", "10.1.255.255")]),
            ("*.*.*.*", &[("0.0.0.0", "255.255.255.255")]),
            ("0-255.-.0-127,128-255.*", &[("0.0.0.0", "255.255.255.255")]),
            ("10.0.0.5,1,1-3,2", &[("10.0.0.1", "10.0.0.3"), one("10.0.0.5")]),
            ("5,10.0.0.1", &[one("5.0.0.1"), one("10.0.0.1")]),
        ] {
            assert_eq!(set(text), ranges(expected), "{text}");
        }
    }

    #[test]
    fn a_comma_separates_whole_specs_where_it_can_mean_nothing_else() {
        let one = |address| (address, address);
        for (text, expected) in [
            ("10.0.0.1,10.0.0.3", &[one("10.0.0.1"), one("10.0.0.3")][..]),
            ("10.0.0.0/30,10.0.0.8/30", &[("10.0.0.0", "10.0.0.3"), ("10.0.0.8", "10.0.0.11")]),
            ("10.0.0.1-10.0.0.3,10.0.0.9", &[("10.0.0.1", "10.0.0.3"), one("10.0.0.9")]),
            ("10.0.0.9,10.0.0.1-10.0.0.3", &[("10.0.0.1", "10.0.0.3"), one("10.0.0.9")]),
            ("10.0.0.1,2001:db8::1", &[one("10.0.0.1"), one("2001:db8::1")]),
            ("[2001:db8::1],10.0.0.1", &[one("10.0.0.1"), one("2001:db8::1")]),
            (
                "10.0.0.9,10.0-1.1,3.0",
                &[one("10.0.0.9"), one("10.0.1.0"), one("10.0.3.0"), one("10.1.1.0"), one("10.1.3.0")],
            ),
            ("10.0.0.1-3,5,10.0.9.0/32", &[("10.0.0.1", "10.0.0.3"), one("10.0.0.5"), one("10.0.9.0")]),
        ] {
            assert_eq!(set(text), ranges(expected), "{text}");
        }
        assert!(error("10.0.0.1,3,10.0.0.5").contains("'3' could belong to the address before or after it"));
        assert!(error("10.0.0.1,3,10.0-1.1,3.0").contains("'3' could belong"));
    }

    #[test]
    fn broken_or_ambiguous_ipv4_is_refused_with_the_way_out() {
        refuses(&[
            ("", "it is empty"),
            ("10.0.0.300", "octet 300 is above 255"),
            ("75.748.86.91", "octet 748 is above 255"),
            ("257.1.1.1", "octet 257 is above 255"),
            ("10.0.0.99999999999999999999", "is above 255"),
            ("10.0.0.5-2", "5-2 is backwards: did you mean 2-5?"),
            ("10.0.0.9-10.0.0.1", "10.0.0.9-10.0.0.1 is backwards: did you mean 10.0.0.1-10.0.0.9?"),
            ("10.0.0.0/33", "prefix length 33 is above 32"),
            ("10.0.0.0/999", "prefix length 999 is above 32"),
            ("10.0.0.0/", "'' is not a prefix length"),
            ("10.0.0.0/-1", "'-1' is not a prefix length"),
            ("10.0.0.0/24/24", "'24/24' is not a prefix length"),
            ("10.0.0.0/255.255.255.0", "is not a prefix length"),
            ("10.0.0.0/08", "/08 could be octal or decimal: write /8"),
            ("/24", "a part is empty"),
            ("10.0.0-1.0/24", "a prefix length goes with one address"),
            ("10.0.0.0/24-10.0.1.0/24", "a prefix length goes with one address"),
            ("10.0.0.1-10.0.0.9/24", "a prefix length goes with one address"),
            ("010.0.0.1", "010 could be octal or decimal: write 10"),
            ("10.0.0.00", "00 could be octal or decimal: write 0"),
            ("10.0.0.01-3", "01 could be octal or decimal: write 1"),
            ("10.1", "4 octets, this has 2"),
            ("1.2.3", "4 octets, this has 3"),
            ("1.2.3.4.5", "4 octets, this has 5"),
            ("1.2.3/24", "4 octets, this has 3"),
            ("167772161", "an address written as one number is not read: write 10.0.0.1"),
            ("0x0a000001", "hexadecimal is not read"),
            ("0x0a.0.0.1", "hexadecimal is not read"),
            ("99999999999", "4 octets, this has 1"),
            ("0.0.0./0", "a part is empty"),
            ("10.0.0.", "a part is empty"),
            ("10..0.1", "a part is empty"),
            (",10.0.0.1", "a part is empty"),
            ("10.0.0.1,", "a part is empty"),
            ("10.0.0.1,,10.0.0.2", "a part is empty"),
            ("10.0.0.1-2-3", "'2-3' is not one"),
            ("10.0.0.1-10.0.0.5-10.0.0.9", "'10.0.0.5-10.0.0.9' is not one"),
            ("10.0.0.1-10.0.5", "'10.0.5' is not one"),
            ("10.0.0.1*", "'1*' is not one"),
            ("1-255.1-255.1-255.1,3", "expands to 33162750 separate ranges, above the limit of 16777216"),
        ]);
        assert_eq!(error("10.0.0.300"), "cannot read target '10.0.0.300': octet 300 is above 255");
    }

    #[test]
    fn broken_ipv6_names_and_lists_are_refused_with_the_way_out() {
        refuses(&[
            ("2::-1::", "2::-1:: is backwards"),
            ("2001:db8::/129", "prefix length 129 is above 128"),
            ("1::-2::/64", "a prefix length goes with one address"),
            ("fe80::1%eth0", "zones (%...) are not supported"),
            ("::ffff:1.2.3.4", "write the IPv4 address itself, 1.2.3.4"),
            ("::ffff:0:0/96", "write the IPv4 address itself"),
            ("1:2:3:4:5:6:7:8:9", "is not an IPv6 address"),
            ("2001:db8::*", "is not an IPv6 address"),
            ("2001:db8::1::2", "is not an IPv6 address"),
            ("[2001:db8::1", "brackets go around one whole IPv6 address"),
            ("2001:db8::1]", "brackets go around one whole IPv6 address"),
            ("[[2001:db8::1]]", "brackets go around one whole IPv6 address"),
            ("[10.0.0.1]", "a range begins and ends in the same address family"),
            ("10.0.0.1-2001:db8::1", "a range begins and ends in the same address family"),
            ("192.0.2.1:443", "belongs into a target file"),
            ("[2001:db8::1]:443", "belongs into a target file"),
            ("example.org:443", "belongs into a target file"),
            ("http://192.0.2.1/", "a URL is not a target"),
            ("AS14421", "autonomous systems are not looked up"),
            ("10.0.0.1\u{2013}10.0.0.3", "is not '-': retype it"),
            ("10.0.0.1 10.0.0.2", "' ' has no place in a target"),
            ("10.0.0.1;10.0.0.2", "';' has no place in a target"),
            ("*.example.org", "* stands for an octet"),
            ("-example.org", "neither begins nor ends with a hyphen"),
            ("example..org", "two dots follow each other"),
            ("example.123", "the last part of a name is not a number"),
            ("b\u{fc}cher.example", "has no place in a target"),
            ("example.org,10.0.0.1", "a name cannot stand in a list"),
            ("example.org/129", "prefix length 129 is above 128"),
        ]);
    }

    #[test]
    fn the_broken_part_of_a_list_is_the_one_named() {
        assert!(error("10.0.0.1,10.0.0.0/40,10.0.0.2").starts_with("cannot read target '10.0.0.0/40':"));
    }

    #[test]
    fn what_can_be_a_name_comes_back_as_a_name() {
        for (text, name, prefix) in [
            ("example.org", "example.org", None),
            ("example.org/24", "example.org", Some(24)),
            ("localhost", "localhost", None),
            ("a-b.example", "a-b.example", None),
            ("10.0.0.1-x.example", "10.0.0.1-x.example", None),
            ("_dmarc.example.org.", "_dmarc.example.org.", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
            ("ascii", "ascii", None),
        ] {
            assert_eq!(parse_spec(text), Ok(Spec::Name(Name { name: name.into(), prefix })), "{text}");
        }
    }

    #[test]
    fn a_pattern_names_a_special_prefix_only_as_a_whole() {
        let kept = |text: &str| match parse_spec(text) {
            Ok(Spec::Addresses(ranges)) => special::apply(ranges).kept,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(kept("9-11.0.0.1"), ranges(&[("9.0.0.1", "9.0.0.1"), ("11.0.0.1", "11.0.0.1")]));
        assert_eq!(kept("10.0,9.0.1"), set("10.0,9.0.1"));
        assert_eq!(
            kept("9.0.0.1,10.0.0.1"),
            set("9.0.0.1,10.0.0.1"),
            "a list is many specs, each names its own"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[-0-9a-fx.,*/:\\[\\]% \u{e9}]{0,24}") {
            let _ = parse_spec(&text);
        }

        #[test]
        fn every_address_and_block_reads_back(v4 in any::<u32>(), v6 in any::<u128>(), prefix in 0u8..=32) {
            let address = Ipv4Addr::from(v4);
            prop_assert_eq!(set(&address.to_string()).v4, Ranges::one(v4, v4));
            let net = ipnet::Ipv4Net::new(address, prefix).expect("prefix");
            let expected = Ranges::one(net.network().into(), net.broadcast().into());
            prop_assert_eq!(set(&net.to_string()).v4, expected);
            let address = Ipv6Addr::from(v6);
            prop_assume!(address.to_ipv4_mapped().is_none());
            prop_assert_eq!(set(&address.to_string()).v6, Ranges::one(v6, v6));
            let net = ipnet::Ipv6Net::new(address, prefix * 4).expect("prefix");
            let expected = Ranges::one(net.network().into(), net.broadcast().into());
            prop_assert_eq!(set(&net.to_string()).v6, expected);
        }

        #[test]
        fn a_pattern_holds_exactly_the_products_of_its_octets(
            octets in prop::array::uniform4(prop::collection::vec((0u8..=255, 0u8..8), 1..3)),
            probes in prop::collection::vec(any::<[u8; 4]>(), 20),
        ) {
            let text = |items: &Vec<(u8, u8)>| -> String {
                let items = items.iter().map(|&(low, more)| format!("{low}-{}", low.saturating_add(more)));
                items.collect::<Vec<_>>().join(",")
            };
            let spec = octets.iter().map(text).collect::<Vec<_>>().join(".");
            let set = set(&spec);
            let holds = |items: &Vec<(u8, u8)>, value: u8| {
                items.iter().any(|&(low, more)| low <= value && value <= low.saturating_add(more))
            };
            for probe in probes {
                // Pull half of the octets to values that the pattern holds, or nearly no probe would be inside.
                for near in 0..16u8 {
                    let mut probe = probe;
                    for place in 0..4 {
                        probe[place] = if near & 1 << place == 0 { octets[place][0].0 } else { probe[place] };
                    }
                    let expected = (0..4).all(|place| holds(&octets[place], probe[place]));
                    prop_assert_eq!(set.v4.contains(u32::from_be_bytes(probe)), expected, "{} {:?}", spec, probe);
                }
            }
        }
    }
}
