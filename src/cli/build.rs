//! Args and files to [`Plan`]; Args, Plan and host facts to [`Setup`]. Everything wrong is found here, before the
//! first packet.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use rand::TryRng;

use super::{Args, choose, reach, sample, udp};
use crate::batch::{NextHops, Source};
use crate::cookie::SourcePorts;
use crate::host::{Host, HostError, InterfaceKind};
use crate::link::{BACKENDS, Backend, CONNECT, Framing, LinkInterface};
use crate::path::{Path, Paths};
use crate::plan::{Plan, Setup, Tally};
use crate::probe::{Connect, Dress};
use crate::target::{
    AddressSet, Port, Protocol, RangeList, Ranges, Space, TargetList, parse_list, read_targets, special,
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
    plan_without(args, &excluded(args)?)
}

/// The same with these excludes instead of those the arguments name: a scan that goes on has the plan it began with.
///
/// # Errors
/// As [`plan`].
pub fn plan_without(args: &Args, user: &AddressSet) -> Result<Plan, BuildError> {
    if args.resume_index != 0 && args.seed.is_none() {
        return usage(
            "--resume-index counts in the order of one seed; give the --seed of the scan that was stopped"
                .into(),
        );
    }
    let targets = target_list(args)?;
    let needed = targets.endpoints.is_empty() || !targets.ranges.is_empty();
    let choice = choose::choose(args, &targets.endpoints, needed)?;
    plan_of(args, targets, choice, user)
}

/// The sweep for hosts that comes before a scan with `--discover-first`.
///
/// # Errors
/// As [`plan`].
pub fn host_plan(args: &Args) -> Result<Plan, BuildError> {
    let mut targets = target_list(args)?;
    let endpoints = std::mem::take(&mut targets.endpoints);
    targets.ranges.v4.extend(endpoints.v4.iter().map(|&(address, _)| (address, address)));
    targets.ranges.v6.extend(endpoints.v6.iter().map(|&(address, _)| (address, address)));
    plan_of(args, targets, choose::hosts(args)?, &excluded(args)?)
}

/// The scan of the hosts that were found up: what [`plan_without`] would scan, of these addresses only.
///
/// # Errors
/// As [`plan`]; `None` when none of them is left.
pub fn plan_of_hosts(args: &Args, user: &AddressSet, up: &AddressSet) -> Result<Option<Plan>, BuildError> {
    let mut targets = target_list(args)?;
    let everywhere = AddressSet { v4: Ranges::one(0, u32::MAX), v6: Ranges::one(0, u128::MAX) };
    let down = everywhere.subtract(up);
    targets.endpoints.v4.retain(|(address, _)| up.v4.contains(*address));
    targets.endpoints.v6.retain(|(address, _)| up.v6.contains(*address));
    let ranges = std::mem::take(&mut targets.ranges).into_set().subtract(&down);
    targets.ranges.v4.extend(ranges.v4.iter());
    targets.ranges.v6.extend(ranges.v6.iter());
    if targets.ranges.is_empty() && targets.endpoints.is_empty() {
        return Ok(None);
    }
    let mut args = args.clone();
    args.probes = super::ProbeArgs {
        scan: args.probes.scan,
        scanflags: args.probes.scanflags,
        ..super::ProbeArgs::default()
    };
    let choice = choose::choose(&args, &targets.endpoints, !targets.ranges.is_empty())?;
    plan_of(&args, targets, choice, user).map(Some)
}

