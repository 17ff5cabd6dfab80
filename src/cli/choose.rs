//! Which ports are asked, and by which probes: from the options to a [`PortSet`] and one probe for each of its protocol
//! numbers.

use std::sync::Arc;

use super::build::BuildError;
use super::{Args, udp};
use crate::probe::{self, Probe, Tcp, UdpPayloads};
use crate::target::{
    Endpoints, Port, PortSet, Protocol, SpecError, parse_excluded_ports, parse_ports_of, top_ports,
};

/// What is asked of every address.
pub(super) struct Choice {
    /// Ports and questions, under the numbers of the plan.
    pub(super) ports: PortSet,
    /// The probes: one for each protocol number among the ports and endpoints.
    pub(super) probes: Vec<Arc<dyn Probe>>,
    /// The probe of UDP ports, if there are any.
    pub(super) udp: Option<Arc<UdpPayloads>>,
    /// The ports and questions in words.
    pub(super) about: String,
}

/// Reads the options. `endpoints` are targets that bring ports of their own; with `needed` there must be ports for the
/// others.
///
/// # Errors
/// [`BuildError::Usage`] for what cannot be read or probed, and for kinds that exclude each other.
pub(super) fn choose(args: &Args, endpoints: &Endpoints, needed: bool) -> Result<Choice, BuildError> {
    let kinds = Kinds::read(args)?;
    let scanned = if args.probes.hosts_only { hosts_only(args)? } else { scanned_ports(args, &kinds)? };
    let discovery = discovery(args)?;
    let ports = scanned.union(&discovery.ports);
    if ports.is_empty() && needed {
        return usage(if args.ports.is_empty() {
            "no ports: say -p 80,443, -p - for all, or --top-ports 20".into()
        } else {
            "no ports left: --exclude-ports removes all of them".into()
        });
    }
    let of_endpoints =
        endpoints.v4.iter().map(|(_, port)| *port).chain(endpoints.v6.iter().map(|(_, port)| *port));
    let mut probes = probes(ports.iter().chain(of_endpoints), &kinds)?;
    // UDP ports become a target for each of their questions.
    let udp = match probes.iter().position(|probe| probe.protocols().contains(&Protocol::UDP)) {
        Some(place) => {
            let probe = udp::probe(&args.udp)?;
            probes[place] = probe.clone();
            Some(probe)
        }
        None => None,
    };
    let ports = udp.as_ref().map_or_else(|| ports.clone(), |probe| udp::expand(probe, &ports));
    let about: Vec<String> = [scanned.to_string(), kinds.about(), discovery.about]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    Ok(Choice { ports, probes, udp, about: about.join(" ") })
}

/// The discovery part of the same options: what `--discover-first` sweeps with.
///
/// # Errors
/// As [`choose`].
pub(super) fn hosts(args: &Args) -> Result<Choice, BuildError> {
    let discovery = discovery(args)?;
    let probes = probes(discovery.ports.iter(), &Kinds::read(args)?)?;
    Ok(Choice { ports: discovery.ports, probes, udp: None, about: discovery.about })
}

fn usage<T>(text: String) -> Result<T, BuildError> {
    Err(BuildError::Usage(text))
}

fn say(error: SpecError) -> BuildError {
    BuildError::Usage(error.to_string())
}

/// The kinds of scan, by what they share: one TCP kind, one SCTP kind.
struct Kinds {
    tcp: Option<Arc<dyn Probe>>,
    sctp: Option<Arc<dyn Probe>>,
    udp: bool,
    ip: bool,
    icmp: bool,
    /// Questions to the link.
    links: Vec<Protocol>,
}

