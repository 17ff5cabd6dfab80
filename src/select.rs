//! Expressions over results: `--where` and, in zmap's words, `--output-filter`.
//!
//! ```text
//! expression = conjunction { ("||" | "or") conjunction }
//! conjunction = negation { ("&&" | "and") negation }
//! negation = ("!" | "not") negation | "(" expression ")" | field operator value
//! operator = "=" | "==" | "!=" | "<" | "<=" | ">" | ">="
//! ```
//!
//! A value is a number, a word, a quoted text, an address, a prefix (`ip = 192.0.2.0/24`) or a time
//! (`time >= 2026-11-21T00:00:00Z`). Text is compared by `=` and `!=` only.
//!
//! Invariant: a pure function of a record; what is wrong is found when the text is read, never while records pass.

use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::event::{Proof, Reason, Record, State};
use crate::target::Protocol;

/// An expression that was read and checked.
#[derive(Debug, Clone)]
pub struct Expression(Node);

#[derive(Debug, Clone)]
enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Not(Box<Node>),
    Number(NumberOf, Operator, u64),
    Text(TextOf, bool, String),
    Prefix(AddressOf, bool, IpNet),
    /// Addresses compared by their number; one of the other family is neither below nor above.
    Address(AddressOf, Operator, IpAddr),
}

type NumberOf = fn(&Record) -> u64;
type AddressOf = fn(&Record) -> IpAddr;

#[derive(Debug, Clone, Copy, PartialEq)]
enum TextOf {
    Protocol,
    State,
    Reason,
    Proof,
    Classification,
    Service,
    Mac,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    fn holds<T: PartialOrd>(self, one: &T, other: &T) -> bool {
        match self {
            Operator::Equal => one == other,
            Operator::NotEqual => one != other,
            Operator::Less => one < other,
            Operator::LessOrEqual => one <= other,
            Operator::Greater => other < one,
            Operator::GreaterOrEqual => other <= one,
        }
    }
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong and where, with the fields or words there are.
    pub fn parse(text: &str) -> Result<Expression, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        let node = parser.any()?;
        match parser.tokens.get(parser.at) {
            None => Ok(Expression(node)),
            Some(token) => Err(format!("'{}' stands where the expression should end", token.shown())),
        }
    }

    /// Whether it holds for a verdict, or for bytes of a service.
    pub fn holds(&self, record: &Record, service: Option<&str>) -> bool {
        self.0.holds(record, service)
    }
}

impl std::str::FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Expression, String> {
        Expression::parse(text)
    }
}

impl Node {
    fn holds(&self, record: &Record, service: Option<&str>) -> bool {
        match self {
            Node::Any(nodes) => nodes.iter().any(|node| node.holds(record, service)),
            Node::All(nodes) => nodes.iter().all(|node| node.holds(record, service)),
            Node::Not(node) => !node.holds(record, service),
            Node::Number(number, operator, value) => operator.holds(&number(record), value),
            Node::Text(text, equal, value) => text.is(record, service, value) == *equal,
            Node::Prefix(address, inside, net) => net.contains(&address(record)) == *inside,
            Node::Address(address, operator, value) => {
                let address = address(record);
                let same = address.is_ipv4() == value.is_ipv4();
                (same || *operator == Operator::NotEqual) && operator.holds(&address, value)
            }
        }
    }
}

impl TextOf {
    fn is(self, record: &Record, service: Option<&str>, value: &str) -> bool {
        match self {
            TextOf::Protocol => Protocol::from_name(value) == Some(record.protocol),
            TextOf::State => record.state.name() == value,
            TextOf::Reason => record.reason.name() == value,
            TextOf::Proof => record.proof.name() == value,
            TextOf::Classification => classification(record) == value,
            TextOf::Service => service == Some(value),
            TextOf::Mac => record.mac().is_some_and(|mac| {
                let octets: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
                octets.join(":").eq_ignore_ascii_case(value)
            }),
        }
    }

    /// Refuses a word that no record can have: a misspelt state would select nothing, silently.
    fn check(self, value: &str) -> Result<(), String> {
        let known: Vec<&str> = match self {
            TextOf::State => State::ALL.iter().map(|state| state.name()).collect(),
            TextOf::Proof => Proof::ALL.iter().map(|proof| proof.name()).collect(),
            TextOf::Reason => Reason::ALL.iter().map(|(_, name)| *name).collect(),
            TextOf::Protocol if Protocol::from_name(value).is_none() => {
                Protocol::NAMED.iter().filter_map(|protocol| protocol.name()).collect()
            }
            TextOf::Classification => CLASSIFICATIONS.to_vec(),
            TextOf::Protocol | TextOf::Service | TextOf::Mac => return Ok(()),
        };
        if known.contains(&value) {
            return Ok(());
        }
        Err(format!("'{}' is none of {}", value.escape_debug(), known.join(", ")))
    }
}

/// zmap's words for the kinds of reply.
const CLASSIFICATIONS: [&str; 6] = ["synack", "rst", "udp", "echoreply", "icmp", "other"];