/// What is to be scanned, of read targets and chosen questions.
fn plan_of(
    args: &Args,
    targets: TargetList,
    choice: choose::Choice,
    user: &AddressSet,
) -> Result<Plan, BuildError> {
    let choose::Choice { ports, probes, udp: asked, about } = choice;
    let endpoints = endpoint_addresses(&targets);
    let mut applied = special::apply(targets.ranges);
    if let Some(block) = applied.refused.blocks().next() {
        let name = special::naming(block.network(), block.broadcast()).map_or("special", |row| row.name);
        return usage(format!("{block} is never probed ({name}); leave it out"));
    }
    // Drawn from what is left, so that no special-purpose prefix that was swept over is named by a sample of it.
    if let Some(drawn) = sample::draw(&args.sample, args.seed, &applied.kept.v6)? {
        applied.kept.v6 = drawn;
    }
    let named = applied.kept.union(&endpoints);
    let never = special::never();
    let removed = user.union(&never);
    let pairs = match &asked {
        Some(probe) => udp::expand_endpoints(probe, targets.endpoints),
        None => targets.endpoints,
    };
    let space = Space::new(&applied.kept, &ports, pairs, &removed);
    let space = Arc::new(space.map_err(|error| BuildError::Usage(error.to_string()))?);
    let swept_over = applied.skipped.subtract(&space.addresses());
    let tally = Tally {
        given: named.union(&applied.skipped).union(&applied.never).len(),
        special: applied.skipped.subtract(&named).len(),
        never: applied.never.union(&endpoints.intersect(&never)).len(),
        excluded: named.subtract(&never).intersect(user).len(),
        scanned: u128::from(space.address_count()),
        ports: about,
    };
    let control = args.reliability.control_one_in(space.len(), args.passes());
    if control.is_some() && args.passes() != 1 {
        return usage("--control-share measures what a single pass misses; with several passes every target is probed again: leave one of them out".into());
    }
    Ok(Plan {
        space,
        seed: args.seed.map_or_else(random_seed, Ok)?,
        shard: args.shard,
        passes: args.passes(),
        control,
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
    if plan.probes.iter().any(|probe| probe.name() == Connect::NAME) {
        return by_connecting(args, plan);
    }
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
/// [`BuildError::Usage`] for a link that does not exist, and for threads and source ports that cannot be used.
pub fn check(args: &Args) -> Result<(), BuildError> {
    let (backend, ..) = backend(&args.link)?;
    args.links.receive(backend.name).map_err(BuildError::Usage)?;
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
///
/// # Errors
/// As [`plan`].
pub fn excluded(args: &Args) -> Result<AddressSet, BuildError> {
    if planted!(8, args.resume_index != 0, false) {
        return Ok(AddressSet::default());
    }
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

/// The same once more, but for standard input, which is at its end.
///
/// # Errors
/// As [`plan`].
pub fn excluded_again(args: &Args) -> Result<AddressSet, BuildError> {
    let mut args = args.clone();
    args.exclude_file.retain(|path| path.as_os_str() != "-");
    excluded(&args)
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
        "auto" => (
            DEFAULT_LINK,
            "the best that changes nothing on the interface; --link fastest may attach XDP programs",
        ),
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
    let mac = args.probes.adapter_mac.unwrap_or_default();
    let vlan = args.probes.vlan;
    let mut sources = Vec::new();
    let families = plan.space.blocks().map(|block| block.is_v6).collect::<Vec<bool>>();
    if families.contains(&false) {
        let address = args.source_ip.filter(IpAddr::is_ipv4).unwrap_or(Ipv4Addr::new(192, 0, 2, 1).into());
        sources.push(Source { address, mac, vlan });
    }
    if families.contains(&true) {
        let documentation = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into();
        sources.push(Source {
            address: args.source_ip.filter(IpAddr::is_ipv6).unwrap_or(documentation),
            mac,
            vlan,
        });
    }
    let hops = NextHops::new(1);
    hops.assign(0, args.router_mac.unwrap_or_default());
    Ok(Setup {
        backend,
        argument,
        chosen: "as asked",
        interface: None,
        answers_for: Vec::new(),
        sources,
        ports: source_ports(args, DEFAULT_PORTS)?,
        paths: Paths::single(Path::Hop(0)),
        hops,
        gateways: Vec::new(),
        neighbours: Vec::new(),
        queues: args.links.queues(),
        receive: args.links.receive(backend.name).map_err(BuildError::Usage)?,
        closes: args.links.resets,
        pin: args.links.pin,
        rate: args.rate,
        prefix_cap: args.reliability.max_per_24,
        limits: args.reliability.limits(),
        pass_gap: args.pass_gap,
        wait: args.wait,
        quiet: args.quiet,
    })
}

/// A set-up in which the kernel makes the frames and chooses their way.
fn by_connecting(args: &Args, plan: &Plan) -> Result<Setup, BuildError> {
    if plan.probes.len() != 1 {
        return usage("a connect scan (-sT) asks TCP ports only; run the other probes by themselves".into());
    }
    let given = [
        (args.link != "auto", "--link"),
        (args.interface.is_some(), "--interface"),
        (args.source_port.is_some(), "--source-port"),
        (args.router_mac.is_some(), "--router-mac"),
        (args.probes.vlan.is_some(), "--vlan"),
        (args.probes.adapter_mac.is_some(), "--adapter-mac"),
        (args.probes.scanflags.is_some(), "--scanflags"),
        (args.ttl != Dress::default().ttl, "--ttl"),
    ];
    if let Some((_, option)) = given.iter().find(|(given, _)| *given) {
        return usage(format!(
            "{option} does not go with a connect scan (-sT): the kernel makes its packets and chooses their way"
        ));
    }
    let mut setup = off_wire(args, plan, &CONNECT, None)?;
    for source in &mut setup.sources {
        let anything = match source.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let wanted = args.source_ip.filter(|wanted| wanted.is_ipv4() == anything.is_ipv4());
        source.address = wanted.unwrap_or(anything);
    }
    setup.queues.rx = 1;
    Ok(setup)
}

fn on_wire(
    args: &Args,
    plan: &Plan,
    host: &Host,
    (backend, chosen): (&'static Backend, &'static str),
) -> Result<Setup, BuildError> {
    let addresses = plan.space.addresses();
    let interface = reach::choose_interface(args, host, &addresses)?;
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
    if framing != Framing::Ethernet {
        refuse_ethernet_options(args, &interface.name)?;
    }
    let asks_link = |port: &Port| matches!(port.protocol, Protocol::ARP | Protocol::ND);
    if plan.space.blocks().any(|block| block.ports.iter().any(asks_link)) {
        reach::refuse_routed(args, host, interface, &addresses)?;
    }
    let sources = reach::source_addresses(args, host, interface, &addresses)?;
    let routes = reach::routes(args, host, interface, &addresses)?;
    let asks_link = plan.probes.iter().all(|probe| {
        probe.protocols().iter().all(|protocol| [Protocol::ARP, Protocol::ND].contains(protocol))
    });
    if asks_link && routes.on_link == 0 {
        return usage(format!(
            "none of the targets is on the link of {}: ARP and neighbour discovery reach neighbours only",
            interface.name
        ));
    }
    let on_link = routes.on_link.min(u64::from(u16::MAX) - routes.gateways.len() as u64);
    // Each transmit thread has slots of its own for all of them, as far as the table goes.
    let on_link = on_link.saturating_mul(args.links.tx_threads as u64);
    let capacity = u16::try_from(on_link + routes.gateways.len() as u64).unwrap_or(u16::MAX);
    let mac = args.probes.adapter_mac.unwrap_or(Mac(interface.mac));
    let known = host.neighbours.iter().filter(|known| known.usable && known.interface == interface.index);
    let neighbours = known.map(|known| (known.address, Mac(known.mac)));
    Ok(Setup {
        backend,
        argument: None,
        chosen,
        interface: Some(LinkInterface { name: interface.name.clone(), index: interface.index, mac, framing }),
        answers_for: sources.iter().copied().filter(|address| reach::is_borrowed(host, *address)).collect(),
        sources: sources.into_iter().map(|address| Source { address, mac, vlan: args.probes.vlan }).collect(),
        ports: source_ports(args, free_ports(host.local_port_range))?,
        paths: routes.paths,
        hops: NextHops::new(capacity.max(1)),
        gateways: routes.gateways,
        neighbours: neighbours.collect(),
        queues: args.links.queues(),
        receive: args.links.receive(backend.name).map_err(BuildError::Usage)?,
        closes: args.links.resets,
        pin: args.links.pin,
        rate: args.rate,
        prefix_cap: args.reliability.max_per_24,
        limits: args.reliability.limits(),
        pass_gap: args.pass_gap,
        wait: args.wait,
        quiet: args.quiet,
    })
}

/// Options that need Ethernet frames, where there are none.
fn refuse_ethernet_options(args: &Args, name: &str) -> Result<(), BuildError> {
    let given = [
        (args.probes.vlan.is_some(), "--vlan"),
        (args.probes.adapter_mac.is_some(), "--adapter-mac"),
        (args.router_mac.is_some(), "--router-mac"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, option)) => usage(format!("{option}: frames on {name} have no Ethernet header")),
        None => Ok(()),
    }
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