impl Kinds {
    fn read(args: &Args) -> Result<Kinds, BuildError> {
        let mut kinds =
            Kinds { tcp: None, sctp: None, udp: false, ip: false, icmp: false, links: Vec::new() };
        for name in &args.probes.scan {
            let probe = by_name(name)?;
            match probe.protocols()[0] {
                Protocol::TCP => one(&mut kinds.tcp, probe)?,
                Protocol::SCTP => one(&mut kinds.sctp, probe)?,
                Protocol::UDP => kinds.udp = true,
                Protocol::IP => kinds.ip = true,
                Protocol::ICMP => kinds.icmp = true,
                other => kinds.links.push(other),
            }
        }
        if args.probes.arp && !args.probes.hosts_only && !args.probes.discover_first {
            kinds.links.extend([Protocol::ARP, Protocol::ND]);
        }
        if let Some(flags) = args.probes.scanflags {
            let base = kinds.tcp.as_ref().map_or("syn", |probe| probe.name());
            let probe = Tcp::with_flags(base, flags).ok_or_else(|| {
                BuildError::Usage(format!("--scanflags goes with a TCP scan, which {base} is not"))
            })?;
            kinds.tcp = Some(Arc::new(probe));
        }
        Ok(kinds)
    }

    /// The protocols that ports without a letter belong to.
    fn unqualified(&self) -> Vec<Protocol> {
        let wanted = [
            (self.tcp.is_some(), Protocol::TCP),
            (self.udp, Protocol::UDP),
            (self.sctp.is_some(), Protocol::SCTP),
        ];
        let ports: Vec<Protocol> =
            wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, protocol)| protocol).collect();
        match (ports.is_empty(), self.ip) {
            (false, _) => ports,
            (true, true) => vec![Protocol::IP],
            (true, false) => vec![Protocol::TCP],
        }
    }

    /// The kinds of question that no port tells.
    fn about(&self) -> String {
        let names: Vec<String> = self.links.iter().map(Protocol::to_string).collect();
        names.join(", ")
    }
}

/// Takes a kind of which a scan has only one.
fn one(place: &mut Option<Arc<dyn Probe>>, probe: Arc<dyn Probe>) -> Result<(), BuildError> {
    match place.replace(probe) {
        Some(other) => {
            let second = place.as_ref().map_or("", |probe| probe.name());
            let first = other.name();
            if first == second {
                return Ok(());
            }
            usage(format!("--scan {first} and {second} ask the same ports; run them one after the other"))
        }
        None => Ok(()),
    }
}

fn by_name(name: &str) -> Result<Arc<dyn Probe>, BuildError> {
    probe::by_name(name).ok_or_else(|| BuildError::Usage(format!("this version has no probe '{name}'")))
}

/// The ports of the port scans.
fn scanned_ports(args: &Args, kinds: &Kinds) -> Result<PortSet, BuildError> {
    let mut removed = PortSet::default();
    for text in &args.exclude_ports {
        removed = removed.union(&parse_excluded_ports(text).map_err(say)?);
    }
    let (mut ports, unqualified) = (PortSet::default(), kinds.unqualified());
    for text in &args.ports {
        ports = ports.union(&parse_ports_of(text, &unqualified).map_err(say)?);
    }
    let whole = |protocol: Protocol, numbers: &mut dyn Iterator<Item = u16>| {
        PortSet::from_unsorted(numbers.map(|number| Port { protocol, number }).collect())
    };
    let has = |ports: &PortSet, protocol| ports.iter().any(|port| port.protocol == protocol);
    if kinds.ip && !has(&ports, Protocol::IP) {
        ports = ports.union(&whole(Protocol::IP, &mut (0..=255)));
    }
    if kinds.icmp && !has(&ports, Protocol::ICMP) {
        ports = ports.union(&whole(Protocol::ICMP, &mut std::iter::once(ECHO)));
    }
    for &protocol in &kinds.links {
        ports = ports.union(&whole(protocol, &mut std::iter::once(0)));
    }
    let mut ports = ports.subtract(&removed);
    if let Some(count) = args.top_ports {
        ports = ports.union(&top_ports(count, &removed).map_err(say)?);
    }
    Ok(ports)
}

/// No ports; whoever named some is told.
fn hosts_only(args: &Args) -> Result<PortSet, BuildError> {
    if !args.ports.is_empty() || args.top_ports.is_some() || !args.probes.scan.is_empty() {
        return usage("-sn finds hosts and scans no ports: leave ports and kinds of scan out, or -sn".into());
    }
    Ok(PortSet::default())
}

/// The questions of host discovery.
struct Discovery {
    ports: PortSet,
    about: String,
}