/// zmap's word for the reply of a record.
pub fn classification(record: &Record) -> &'static str {
    match record.reason {
        Reason::SYN_ACK => "synack",
        Reason::RESET => "rst",
        Reason::UDP_RESPONSE => "udp",
        Reason::ECHO_REPLY => "echoreply",
        Reason(number) if (Reason::NET_UNREACH.0..=Reason::PARAM_PROBLEM.0).contains(&number) => "icmp",
        _ if record.protocol == Protocol::TCP && record.state == State::Open => "synack",
        _ => "other",
    }
}

/// Fields that are numbers. zmap's names stand beside ours.
const NUMBERS: &[(&[&str], NumberOf)] = &[
    (&["port", "sport"], |record| record.port.into()),
    (&["ttl"], |record| record.ttl.into()),
    (&["win", "window"], |record| record.window.into()),
    (&["mss", "tcpopt_mss"], |record| record.mss.into()),
    (&["ipid"], |record| record.ip_id.into()),
    (&["rtt_us"], |record| record.rtt_us.into()),
    (&["pass"], |record| record.pass.into()),
    (&["flags"], |record| record.flags.into()),
    (&["time", "ts"], |record| record.time_ns),
    (&["timestamp_ts"], |record| record.time_ns / 1_000_000_000),
    (&["timestamp_us"], |record| record.time_ns / 1000 % 1_000_000),
    (&["success", "app_success"], |record| u64::from(matches!(record.state, State::Open | State::Up))),
    // What repeats a verdict is counted and never written, and what comes while waiting is like every other.
    (&["repeat", "cooldown"], |_| 0),
];

const TEXTS: &[(&[&str], TextOf)] = &[
    (&["proto", "protocol"], TextOf::Protocol),
    (&["state"], TextOf::State),
    (&["reason"], TextOf::Reason),
    (&["proof"], TextOf::Proof),
    (&["classification"], TextOf::Classification),
    (&["service"], TextOf::Service),
    (&["mac"], TextOf::Mac),
];

