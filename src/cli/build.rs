//! Args and files to [`Plan`]; Args, Plan and host facts to [`Setup`]. Everything wrong is found here, before the
//! first packet.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use rand::TryRng;

use super::Args;
use crate::batch::{NextHops, Source};
use crate::cookie::SourcePorts;
use crate::host::{Hop, Host, HostError, Interface, InterfaceKind, Reach, Segment, Selection};
use crate::link::{BACKENDS, Backend, Framing, LinkInterface};
use crate::path::{Path, Paths};
use crate::plan::{Gateway, Plan, Setup, Tally};
use crate::probe::{self, Dress};
use crate::target::{
    AddressSet, PortSet, RangeList, Ranges, Space, TargetList, parse_excluded_ports, parse_list, parse_ports,
    read_targets, special, top_ports,
};
use crate::wire::ethernet::Mac;

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The user asked for something that cannot be. Names the thing and the way out.
    #[error("{0}")]
    Usage(String),
    /// This host cannot do it.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// What is to be scanned.
///
/// # Errors
/// [`BuildError::Usage`] for any target, port, exclude or file that cannot be read, and for a plan that is empty or
/// too large.
pub fn plan(args: &Args) -> Result<Plan, BuildError> {
    if args.resume_index != 0 && args.seed.is_none() {
        return usage(
            "--resume-index counts in the order of one seed; give the --seed of the scan that was stopped"
                .into(),
        );
    }
    let targets = target_list(args)?;
    let user = excluded(args)?;
    let ports = port_set(args, targets.endpoints.is_empty() || !targets.ranges.is_empty())?;
    let probes = vec![probe::by_name("syn").expect("a row of the registry")];
    let endpoint_ports = targets.endpoints.v4.iter().map(|entry| entry.1);
    let endpoint_ports = endpoint_ports.chain(targets.endpoints.v6.iter().map(|entry| entry.1));
    for port in ports.iter().chain(endpoint_ports) {
        if !probes.iter().any(|probe| probe.protocols().contains(&port.protocol)) {
            return usage(format!("port {port} cannot be probed: this version has the TCP SYN probe only"));
        }
    }
    let endpoints = endpoint_addresses(&targets);
    let applied = special::apply(targets.ranges);
    if let Some(block) = applied.refused.blocks().next() {
        let name = special::naming(block.network(), block.broadcast()).map_or("special", |row| row.name);
        return usage(format!("{block} is never probed ({name}); leave it out"));
    }
    let named = applied.kept.union(&endpoints);
    let never = special::never();
    let removed = user.union(&never);
    let space = Space::new(&applied.kept, &ports, targets.endpoints, &removed);
    let space = Arc::new(space.map_err(|error| BuildError::Usage(error.to_string()))?);
    let swept_over = applied.skipped.subtract(&space.addresses());
    let tally = Tally {
        given: named.union(&applied.skipped).union(&applied.never).len(),
        special: applied.skipped.subtract(&named).len(),
        never: applied.never.union(&endpoints.intersect(&never)).len(),
        excluded: named.subtract(&never).intersect(&user).len(),
        scanned: u128::from(space.address_count()),
        ports: ports.to_string(),
    };
    Ok(Plan {
        space,
        seed: args.seed.map_or_else(random_seed, Ok)?,
        shard: args.shard,
        passes: args.passes(),
        first_step: args.resume_index,
        probes,
        dress: Dress { layout: args.layout, ttl: args.ttl },
        excluded: removed.union(&swept_over),
        tally,
    })
}

/// How this machine does it. Links that keep their frames need no host.
///
/// # Errors
/// [`BuildError::Host`] when the targets cannot be reached from here, [`BuildError::Usage`] for options that
/// contradict the host or each other.
pub fn setup(
    args: &Args,
    plan: &Plan,
    read_host: impl FnOnce() -> Result<Host, HostError>,
) -> Result<Setup, BuildError> {
    let (backend, argument, chosen) = backend(&args.link)?;
    if backend.transmits {
        let mut setup = on_wire(args, plan, &read_host()?, (backend, chosen))?;
        setup.argument = argument;
        Ok(setup)
    } else {
        off_wire(args, plan, backend, argument)
    }
}

