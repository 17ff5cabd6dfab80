//! [`PortSet`] and the syntax of `-p`: `22,80,8000-8100,U:53`.
//!
//! The grammar is the union of nmap's, masscan's and naabu's. Where they disagree on a meaning, the text is
//! refused: `010` is 10 to one and 8 to another.
//!
//! Invariant: no service names, and so no list of services.

use std::fmt;

use super::error::{Reason, SpecError};
use super::{Port, Protocol};

/// A set of ports of any protocols: sorted by protocol number, then port number; no port twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortSet {
    ports: Vec<Port>,
}

/// Reads a list of ports.
///
/// Items are separated by commas: a number, a range `a-b`, `-b` (from 1), `a-` (to 65535), `-` (1 to 65535; port 0
/// only if asked for by number). `T:`, `U:`, `S:`, `I:` or `P:` before an item, in either case, choose TCP, UDP, SCTP,
/// ICMP (types instead of ports) or the IP layer (protocols instead of ports; `O:` is the same) for that item and all
/// that follow. Without one, TCP. Repeats merge. One comma at the end is allowed.
///
/// # Errors
/// Anything else, with the whole text, the reason and the way out.
pub fn parse_ports(text: &str) -> Result<PortSet, SpecError> {
    parse(text, &[Protocol::TCP])
}

/// Reads a list of ports: as [`parse_ports`], but items before any letter count for all of these protocols.
///
/// # Errors
/// As [`parse_ports`].
pub fn parse_ports_of(text: &str, unqualified: &[Protocol]) -> Result<PortSet, SpecError> {
    parse(text, unqualified)
}

/// Reads a list of ports to exclude: as [`parse_ports`], but items before any `T:`, `U:` or `S:` count for all three
/// protocols. Who excludes 53 and scans UDP does not want 53 probed.
///
/// # Errors
/// As [`parse_ports`].
pub fn parse_excluded_ports(text: &str) -> Result<PortSet, SpecError> {
    parse(text, &[Protocol::TCP, Protocol::UDP, Protocol::SCTP])
}

/// The places of ports in a list of them, found by runs of consecutive numbers: most lists have few.
#[derive(Debug, Clone, Default)]
pub struct Places {
    runs: Box<[Run]>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    first: Port,
    last: u16,
    /// Where the first stands.
    place: usize,
}

impl Places {
    /// The places of ports that ascend, none of them twice.
    pub fn new(ports: impl IntoIterator<Item = Port>) -> Places {
        let mut runs: Vec<Run> = Vec::new();
        for (place, port) in ports.into_iter().enumerate() {
            let follows = |run: &&mut Run| {
                run.first.protocol == port.protocol && run.last.checked_add(1) == Some(port.number)
            };
            match runs.last_mut().filter(follows) {
                Some(run) => run.last = port.number,
                None => runs.push(Run { first: port, last: port.number, place }),
            }
        }
        Places { runs: runs.into_boxed_slice() }
    }

    /// Where a port stands, if the list has it.
    #[inline]
    pub fn of(&self, port: Port) -> Option<usize> {
        let run = match &*self.runs {
            [run] => run,
            runs => &runs[runs.partition_point(|run| run.first <= port).checked_sub(1)?],
        };
        let inside =
            run.first.protocol == port.protocol && (run.first.number..=run.last).contains(&port.number);
        inside.then(|| run.place + usize::from(port.number - run.first.number))
    }
}

impl PortSet {
    /// The set of the given ports, in any order, repeated or not.
    pub fn from_unsorted(mut ports: Vec<Port>) -> PortSet {
        ports.sort_unstable();
        ports.dedup();
        PortSet { ports }
    }

    /// Number of ports, all protocols together.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Whether there is no port.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The ports, ascending by protocol, then number.
    pub fn as_slice(&self) -> &[Port] {
        &self.ports
    }

