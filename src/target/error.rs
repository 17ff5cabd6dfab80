//! [`SpecError`]: what could not be read, why, and the way out. One sentence, fit for a terminal.
//!
//! Invariant: text from the user or a file is shown escaped and cut short, so that no byte of it reaches a
//! terminal raw.

use std::fmt;
use std::net::Ipv4Addr;

use thiserror::Error;

/// A target or port spec that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot read {subject} '{text}': {reason}")]
pub struct SpecError {
    /// What was being read.
    pub subject: Subject,
    /// The text, as given.
    pub text: Quoted,
    /// Why it cannot be read, and the way out.
    pub reason: Reason,
}

/// What a spec describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An address, a range, a block, a name.
    Target,
    /// A list of ports.
    Ports,
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Subject::Target => "target",
            Subject::Ports => "ports",
        })
    }
}

/// Why a spec cannot be read. Displays as the second half of a sentence that ends with the way out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// No text at all.
    #[error("it is empty")]
    Empty,
    /// Two separators with nothing between them, or one at an end.
    #[error("a part is empty: something is missing beside '{0}', or that character is one too many")]
    EmptyPart(char),
    /// An octet above 255.
    #[error("octet {0} is above 255")]
    OctetAbove(Quoted),
    /// A number with a leading zero, which some programs read as octal.
    #[error("{0} could be octal or decimal: write {1}")]
    LeadingZero(Quoted, Quoted),
    /// Fewer or more than four octets.
    #[error("an IPv4 address has 4 octets, this has {0}: short forms are not read, write all four")]
    OctetCount(usize),
    /// An address as a single number, as inet_aton reads it.
    #[error("an address written as one number is not read: write {0}")]
    SingleNumber(Ipv4Addr),
    /// A hexadecimal number.
    #[error("hexadecimal is not read here: write decimal numbers")]
    Hexadecimal,
    /// A prefix length longer than the address.
    #[error("prefix length {0} is above {1}")]
    PrefixAbove(Quoted, u8),
    /// Something after the slash that is not a prefix length.
    #[error("'{0}' is not a prefix length: write a decimal number from 0 to {1}, such as /24")]
    PrefixText(Quoted, u8),
    /// A prefix length on something other than one address.
    #[error(
        "a prefix length goes with one address, not with a range, list or pattern: write the blocks one by one"
    )]
    PrefixOnRange,
    /// A range whose end is below its start.
    #[error("{0}-{1} is backwards: did you mean {1}-{0}?")]
    Reversed(Quoted, Quoted),
    /// A range that starts in one address family and ends in the other.
    #[error("a range begins and ends in the same address family")]
    MixedFamilies,
    /// More than one dash between addresses, or half a range.
    #[error("a range is written first-last, both whole addresses: '{0}' is not one")]
    RangeEnd(Quoted),
    /// An IPv6 zone.
    #[error("zones (%...) are not supported: a zone names an interface of this machine, choose it with -e")]
    Zone,
    /// An IPv4 address in IPv6 clothes.
    #[error("IPv4-mapped IPv6 addresses never leave a host: write the IPv4 address itself{0}")]
    Mapped(Quoted),
    /// Not an IPv6 address.
    #[error("'{0}' is not an IPv6 address")]
    NotIpv6(Quoted),
    /// Brackets that do not pair up around an address.
    #[error("brackets go around one whole IPv6 address, such as [2001:db8::1]")]
    Brackets,
    /// A comma list that can be read in two ways.
    #[error(
        "'{0}' could belong to the address before or after it: write whole addresses, or separate specs by spaces"
    )]
    AmbiguousList(Quoted),
    /// An octet pattern that is too scattered to expand.
    #[error(
        "it expands to {0} separate ranges, above the limit of {1}: write it as CIDR blocks or full ranges"
    )]
    TooManyRanges(u64, u64),
    /// A character that has no place in any spec.
    #[error("{0:?} has no place in a target: write an address, a block, a range or a name")]
    Character(char),
    /// A dash from a word processor.
    #[error("the dash {0:?} is not '-': retype it")]
    Dash(char),
    /// Something that looks like a name but cannot be one.
    #[error("it is neither an address nor a valid host name: {0}")]
    BadName(&'static str),
    /// A URL.
    #[error("a URL is not a target: give its host name or address alone")]
    Url,
    /// A number of an autonomous system.
    #[error("autonomous systems are not looked up: give their prefixes, for instance with -iL FILE")]
    AutonomousSystem,
    /// A name in a list of addresses.
    #[error("a name cannot stand in a list of addresses here: give it as a target of its own")]
    NameInList,
    /// `address:port` where only addresses go.
    #[error("address:port belongs into a target file (-iL FILE): here, give the port with -p")]
    PortOutsideFile,
    /// `spec:port` where the spec is not one address.
    #[error("a port goes with one IPv4 address or one bracketed IPv6 address, such as 192.0.2.1:443")]
    PortOnRange,
    /// A port in a target file that is not a number.
    #[error(
        "'{0}' is not a port: write a number from 0 to 65535, and /udp or /sctp behind it if it is not TCP"
    )]
    EndpointPort(Quoted),
    /// An entry in a file that is longer than any spec.
    #[error("an entry longer than {0} bytes: put specs on lines of their own")]
    TooLong(usize),
    /// Bytes that are not text.
    #[error("it is not UTF-8 text")]
    NotText,

    /// A port above 65535.
    #[error("port {0} is above 65535")]
    PortAbove(Quoted),
    /// An ICMP type or an IP protocol above 255.
    #[error("{0} is above 255, the highest IP protocol and the highest ICMP type")]
    TypeAbove(Quoted),
    /// A service name.
    #[error("service names are not read ('{0}'): write port numbers, or --top-ports N")]
    PortName(Quoted),
    /// Something that is neither number nor name.
    #[error("'{0}' is not a port or a range of ports: write 80, 8000-8100, or - for all")]
    PortText(Quoted),
    /// A separator other than a comma.
    #[error("ports are separated by commas only: write {0}")]
    PortSeparator(Quoted),
    /// A range in brackets: nmap's "those known in this range".
    #[error(
        "bracketed ranges depend on a list of known services: write the range without brackets, or --top-ports N"
    )]
    PortBrackets,
    /// A wildcard.
    #[error("wildcards are not read in ports: write a range, or - for all")]
    PortWildcard,
    /// A protocol letter that is not known.
    #[error("'{0}:' names no protocol: T: is TCP, U: is UDP, S: is SCTP, I: is ICMP (by type)")]
    PortProtocol(Quoted),
    /// More ports asked for than the ranked list has.
    #[error("the list of top ports has {0}: ask for 1 to {0}")]
    TopPorts(usize),
}