/// What can be said about the set-up without asking this host.
///
/// # Errors
/// [`BuildError::Usage`] for a link that does not exist and for source ports that cannot be used.
pub fn check(args: &Args) -> Result<(), BuildError> {
    backend(&args.link)?;
    source_ports(args, DEFAULT_PORTS)?;
    Ok(())
}

fn usage<T>(text: String) -> Result<T, BuildError> {
    Err(BuildError::Usage(text))
}

fn random_seed() -> Result<u64, BuildError> {
    let failed =
        |error| BuildError::Usage(format!("the system has no random numbers ({error}); give a --seed"));
    rand::rngs::SysRng.try_next_u64().map_err(failed)
}

/// Everything named on the command line and in files.
fn target_list(args: &Args) -> Result<TargetList, BuildError> {
    let mut list = TargetList::default();
    for text in &args.targets {
        parse_list(text, &mut list).map_err(|error| BuildError::Usage(error.to_string()))?;
    }
    for path in &args.include_file {
        read_file(path, &mut list)?;
    }
    resolve(args, &mut list)?;
    if list.ranges.is_empty() && list.endpoints.is_empty() {
        let files: Vec<String> = args.include_file.iter().map(|path| path.display().to_string()).collect();
        return usage(format!("no targets: {} names none", files.join(", ")));
    }
    Ok(list)
}

fn read_file(path: &FilePath, list: &mut TargetList) -> Result<(), BuildError> {
    let name = path.display().to_string();
    let read = if name == "-" {
        read_targets("standard input", std::io::stdin().lock(), list)
    } else {
        let file =
            File::open(path).map_err(|error| BuildError::Usage(format!("cannot read {name}: {error}")))?;
        read_targets(&name, file, list)
    };
    read.map_err(|error| BuildError::Usage(error.to_string()))
}

/// Looks up the names of a list, if the user allowed it.
fn resolve(args: &Args, list: &mut TargetList) -> Result<(), BuildError> {
    for name in std::mem::take(&mut list.names) {
        let text = &name.name;
        if !args.resolve {
            return usage(format!(
                "'{text}' is no address; if it is a host name, give --resolve to look it up"
            ));
        }
        let found = (text.as_ref(), 0).to_socket_addrs();
        let found = found.map_err(|error| BuildError::Usage(format!("cannot look up '{text}': {error}")))?;
        for address in found.map(|socket| socket.ip()) {
            let length = name.prefix.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
            let net = ipnet::IpNet::new(address, length);
            list.ranges.push_net(net.map_err(|_| {
                BuildError::Usage(format!("'{text}/{length}' is no block: {address} has fewer bits"))
            })?);
        }
    }
    Ok(())
}

/// What the user never wants probed. A name or a port among it is refused: an exclude that is not understood must
/// not be skipped.
fn excluded(args: &Args) -> Result<AddressSet, BuildError> {
    let mut list = TargetList::default();
    for text in &args.exclude {
        parse_list(text, &mut list).map_err(|error| BuildError::Usage(format!("--exclude: {error}")))?;
    }
    for path in &args.exclude_file {
        read_file(path, &mut list)?;
    }
    resolve(args, &mut list)?;
    if !list.endpoints.is_empty() {
        return usage(
            "an exclude names an address and a port; excludes are addresses, use --exclude-ports for ports"
                .into(),
        );
    }
    Ok(list.ranges.into_set())
}