    /// The ports, ascending by protocol, then number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Port> + '_ {
        self.ports.iter().copied()
    }

    /// Whether a port is in the set. O(log n).
    pub fn contains(&self, port: Port) -> bool {
        self.ports.binary_search(&port).is_ok()
    }

    /// The ports that can be asked of an address of a family.
    #[must_use]
    pub fn of_family(&self, is_v6: bool) -> PortSet {
        PortSet { ports: self.iter().filter(|port| port.exists_in(is_v6)).collect() }
    }

    /// The ports in either set.
    #[must_use]
    pub fn union(&self, other: &PortSet) -> PortSet {
        PortSet::from_unsorted([self.as_slice(), other.as_slice()].concat())
    }

    /// The ports in this set that are not in the other.
    #[must_use]
    pub fn subtract(&self, other: &PortSet) -> PortSet {
        PortSet { ports: self.iter().filter(|&port| !other.contains(port)).collect() }
    }
}

/// The normal form, which [`parse_ports`] reads back: `22,80,443,8000-8100,U:53`.
impl fmt::Display for PortSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (letter, protocol) in LETTERS {
            let numbers: Vec<u16> =
                self.iter().filter(|port| port.protocol == protocol).map(|port| port.number).collect();
            // TCP comes first and is the default: it needs no letter.
            let mut prefix = if protocol == Protocol::TCP { String::new() } else { format!("{letter}:") };
            for run in numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
                match run {
                    [only] => write!(formatter, "{separator}{prefix}{only}")?,
                    [first, .., last] => write!(formatter, "{separator}{prefix}{first}-{last}")?,
                    [] => {}
                }
                separator = ",";
                prefix.clear();
            }
        }
        Ok(())
    }
}

/// The letters of the syntax, in the order of the normal form.
const LETTERS: [(char, Protocol); 5] = [
    ('T', Protocol::TCP),
    ('U', Protocol::UDP),
    ('S', Protocol::SCTP),
    ('I', Protocol::ICMP),
    ('P', Protocol::IP),
];

fn parse(text: &str, unqualified: &[Protocol]) -> Result<PortSet, SpecError> {
    let fail = |reason: Reason| reason.ports(text);
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(fail(Reason::Empty));
    }
    let mut one = [Protocol::TCP];
    let mut protocols = unqualified;
    let mut ports = Vec::new();
    for item in trimmed.strip_suffix(',').unwrap_or(trimmed).split(',') {
        let (letter, range) = split_letter(item.trim()).map_err(fail)?;
        if let Some(protocol) = letter {
            one = [protocol];
            protocols = &[];
        }
        let protocols = if protocols.is_empty() { &one[..] } else { protocols };
        let bytes = protocols == [Protocol::ICMP] || protocols == [Protocol::IP];
        let highest = if bytes { u16::from(u8::MAX) } else { u16::MAX };
        let (first, last) = parse_range(range, highest).map_err(fail)?;
        for &protocol in protocols {
            ports.extend((first..=last).map(|number| Port { protocol, number }));
        }
    }
    Ok(PortSet::from_unsorted(ports))
}

/// Splits `U:53` into the protocol and the range.
fn split_letter(item: &str) -> Result<(Option<Protocol>, &str), Reason> {
    let Some((letter, range)) = item.split_once(':') else { return Ok((None, item)) };
    let known = LETTERS
        .iter()
        .find(|(name, _)| letter.len() == 1 && letter.starts_with([*name, name.to_ascii_lowercase()]));
    match (known, letter) {
        (Some(&(_, protocol)), _) => Ok((Some(protocol), range)),
        (None, "O" | "o") => Ok((Some(Protocol::IP), range)),
        (None, _) => Err(Reason::PortProtocol(letter.into())),
    }
}

/// Reads `80`, `8000-8100`, `-100`, `8000-` or `-`. A range open below starts at 1, or at 0 for ICMP types and IP protocols.
fn parse_range(item: &str, highest: u16) -> Result<(u16, u16), Reason> {
    check_characters(item)?;
    let Some((first, last)) = item.split_once('-') else {
        let number = parse_number(item, highest)?;
        return Ok((number, number));
    };
    if last.contains('-') {
        return Err(Reason::PortText(item.into()));
    }
    let lowest = if highest == u16::MAX { 1 } else { 0 };
    let low = if first.is_empty() { lowest } else { parse_number(first, highest)? };
    let high = if last.is_empty() { highest } else { parse_number(last, highest)? };
    if high < low {
        return Err(Reason::Reversed(low.to_string().into(), high.to_string().into()));
    }
    Ok((low, high))
}