impl Reason {
    pub(super) fn target(self, text: &str) -> SpecError {
        SpecError { subject: Subject::Target, text: text.into(), reason: self }
    }

    pub(super) fn ports(self, text: &str) -> SpecError {
        SpecError { subject: Subject::Ports, text: text.into(), reason: self }
    }
}

/// Text from outside, kept as it is and displayed with control characters escaped, 60 characters at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(pub Box<str>);

impl From<&str> for Quoted {
    fn from(text: &str) -> Quoted {
        Quoted(text.into())
    }
}

impl From<String> for Quoted {
    fn from(text: String) -> Quoted {
        Quoted(text.into())
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(60) {
            if character == '\'' || character == '"' {
                write!(formatter, "{character}")?;
            } else {
                write!(formatter, "{}", character.escape_debug())?;
            }
        }
        formatter.write_str(if characters.next().is_some() { "..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_spec_and_the_reason() {
        let error = Reason::OctetAbove("300".into()).target("10.0.0.300");
        assert_eq!(error.to_string(), "cannot read target '10.0.0.300': octet 300 is above 255");
    }

    #[test]
    fn hostile_text_is_escaped_and_cut() {
        let error = Reason::Empty.target(&format!("\u{1b}[2J{}", "x".repeat(500)));
        let shown = error.to_string();
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(shown.len() < 120, "{shown}");
        let error = Reason::EndpointPort("\u{1b}]0;\u{7}".into()).target("x");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}