fn port_set(args: &Args, needed: bool) -> Result<PortSet, BuildError> {
    let say = |error: crate::target::SpecError| BuildError::Usage(error.to_string());
    let mut removed = PortSet::default();
    for text in &args.exclude_ports {
        removed = removed.union(&parse_excluded_ports(text).map_err(say)?);
    }
    let mut ports = PortSet::default();
    for text in &args.ports {
        ports = ports.union(&parse_ports(text).map_err(say)?);
    }
    let mut ports = ports.subtract(&removed);
    if let Some(count) = args.top_ports {
        ports = ports.union(&top_ports(count, &removed).map_err(say)?);
    }
    if ports.is_empty() && needed {
        return usage(if args.ports.is_empty() {
            "no ports: say -p 80,443, -p - for all, or --top-ports 20".into()
        } else {
            "no ports left: --exclude-ports removes all of them".into()
        });
    }
    Ok(ports)
}

fn endpoint_addresses(list: &TargetList) -> AddressSet {
    let mut ranges = RangeList::default();
    ranges.v4.extend(list.endpoints.v4.iter().map(|&(address, _)| (address, address)));
    ranges.v6.extend(list.endpoints.v6.iter().map(|&(address, _)| (address, address)));
    ranges.into_set()
}

/// The link of that name, its argument, and why it was chosen.
fn backend(text: &str) -> Result<(&'static Backend, Option<PathBuf>, &'static str), BuildError> {
    let (name, argument) =
        text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(PathBuf::from(rest))));
    let (name, chosen) = match name {
        "auto" => (DEFAULT_LINK, "the best that changes nothing on the interface"),
        name => (name, "as asked"),
    };
    match BACKENDS.iter().find(|backend| backend.name == name) {
        Some(backend) if argument.is_some() && backend.argument.is_none() => {
            usage(format!("--link {text}: {name} takes nothing behind a colon; -e names the interface"))
        }
        Some(backend) => Ok((backend, argument, chosen)),
        None => {
            let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name).collect();
            usage(format!("there is no link '{name}'; there are auto, {}", names.join(", ")))
        }
    }
}

/// A set-up whose frames stay here: the same on every machine, so that its frames can be compared.
fn off_wire(
    args: &Args,
    plan: &Plan,
    backend: &'static Backend,
    argument: Option<PathBuf>,
) -> Result<Setup, BuildError> {
    let mac = Mac::default();
    let mut sources = Vec::new();
    let families = plan.space.blocks().map(|block| block.is_v6).collect::<Vec<bool>>();
    if families.contains(&false) {
        let address = args.source_ip.filter(IpAddr::is_ipv4).unwrap_or(Ipv4Addr::new(192, 0, 2, 1).into());
        sources.push(Source { address, mac, vlan: None });
    }
    if families.contains(&true) {
        let documentation = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into();
        sources.push(Source {
            address: args.source_ip.filter(IpAddr::is_ipv6).unwrap_or(documentation),
            mac,
            vlan: None,
        });
    }
    let hops = NextHops::new(1);
    hops.assign(0, args.router_mac.unwrap_or_default());
    Ok(Setup {
        backend,
        argument,
        chosen: "as asked",
        interface: None,
        sources,
        ports: source_ports(args, DEFAULT_PORTS)?,
        paths: Paths::single(Path::Hop(0)),
        hops,
        gateways: Vec::new(),
        neighbours: Vec::new(),
        queues: args.links.queues(),
        receive: args.links.receive(backend.name),
        closes: args.links.resets,
        pin: args.links.pin,
        rate: args.rate,
        pass_gap: args.pass_gap,
        wait: args.wait,
        quiet: args.quiet,
    })
}