const ADDRESSES: &[(&[&str], AddressOf)] =
    &[(&["ip", "saddr"], Record::address), (&["responder", "icmp_responder"], Record::responder)];

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Sign(&'static str),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Token::Word(text) | Token::Quoted(text) => text.escape_debug().to_string(),
            Token::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// Longest first, so that `<=` is not read as `<`.
const SIGNS: [&str; 12] = ["&&", "||", "==", "!=", "<=", ">=", "=", "<", ">", "!", "(", ")"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if matches!(first, '"' | '\'') {
            let (quoted, after) =
                rest[1..].split_once(first).ok_or_else(|| format!("a {first} is not closed"))?;
            tokens.push(Token::Quoted(quoted.to_owned()));
            rest = after;
        } else {
            // `open|filtered` is a word: one bar joins, two divide.
            let mut end = rest.len();
            let characters: Vec<(usize, char)> = rest.char_indices().collect();
            for (index, (at, character)) in characters.iter().enumerate() {
                let next = characters.get(index + 1).map(|(_, next)| *next);
                let bars = *character == '|' && next == Some('|');
                if character.is_whitespace() || "=!<>()&\"'".contains(*character) || bars {
                    end = *at;
                    break;
                }
            }
            if end == 0 {
                return Err(format!("'{}' begins no word and no sign", first.escape_debug()));
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn accept(&mut self, words: &[&str]) -> bool {
        let found = match self.tokens.get(self.at) {
            Some(Token::Sign(sign)) => words.contains(sign),
            Some(Token::Word(word)) => words.iter().any(|known| word.eq_ignore_ascii_case(known)),
            _ => false,
        };
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.all()?];
        while self.accept(&["||", "or"]) {
            nodes.push(self.all()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn all(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.not()?];
        while self.accept(&["&&", "and"]) {
            nodes.push(self.not()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn not(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if MAX_DEPTH < self.depth {
            return Err(format!("it is nested deeper than {MAX_DEPTH}"));
        }
        let node = if self.accept(&["!", "not"]) {
            Node::Not(Box::new(self.not()?))
        } else if self.accept(&["("]) {
            let node = self.any()?;
            if !self.accept(&[")"]) {
                return Err("a ( is not closed".into());
            }
            node
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, String> {
        let field = match self.tokens.get(self.at) {
            Some(Token::Word(word)) => word.to_ascii_lowercase(),
            Some(token) => return Err(format!("'{}' stands where a field should", token.shown())),
            None => return Err("it ends where a field should stand".into()),
        };
        let operator = match self.tokens.get(self.at + 1) {
            Some(Token::Sign("=" | "==")) => Operator::Equal,
            Some(Token::Sign("!=")) => Operator::NotEqual,
            Some(Token::Sign("<")) => Operator::Less,
            Some(Token::Sign("<=")) => Operator::LessOrEqual,
            Some(Token::Sign(">")) => Operator::Greater,
            Some(Token::Sign(">=")) => Operator::GreaterOrEqual,
            _ => return Err(format!("behind '{}' one of = != < <= > >= should stand", field.escape_debug())),
        };
        let value = match self.tokens.get(self.at + 2) {
            Some(Token::Word(text) | Token::Quoted(text)) => text.clone(),
            _ => return Err(format!("'{field}' is compared to nothing")),
        };
        self.at += 3;
        compare(&field, operator, &value).map_err(|cause| format!("{field}: {cause}"))
    }
}

/// A comparison of a field, checked.
fn compare(field: &str, operator: Operator, value: &str) -> Result<Node, String> {
    let named = |names: &&[&str]| names.contains(&field);
    if let Some((names, number)) = NUMBERS.iter().find(|(names, _)| named(names)) {
        let time = (names[0] == "time").then(|| nanoseconds(value)).flatten();
        let number_of = value.parse().ok().filter(|_| names[0] != "time").or(time);
        let value =
            number_of.ok_or_else(|| format!("'{}' is no {}", value.escape_debug(), kind(names[0])))?;
        return Ok(Node::Number(*number, operator, value));
    }
    if let Some((_, address)) = ADDRESSES.iter().find(|(names, _)| named(names)) {
        if let Ok(value) = value.parse() {
            return Ok(Node::Address(*address, operator, value));
        }
        let net: IpNet =
            value.parse().map_err(|_| format!("'{}' is no address and no prefix", value.escape_debug()))?;
        return Ok(Node::Prefix(*address, equality(operator, &net)?, net));
    }
    if let Some((_, text)) = TEXTS.iter().find(|(names, _)| named(names)) {
        let equal = equality(operator, &value)?;
        text.check(value)?;
        return Ok(Node::Text(*text, equal, value.to_owned()));
    }
    let names = NUMBERS.iter().map(|(names, _)| names).chain(ADDRESSES.iter().map(|(names, _)| names));
    let names: Vec<&str> = names.chain(TEXTS.iter().map(|(names, _)| names)).map(|names| names[0]).collect();
    Err(format!("there is no such field; there are {}", names.join(", ")))
}

fn kind(field: &str) -> &'static str {
    if field == "time" { "time; write 2026-11-21T00:00:00Z, or seconds since 1970" } else { "number" }
}

/// Whether it is `=`; other operators than `=` and `!=` make no sense for text.
fn equality(operator: Operator, value: &dyn Display) -> Result<bool, String> {
    match operator {
        Operator::Equal => Ok(true),
        Operator::NotEqual => Ok(false),
        _ => Err(format!("'{value}' is compared by = and != only")),
    }
}

/// Nanoseconds since the Unix epoch of seconds, or of a time in RFC 3339.
fn nanoseconds(text: &str) -> Option<u64> {
    let seconds: Option<u64> = text.parse().ok();
    seconds.map_or_else(|| crate::text::parse_time(text), |seconds| seconds.checked_mul(1_000_000_000))
}

const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Port, Target};

    fn record() -> Record {
        let address: IpAddr = "192.0.2.7".parse().expect("an address");
        let target = Target { address, port: Port { protocol: Protocol::TCP, number: 443 } };
        let mut record = Record::new(target, address, State::Open, Reason::SYN_ACK);
        (record.time_ns, record.ttl) = (1_795_219_200_000_000_000, 57);
        record
    }

    fn holds(text: &str) -> bool {
        Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&record(), None)
    }

    #[test]
    fn comparisons_hold_or_do_not() {
        for text in [
            "port = 443",
            "sport==443 && success = 1 && repeat = 0",
            "ip = 192.0.2.0/24",
            "ip=192.0.2.7",
            "192 != 1 or port=443".trim_start_matches("192 != 1 or "),
            "state = open and proto = tcp",
            "state != \"open|filtered\"",
            "state != open|filtered",
            "not state = closed",
            "!(port < 443) and port <= 443 and port >= 443 and !(port > 443)",
            "port = 1 || port = 443",
            "time >= 2026-11-21T00:00:00Z && time < 2026-11-21T00:00:01Z",
            "time = 1795219200",
            "classification = synack",
            "ip < 192.0.2.8 and ip > 192.0.2.6 and ip != 2001:db8::1",
            "responder = 192.0.2.7",
            "PORT = 443 AND Ttl = 57",
        ] {
            assert!(holds(text), "{text}");
        }
        for text in
            ["port = 80", "ip = 198.18.0.0/15", "ip != 192.0.2.0/24", "ip < 2001:db8::1", "service = ssh"]
        {
            assert!(!holds(text), "{text}");
        }
        let ssh = Expression::parse("service = ssh").expect("parses");
        assert!(ssh.holds(&record(), Some("ssh")));
    }

    #[test]
    fn what_cannot_hold_is_refused_by_name() {
        for (text, part) in [
            ("", "ends where"),
            ("prot = tcp", "no such field"),
            ("state = opened", "none of"),
            ("state < open", "= and !="),
            ("port = http", "no number"),
            ("ip = 300.0.0.1", "no address"),
            ("port", "should stand"),
            ("port =", "nothing"),
            ("(port = 1", "not closed"),
            ("port = 1)", "should end"),
            ("port = 1 port = 2", "should end"),
            ("state = \"open", "not closed"),
            ("& port = 1", "begins no word"),
            ("time = yesterday", "2026-11-21"),
        ] {
            let error = Expression::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Expression::parse(&"(".repeat(100_000)).is_err());
    }
}