fn discovery(args: &Args) -> Result<Discovery, BuildError> {
    let asked = &args.probes;
    let icmp = [
        (asked.ping, ECHO, "echo"),
        (asked.ping_timestamp, TIMESTAMP, "timestamp"),
        (asked.ping_mask, ADDRESS_MASK, "address-mask"),
    ];
    let listed = [
        (&asked.ping_syn, Protocol::PING_SYN, "syn"),
        (&asked.ping_ack, Protocol::PING_ACK, "ack"),
        (&asked.ping_udp, Protocol::PING_UDP, "udp"),
        (&asked.ping_init, Protocol::PING_SCTP, "init"),
        (&asked.ping_ip, Protocol::PING_IP, "ip"),
    ];
    let (mut ports, mut about) = (Vec::new(), Vec::new());
    if asked.arp && (asked.hosts_only || asked.discover_first) {
        ports.extend([Protocol::ARP, Protocol::ND].map(|protocol| Port { protocol, number: 0 }));
        about.push("arp, nd".to_owned());
    }
    for (_, number, name) in icmp.into_iter().filter(|(asked, _, _)| *asked) {
        ports.push(Port { protocol: Protocol::ICMP, number });
        about.push(name.to_owned());
    }
    for (text, protocol, name) in listed {
        let Some(text) = text else { continue };
        let unqualified = if protocol == Protocol::PING_IP { Protocol::IP } else { Protocol::TCP };
        let set = parse_ports_of(text, &[unqualified]).map_err(say)?;
        if let Some(other) = set.iter().find(|port| port.protocol != unqualified) {
            return usage(format!("host discovery by {name} has ports without letters, not {other}"));
        }
        about.push(format!("{name} {}", set.to_string().trim_start_matches("P:")));
        ports.extend(set.iter().map(|port| Port { protocol, number: port.number }));
    }
    if ports.is_empty() && (asked.hosts_only || asked.discover_first) {
        ports.extend([ECHO, TIMESTAMP].map(|number| Port { protocol: Protocol::ICMP, number }));
        ports.push(Port { protocol: Protocol::PING_SYN, number: 443 });
        ports.push(Port { protocol: Protocol::PING_ACK, number: 80 });
        about.push("echo, timestamp, syn 443, ack 80".into());
    }
    let about = if about.is_empty() { String::new() } else { format!("hosts: {}", about.join(", ")) };
    Ok(Discovery { ports: PortSet::from_unsorted(ports), about })
}

/// One probe for each protocol number.
fn probes(ports: impl Iterator<Item = Port>, kinds: &Kinds) -> Result<Vec<Arc<dyn Probe>>, BuildError> {
    let mut probes: Vec<Arc<dyn Probe>> = Vec::new();
    for port in ports {
        if port.protocol == Protocol::ICMP && ![ECHO, TIMESTAMP, ADDRESS_MASK].contains(&port.number) {
            return usage(format!(
                "ICMP type {} cannot be probed: echo (8), timestamp (13) and address mask (17) can",
                port.number
            ));
        }
        if probes.iter().any(|probe| probe.protocols().contains(&port.protocol)) {
            continue;
        }
        probes.push(match port.protocol {
            Protocol::TCP => kinds.tcp.clone().map_or_else(|| by_name("syn"), Ok)?,
            Protocol::SCTP => kinds.sctp.clone().map_or_else(|| by_name("init"), Ok)?,
            Protocol::UDP => by_name("udp")?,
            Protocol::IP => by_name("ip")?,
            Protocol::ICMP => by_name("icmp")?,
            Protocol::ND => by_name("nd")?,
            Protocol::ARP => by_name("arp")?,
            Protocol::PING_SYN => by_name("ping-syn")?,
            Protocol::PING_ACK => by_name("ping-ack")?,
            Protocol::PING_UDP => by_name("ping-udp")?,
            Protocol::PING_SCTP => by_name("ping-init")?,
            Protocol::PING_IP => by_name("ping-ip")?,
            _ => return usage(format!("port {port} cannot be probed by this version")),
        });
    }
    Ok(probes)
}

/// The types of the ICMP questions.
const ECHO: u16 = 8;
const TIMESTAMP: u16 = 13;
const ADDRESS_MASK: u16 = 17;