fn on_wire(
    args: &Args,
    plan: &Plan,
    host: &Host,
    (backend, chosen): (&'static Backend, &'static str),
) -> Result<Setup, BuildError> {
    let addresses = plan.space.addresses();
    if !addresses.v6.is_empty() {
        return usage("this version probes IPv4 only; leave the IPv6 targets out".into());
    }
    let interface = choose_interface(args, host, &addresses)?;
    let framing = match interface.kind {
        InterfaceKind::Ethernet => Framing::Ethernet,
        InterfaceKind::Loopback => Framing::Loopback,
        InterfaceKind::Bare => Framing::Bare,
        InterfaceKind::Other(kind) => {
            return usage(format!(
                "{}: interfaces of kind {kind} have frames this version cannot write",
                interface.name
            ));
        }
    };
    let source = source_address(args, host, interface, &addresses)?;
    let routes = routes(args, host, interface, &addresses)?;
    let on_link = routes.on_link.min(u64::from(u16::MAX) - routes.gateways.len() as u64);
    // Each transmit thread has slots of its own for all of them, as far as the table goes.
    let on_link = on_link.saturating_mul(args.links.tx_threads as u64);
    let capacity = u16::try_from(on_link + routes.gateways.len() as u64).unwrap_or(u16::MAX);
    let mac = Mac(interface.mac);
    let known = host.neighbours.iter().filter(|known| known.usable && known.interface == interface.index);
    let neighbours = known.map(|known| (known.address, Mac(known.mac)));
    Ok(Setup {
        backend,
        argument: None,
        chosen,
        interface: Some(LinkInterface { name: interface.name.clone(), index: interface.index, mac, framing }),
        sources: vec![Source { address: source.into(), mac, vlan: None }],
        ports: source_ports(args, free_ports(host.local_port_range))?,
        paths: routes.paths,
        hops: NextHops::new(capacity.max(1)),
        gateways: routes.gateways,
        neighbours: neighbours.collect(),
        queues: args.links.queues(),
        receive: args.links.receive(backend.name),
        closes: args.links.resets,
        pin: args.links.pin,
        rate: args.rate,
        pass_gap: args.pass_gap,
        wait: args.wait,
        quiet: args.quiet,
    })
}

/// The interface the user named, or the one that reaches most of the targets.
fn choose_interface<'a>(
    args: &Args,
    host: &'a Host,
    addresses: &AddressSet,
) -> Result<&'a Interface, BuildError> {
    if let Some(name) = &args.interface {
        let interface = host.interface(name)?;
        if !interface.up {
            return Err(HostError::InterfaceDown { name: name.clone() }.into());
        }
        return Ok(interface);
    }
    let reached = |interface: &&Interface| {
        let segments = host.segments_v4(interface, Selection::ByRoute);
        let loopback = interface.kind == InterfaceKind::Loopback;
        overlap(&segments, &addresses.v4, |reach| match reach {
            Reach::Hop(Hop::Local) => loopback,
            Reach::Hop(_) => !loopback,
            _ => false,
        })
    };
    let candidates = host.interfaces.iter().filter(|interface| interface.up);
    let best = candidates.map(|interface| (reached(&interface), interface)).max_by_key(|(count, _)| *count);
    match best {
        Some((count, interface)) if 0 < count => Ok(interface),
        _ => {
            let first = addresses.v4.iter().next().map_or(Ipv4Addr::UNSPECIFIED, |(first, _)| first.into());
            host.route_to(first.into(), None)?;
            Err(HostError::NoRoute { address: first.into(), interface: None }.into())
        }
    }
}

/// How many addresses lie in segments that are reached in a certain way.
fn overlap(segments: &[Segment<u32>], addresses: &Ranges<u32>, wanted: impl Fn(Reach) -> bool) -> u128 {
    within(segments, wanted).intersect(addresses).count()
}

fn within(segments: &[Segment<u32>], wanted: impl Fn(Reach) -> bool) -> Ranges<u32> {
    let wanted = segments.iter().filter(|segment| wanted(segment.reach));
    Ranges::from_unsorted(wanted.map(|segment| (segment.first, segment.last)).collect())
}

