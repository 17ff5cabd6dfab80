//! Names of services by port: a guess, as other scanners print it beside an open port. The common ones are built in, so
//! that results read the same everywhere; the rest comes from `/etc/services` where there is one.
//!
//! Invariant: a name holds letters, digits, `-`, `.`, `_` and `+` only, whatever the file says.

use std::collections::HashMap;
use std::fs;

use crate::target::Protocol;

/// Port to name.
pub(super) struct Services {
    local: HashMap<(u16, Protocol), Box<str>>,
}

impl Services {
    /// The names this host knows. Without the file only the built-in ones.
    pub(super) fn read() -> Services {
        Services { local: parse(&fs::read_to_string("/etc/services").unwrap_or_default()) }
    }

    /// The name of a port; `None` when nobody knows one.
    pub(super) fn name(&self, protocol: Protocol, port: u16) -> Option<&str> {
        let known = COMMON.iter().find(|(number, of, _)| *number == port && of.contains(&protocol));
        let known = known.map(|(_, _, name)| *name);
        known.or_else(|| self.local.get(&(port, protocol)).map(|name| &**name))
    }
}

/// The lines of services(5): `name port/protocol aliases # comment`. The first name of a port counts.
fn parse(text: &str) -> HashMap<(u16, Protocol), Box<str>> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(name), Some((port, protocol))) =
            (words.next(), words.next().and_then(|word| word.split_once('/')))
        else {
            continue;
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
        let harmless = name.len() <= 40 && name.bytes().all(plain);
        if let (Ok(port), Some(protocol), true) = (port.parse(), Protocol::from_name(protocol), harmless) {
            names.entry((port, protocol)).or_insert_with(|| name.into());
        }
    }
    names
}

const TCP: &[Protocol] = &[Protocol::TCP];
const UDP: &[Protocol] = &[Protocol::UDP];
const BOTH: &[Protocol] = &[Protocol::TCP, Protocol::UDP];

/// Assignments of the IANA registry that scans meet most often.
const COMMON: &[(u16, &[Protocol], &str)] = &[
    (21, TCP, "ftp"),
    (22, TCP, "ssh"),
    (23, TCP, "telnet"),
    (25, TCP, "smtp"),
    (53, BOTH, "domain"),
    (67, UDP, "bootps"),
    (69, UDP, "tftp"),
    (80, TCP, "http"),
    (110, TCP, "pop3"),
    (111, BOTH, "sunrpc"),
    (123, UDP, "ntp"),
    (143, TCP, "imap2"),
    (161, BOTH, "snmp"),
    (389, BOTH, "ldap"),
    (443, BOTH, "https"),
    (445, TCP, "microsoft-ds"),
    (500, UDP, "isakmp"),
    (514, UDP, "syslog"),
    (587, TCP, "submission"),
    (631, BOTH, "ipp"),
    (993, TCP, "imaps"),
    (995, TCP, "pop3s"),
    (1433, TCP, "ms-sql-s"),
    (2049, BOTH, "nfs"),
    (3306, TCP, "mysql"),
    (3389, TCP, "ms-wbt-server"),
    (5060, BOTH, "sip"),
    (5432, TCP, "postgresql"),
    (8080, TCP, "http-alt"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_and_what_could_harm_an_output_is_not() {
        let names = parse(
            "# comment\nssh 22/tcp\necho\t7/tcp ping # x\necho2 7/tcp\nbad/name 8/tcp\n\u{1b}[2J 9/tcp\nx y\n",
        );
        assert_eq!(names.get(&(7, Protocol::TCP)).map(|name| &**name), Some("echo"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn built_in_names_need_no_file() {
        let services = Services { local: HashMap::new() };
        assert_eq!(services.name(Protocol::UDP, 53), Some("domain"));
        assert_eq!(services.name(Protocol::UDP, 22), None);
    }
}