/// Refuses what other scanners read, or silently drop, with a reason of its own.
fn check_characters(item: &str) -> Result<(), Reason> {
    if item.is_empty() {
        return Err(Reason::EmptyPart(','));
    }
    if item.contains(['[', ']']) {
        return Err(Reason::PortBrackets);
    }
    if item.contains(['*', '?']) {
        return Err(Reason::PortWildcard);
    }
    if item.contains(|character: char| character.is_whitespace() || character == ';') {
        let parts = item.split(|character: char| character.is_whitespace() || character == ';');
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        return Err(Reason::PortSeparator(parts.join(",").into()));
    }
    if let Some(dash) = item.chars().find(|character| ('\u{2010}'..='\u{2015}').contains(character)) {
        return Err(Reason::Dash(dash));
    }
    Ok(())
}

fn parse_number(text: &str, highest: u16) -> Result<u16, Reason> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let hexadecimal = text.len() > 2 && text.starts_with(['0']) && text[1..].starts_with(['x', 'X']);
        let name = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.+".contains(&byte));
        return Err(match (hexadecimal, name) {
            (true, _) => Reason::Hexadecimal,
            (_, true) => Reason::PortName(text.into()),
            _ => Reason::PortText(text.into()),
        });
    }
    let stripped = text.trim_start_matches('0');
    if text.len() > 1 && stripped.len() < text.len() {
        let shown = if stripped.is_empty() { "0" } else { stripped };
        return Err(Reason::LeadingZero(text.into(), shown.into()));
    }
    match text.parse::<u16>() {
        Ok(number) if number <= highest => Ok(number),
        _ if highest == u16::MAX => Err(Reason::PortAbove(text.into())),
        _ => Err(Reason::TypeAbove(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> String {
        parse_ports(text).map_or_else(|error| error.to_string(), |ports| ports.to_string())
    }

    #[test]
    fn the_place_of_a_port_is_where_it_stands() {
        for text in ["80", "1-100", "-", "22,80,443", "T:1-3,7,9-11,U:1-3,53,65535,S:0,1", "65534-65535,U:0"]
        {
            let ports = parse_ports(text).expect("ports");
            let places = Places::new(ports.iter());
            for protocol in [Protocol::ICMP, Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
                for number in (0..200).chain(430..450).chain(65_530..=65_535) {
                    let port = Port { protocol, number };
                    assert_eq!(
                        places.of(port),
                        ports.as_slice().binary_search(&port).ok(),
                        "{text}: {port:?}"
                    );
                }
            }
        }
        assert_eq!(Places::new([]).of(Port { protocol: Protocol::TCP, number: 80 }), None);
    }

    #[test]
    fn what_nmap_masscan_and_naabu_agree_on_is_read() {
        for (text, expected, count) in [
            ("22", "22", 1),
            ("1-65535", "1-65535", 65535),
            ("-", "1-65535", 65535),
            ("0-65535", "0-65535", 65536),
            ("0-2", "0-2", 3),
            ("-20", "1-20", 20),
            ("65530-", "65530-65535", 6),
            ("80-", "80-65535", 65456),
            ("80,443,8000-8100", "80,443,8000-8100", 103),
            ("80,1000-2000,1234,4444", "80,1000-2000,4444", 1003),
            ("443,80,80", "80,443", 2),
            ("80,", "80", 1),
            ("80, 81", "80-81", 2),
            (" 80 ", "80", 1),
            ("U:53,T:21-25,80", "21-25,80,U:53", 7),
            ("T:80,U:53,443", "80,U:53,443", 3),
            ("80,443,100-200,u:53", "80,100-200,443,U:53", 104),
            ("U:53,80", "U:53,80", 2),
            ("80,U:53", "80,U:53", 2),
            ("S:38412,I:8", "S:38412,I:8", 2),
            ("I:-", "I:0-255", 256),
            ("P:1,6,17,o:47", "P:1,6,17,47", 4),
            ("80,P:-", "80,P:0-255", 257),
            ("T:-5,U:-5,s:-5", "1-5,U:1-5,S:1-5", 15),
        ] {
            assert_eq!(normal(text), expected, "{text}");
            assert_eq!(parse_ports(text).expect(text).len(), count, "{text}");
        }
    }

    #[test]
    fn what_is_broken_or_ambiguous_is_refused_with_the_way_out() {
        for (text, reason) in [
            ("", "it is empty"),
            ("  ", "it is empty"),
            (",80", "a part is empty"),
            (",", "a part is empty"),
            ("80,,443", "a part is empty"),
            ("T:", "a part is empty"),
            ("U:,53", "a part is empty"),
            ("80-70", "80-70 is backwards: did you mean 70-80?"),
            ("99999", "port 99999 is above 65535"),
            ("65536", "port 65536 is above 65535"),
            ("1-70000", "port 70000 is above 65535"),
            ("123456789012345678901234567890", "is above 65535"),
            ("80,http", "service names are not read ('http')"),
            ("http*", "wildcards are not read"),
            ("010", "010 could be octal or decimal: write 10"),
            ("00", "00 could be octal or decimal: write 0"),
            ("0x50", "hexadecimal is not read"),
            ("80 443", "ports are separated by commas only: write 80,443"),
            ("80;443", "ports are separated by commas only: write 80,443"),
            ("[1-30]", "bracketed ranges"),
            ("T:-5,U:[-10]", "bracketed ranges"),
            ("X:6", "'X:' names no protocol"),
            ("T:U:6", "is not a port"),
            ("I:256", "256 is above 255, the highest IP protocol and the highest ICMP type"),
            ("P:256", "256 is above 255, the highest IP protocol"),
            ("1-2-3", "'1-2-3' is not a port or a range"),
            ("--", "'--' is not a port or a range"),
            ("80\u{2013}90", "is not '-': retype it"),
            ("+80", "'+80' is not a port"),
            ("80/tcp", "'80/tcp' is not a port"),
            ("\u{1b}[0m80", "bracketed"),
            ("\u{661}", "is not a port"),
            ("-0", "1-0 is backwards"),
        ] {
            let shown = normal(text);
            assert!(shown.starts_with("cannot read ports '"), "{text}: {shown}");
            assert!(shown.contains(reason), "{text}: {shown}");
        }
    }

    #[test]
    fn an_exclusion_without_a_protocol_holds_for_all_of_them() {
        let ports = parse_ports("53,80,U:53,123,S:53").expect("ports");
        let without = |text: &str| ports.subtract(&parse_excluded_ports(text).expect(text)).to_string();
        assert_eq!(without("53"), "80,U:123");
        assert_eq!(without("T:53"), "80,U:53,123,S:53");
        assert_eq!(without("123,T:53"), "80,U:53,S:53");
    }

    #[test]
    fn sets_unite_and_subtract() {
        let a = parse_ports("1-10,U:5").expect("ports");
        let b = parse_ports("5-20").expect("ports");
        assert_eq!(a.union(&b).to_string(), "1-20,U:5");
        assert_eq!(a.subtract(&b).to_string(), "1-4,U:5");
        assert!(a.contains(Port { protocol: Protocol::UDP, number: 5 }));
        assert!(!b.contains(Port { protocol: Protocol::UDP, number: 5 }));
    }

    proptest! {
        #[test]
        fn the_normal_form_reads_back_to_the_same_set(ports in prop::collection::vec((0usize..4, any::<u16>()), 1..40)) {
            let ports = ports.into_iter().map(|(protocol, number)| {
                let protocol = LETTERS[protocol].1;
                let number = if protocol == Protocol::ICMP { number & 0xff } else { number };
                Port { protocol, number }
            });
            let set = PortSet::from_unsorted(ports.collect());
            prop_assert_eq!(parse_ports(&set.to_string()).expect("normal form"), set);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-0-9TUSI:,. a\u{e9}\\[\\]*x]{0,12}") {
            let _ = parse_ports(&text);
        }
    }
}