/// Where probes come from: the user's choice if it is the interface's own, else what the route says.
fn source_address(
    args: &Args,
    host: &Host,
    interface: &Interface,
    addresses: &AddressSet,
) -> Result<Ipv4Addr, BuildError> {
    let own: Vec<String> = interface.addresses.iter().map(|own| own.address.to_string()).collect();
    match args.source_ip {
        Some(IpAddr::V4(address)) if interface.addresses.iter().any(|own| own.address == address) => {
            Ok(address)
        }
        Some(address) => usage(format!(
            "--source-ip {address} is no IPv4 address of {} (it has {}); replies would go elsewhere",
            interface.name,
            if own.is_empty() { "none".into() } else { own.join(", ") }
        )),
        None => {
            let mut samples =
                addresses.v4.iter().flat_map(|(first, last)| [first, last, first / 2 + last / 2]);
            let routed = samples.find_map(|sample| {
                match host.route_to(IpAddr::V4(sample.into()), args.interface.as_deref()) {
                    Ok(routing) if routing.interface == interface.index => match routing.source {
                        IpAddr::V4(source) => Some(source),
                        IpAddr::V6(_) => None,
                    },
                    _ => None,
                }
            });
            let first = interface.addresses.iter().find_map(|own| match own.address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            });
            let family = crate::host::IpFamily::V4;
            routed
                .or(first)
                .ok_or_else(|| HostError::NoAddress { name: interface.name.clone(), family }.into())
        }
    }
}

struct Routes {
    paths: Paths,
    gateways: Vec<Gateway>,
    /// Number of targets' addresses that are reached directly.
    on_link: u64,
}

/// Every segment's path, and the gateways. An address without a route is an error: it would be counted as silent.
fn routes(
    args: &Args,
    host: &Host,
    interface: &Interface,
    addresses: &AddressSet,
) -> Result<Routes, BuildError> {
    let selection = if args.interface.is_some() { Selection::Forced } else { Selection::ByRoute };
    let segments = host.segments_v4(interface, selection);
    let loopback = interface.kind == InterfaceKind::Loopback;
    if args.router_mac.is_none() {
        refuse_unreachable(host, interface, (&segments, selection), addresses)?;
    }
    let mut gateways: Vec<Gateway> = Vec::new();
    if let Some(mac) = args.router_mac {
        gateways.push(Gateway { hop: 0, address: Ipv4Addr::UNSPECIFIED.into(), mac: Some(mac) });
    }
    if !loopback {
        refuse_named_own(&segments, addresses)?;
    }
    let mut table = Vec::with_capacity(segments.len());
    for segment in &segments {
        let used = 0 < Ranges::one(segment.first, segment.last).intersect(&addresses.v4).count();
        let path = match segment.reach {
            Reach::Hop(Hop::Local) if loopback => Path::Hop(0),
            Reach::Hop(Hop::Local) => Path::Own,
            Reach::ManyStations => Path::ManyStations,
            _ if args.router_mac.is_some() => Path::Hop(0),
            Reach::Hop(Hop::Bare) => Path::Hop(0),
            Reach::Hop(Hop::OnLink) => Path::OnLink,
            Reach::Hop(Hop::Gateway(IpAddr::V4(address))) if used => {
                Path::Hop(gateway(&mut gateways, host, interface, address.into()))
            }
            Reach::Hop(Hop::Gateway(IpAddr::V6(address))) if used => {
                return usage(format!(
                    "the gateway {address} is IPv6; this version asks for IPv4 gateways only, give --router-mac"
                ));
            }
            _ => continue,
        };
        if used {
            table.push((segment.first, path));
        }
    }
    let on_link = overlap(&segments, &addresses.v4, |reach| reach == Reach::Hop(Hop::OnLink));
    Ok(Routes { paths: Paths::new(table), gateways, on_link: u64::try_from(on_link).unwrap_or(u64::MAX) })
}

