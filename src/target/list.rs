//! [`TargetList`]: everything that command line arguments and target files name, before any policy.
//!
//! Invariant: keeps what was given as it was given: no set, no order, nothing resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::addresses::RangeList;
use super::error::{Reason, SpecError};
use super::spec::{Name, parse_part, parse_v6_address, split_list};
use super::{Port, Protocol};

/// Targets as given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetList {
    /// Addresses that get all ports of the plan.
    pub ranges: RangeList,
    /// Single (address, port) pairs.
    pub endpoints: Endpoints,
    /// Names to resolve; what they resolve to belongs into `ranges`.
    pub names: Vec<Name>,
}

/// Single (address, port) pairs, as given: in any order, possibly repeated. 8 bytes each for IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// The IPv4 pairs.
    pub v4: Vec<(u32, Port)>,
    /// The IPv6 pairs.
    pub v6: Vec<(u128, Port)>,
}

impl Endpoints {
    /// Adds a pair.
    pub fn push(&mut self, address: IpAddr, port: Port) {
        match address {
            IpAddr::V4(address) => self.v4.push((address.into(), port)),
            IpAddr::V6(address) => self.v6.push((address.into(), port)),
        }
    }

    /// Number of pairs, repeats counted each time.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Reads one command line argument: a spec, or a comma list of specs and names.
///
/// # Errors
/// As [`parse_spec`](super::parse_spec). The list may then hold the specs before the broken one.
pub fn parse_list(text: &str, list: &mut TargetList) -> Result<(), SpecError> {
    for part in split_list(text)? {
        let name = parse_part(part, &mut list.ranges).map_err(|reason| reason.target(part))?;
        list.names.extend(name);
    }
    Ok(())
}

/// Reads one entry of a target file: as [`parse_list`], and `192.0.2.1:443`, `[2001:db8::1]:443`, both with `/udp`
/// or `/sctp` behind if it is not TCP.
///
/// # Errors
/// As [`parse_list`].
pub fn parse_line(text: &str, list: &mut TargetList) -> Result<(), SpecError> {
    for part in split_list(text)? {
        match parse_part(part, &mut list.ranges) {
            Ok(name) => list.names.extend(name),
            Err(Reason::PortOutsideFile) => {
                let (address, port) = parse_endpoint(part).map_err(|reason| reason.target(part))?;
                list.endpoints.push(address, port);
            }
            Err(reason) => return Err(reason.target(part)),
        }
    }
    Ok(())
}

/// Reads `192.0.2.1:443` or `[2001:db8::1]:443/udp`.
fn parse_endpoint(text: &str) -> Result<(IpAddr, Port), Reason> {
    let split = match text.rfind("]:") {
        Some(bracket) => Some((&text[..=bracket], &text[bracket + 2..])),
        None => text.split_once(':'),
    };
    let (address, port) = split.ok_or(Reason::PortOnRange)?;
    let address = if address.starts_with('[') {
        let address: Ipv6Addr = parse_v6_address(address)?;
        if let Some(mapped) = address.to_ipv4_mapped() {
            return Err(Reason::Mapped(format!(", {mapped}").into()));
        }
        IpAddr::V6(address)
    } else {
        // A plain address only, but say what is wrong with the octets if it nearly is one.
        if address.contains(|character: char| !character.is_ascii_digit() && character != '.') {
            return Err(Reason::PortOnRange);
        }
        IpAddr::V4(Ipv4Addr::from(super::pattern::parse_address(address)?))
    };
    let (number, protocol) = match port.split_once('/') {
        None => (port, Protocol::TCP),
        Some((number, name)) => {
            let protocol = PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            (number, protocol.ok_or_else(|| Reason::EndpointPort(port.into()))?.1)
        }
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::EndpointPort(port.into()));
    }
    if number.len() > 1 && number.starts_with('0') {
        let rest = number.trim_start_matches('0');
        let decimal = if rest.is_empty() { "0" } else { rest };
        return Err(Reason::LeadingZero(number.into(), decimal.into()));
    }
    let number = number.parse().map_err(|_| Reason::PortAbove(number.into()))?;
    Ok((address, Port { protocol, number }))
}

const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::TCP), ("udp", Protocol::UDP), ("sctp", Protocol::SCTP)];

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<TargetList, String> {
        let mut list = TargetList::default();
        parse_line(text, &mut list).map_err(|error| error.to_string())?;
        Ok(list)
    }

    #[test]
    fn an_endpoint_is_an_address_and_a_port() {
        for (text, address, number, protocol) in [
            ("192.0.2.1:443", "192.0.2.1", 443, Protocol::TCP),
            ("192.0.2.1:53/udp", "192.0.2.1", 53, Protocol::UDP),
            ("192.0.2.1:0/TCP", "192.0.2.1", 0, Protocol::TCP),
            ("192.0.2.1:38412/sctp", "192.0.2.1", 38412, Protocol::SCTP),
            ("[2001:db8::1]:65535", "2001:db8::1", 65535, Protocol::TCP),
            ("[2001:db8::1]:53/udp", "2001:db8::1", 53, Protocol::UDP),
        ] {
            let mut expected = Endpoints::default();
            expected.push(address.parse().expect("address"), Port { protocol, number });
            let list = line(text).expect(text);
            assert_eq!(list.endpoints, expected, "{text}");
            assert!(list.ranges.is_empty() && list.names.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_broken_endpoint_is_refused_with_the_way_out() {
        for (text, reason) in [
            ("192.0.2.1:T:80", "is not an IPv6 address"),
            ("192.0.2.1:", "'' is not a port"),
            ("192.0.2.1:http", "'http' is not a port"),
            ("192.0.2.1:80-90", "'80-90' is not a port"),
            ("192.0.2.1:80/ddp", "'80/ddp' is not a port"),
            ("192.0.2.1:080", "080 could be octal or decimal: write 80"),
            ("192.0.2.1:65536", "port 65536 is above 65535"),
            ("192.0.2.300:80", "octet 300 is above 255"),
            ("192.0.2.0/24:80", "a port goes with one IPv4 address"),
            ("192.0.2.1-9:80", "a port goes with one IPv4 address"),
            ("example.org:80", "a port goes with one IPv4 address"),
            ("[2001:db8::/64]:80", "is not an IPv6 address"),
            ("[::ffff:1.2.3.4]:80", "write the IPv4 address itself, 1.2.3.4"),
            ("192.0.2.1:80,443", "write 0.0.1.187"),
        ] {
            let shown = line(text).expect_err(text);
            assert!(shown.contains(reason), "{text}: {shown}");
        }
    }

    #[test]
    fn a_list_mixes_addresses_names_and_endpoints() {
        let list =
            line("192.0.2.1,example.org/24,[2001:db8::1]:53/udp,2001:db8::/64,192.0.2.9:80").expect("list");
        assert_eq!((list.ranges.v4.len(), list.ranges.v6.len()), (1, 1));
        assert_eq!((list.endpoints.len(), list.names.len()), (2, 1));
        assert_eq!(list.names[0].prefix, Some(24));
    }

    #[test]
    fn an_endpoint_on_the_command_line_is_refused() {
        let error = parse_list("192.0.2.1,192.0.2.1:80", &mut TargetList::default()).expect_err("endpoint");
        assert!(error.to_string().contains("give the port with -p"), "{error}");
    }
}