/// The slot of a gateway, new or known.
fn gateway(gateways: &mut Vec<Gateway>, host: &Host, interface: &Interface, address: IpAddr) -> u16 {
    if let Some(known) = gateways.iter().find(|known| known.address == address) {
        return known.hop;
    }
    let hop = u16::try_from(gateways.len()).unwrap_or(u16::MAX);
    let mac = host.neighbour(interface.index, address).map(Mac);
    gateways.push(Gateway { hop, address, mac });
    hop
}

/// This host's own addresses do not answer over the wire. Inside a larger range they are counted as failed; named by
/// themselves they are a mistake.
fn refuse_named_own(segments: &[Segment<u32>], addresses: &AddressSet) -> Result<(), BuildError> {
    let own = within(segments, |reach| reach == Reach::Hop(Hop::Local));
    let named = addresses.v4.iter().find(|&(first, last)| {
        let range = Ranges::one(first, last);
        own.intersect(&range).count() == range.count()
    });
    let Some((first, _)) = named else { return Ok(()) };
    let first = Ipv4Addr::from(first);
    usage(format!(
        "{first} is this host itself, which does not answer over the wire; scan it by itself, over loopback"
    ))
}

fn refuse_unreachable(
    host: &Host,
    interface: &Interface,
    (segments, selection): (&[Segment<u32>], Selection),
    addresses: &AddressSet,
) -> Result<(), BuildError> {
    let lost = within(segments, |reach| matches!(reach, Reach::Unreachable | Reach::Elsewhere))
        .intersect(&addresses.v4);
    let Some((first, last)) = lost.iter().next() else { return Ok(()) };
    let (first, last) = (Ipv4Addr::from(first), Ipv4Addr::from(last));
    let elsewhere = match selection {
        Selection::Forced => None,
        Selection::ByRoute => {
            host.route_to(first.into(), None).ok().and_then(|routing| host.interface_at(routing.interface))
        }
    };
    let why = elsewhere.map_or_else(
        || "there is no route to them".into(),
        |other| format!("the route to them leads over {}; scan them apart, or choose with -e", other.name),
    );
    usage(format!(
        "{} of the addresses, {first} to {last} first, cannot be reached over {}: {why}",
        lost.count(),
        interface.name
    ))
}

/// The user's source ports, or the default.
fn source_ports(args: &Args, default: (u16, u32)) -> Result<SourcePorts, BuildError> {
    let Some(text) = &args.source_port else {
        return SourcePorts::new(default.0, default.1).map_err(BuildError::Usage);
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => {
            SourcePorts::new(first, u32::from(last - first) + 1).map_err(BuildError::Usage)
        }
        _ => {
            usage(format!("--source-port '{text}' is no port or range of ports; write 40000 or 40960-45055"))
        }
    }
}

/// The largest aligned block of ports outside of those this host uses for its own connections: first port and size.
fn free_ports((first, last): (u16, u16)) -> (u16, u32) {
    let sizes = (6..=14).rev().map(|bits| 1u32 << bits);
    // The highest of a size: low ports are where services listen, and a middlebox may take us for one.
    let blocks = sizes.flat_map(|size| (1..0x1_0000 / size).rev().map(move |block| (block * size, size)));
    let free = blocks.into_iter().find(|&(start, size)| {
        1024 <= start && (start + size <= u32::from(first) || u32::from(last) < start)
    });
    free.and_then(|(start, size)| Some((u16::try_from(start).ok()?, size))).unwrap_or(DEFAULT_PORTS)
}

/// What `--link auto` means.
const DEFAULT_LINK: &str = "af_packet";
/// Outside of Linux's default range for own connections (32768 to 60999).
const DEFAULT_PORTS: (u16, u32) = (16384, 16384);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_avoid_those_the_host_uses_itself() {
        assert_eq!(free_ports((32768, 60999)), (16384, 16384));
        assert_eq!(free_ports((1024, 60999)), (61440, 4096));
        assert_eq!(free_ports((16000, 65535)), (8192, 4096));
        assert_eq!(free_ports((1, 65535)), DEFAULT_PORTS);
    }
}
