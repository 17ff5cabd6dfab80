//! How the targets are reached from this host: interface, source addresses, paths and gateways, for both families. Pure: host
//! facts in, plain data out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Args;
use super::build::BuildError;
use crate::host::{Hop, Host, HostError, Interface, InterfaceKind, IpFamily, Reach, Segment, Selection};
use crate::path::{Path, Paths};
use crate::plan::Gateway;
use crate::target::ranges::AddressBits;
use crate::target::{AddressSet, Ranges};
use crate::wire::ethernet::Mac;

/// What is known of the way to the targets.
pub(super) struct Routes {
    pub(super) paths: Paths,
    pub(super) gateways: Vec<Gateway>,
    /// Number of targets' addresses that are reached directly.
    pub(super) on_link: u64,
}

/// An address of a family as a number, and back.
trait Family: AddressBits {
    fn ip(self) -> IpAddr;
}

impl Family for u32 {
    fn ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self))
    }
}

impl Family for u128 {
    fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self))
    }
}

fn usage<T>(text: String) -> Result<T, BuildError> {
    Err(BuildError::Usage(text))
}

/// The interface the user named, or the one that reaches most of the targets.
pub(super) fn choose_interface<'a>(
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
    let reached = |interface: &Interface| {
        let loopback = interface.kind == InterfaceKind::Loopback;
        let wanted = |reach| match reach {
            Reach::Hop(Hop::Local) => loopback,
            Reach::Hop(_) => !loopback,
            _ => false,
        };
        let v4 = overlap(&host.segments_v4(interface, Selection::ByRoute), &addresses.v4, wanted);
        let v6 = overlap(&host.segments_v6(interface, Selection::ByRoute), &addresses.v6, wanted);
        v4.saturating_add(v6)
    };
    let candidates = host.interfaces.iter().filter(|interface| interface.up);
    let best = candidates.map(|interface| (reached(interface), interface)).max_by_key(|(count, _)| *count);
    match best {
        Some((count, interface)) if 0 < count => Ok(interface),
        _ => {
            let first = first(addresses);
            host.route_to(first, None)?;
            Err(HostError::NoRoute { address: first, interface: None }.into())
        }
    }
}

fn first(addresses: &AddressSet) -> IpAddr {
    let v4 = addresses.v4.iter().next().map(|(first, _)| first.ip());
    let v6 = addresses.v6.iter().next().map(|(first, _)| first.ip());
    v4.or(v6).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// How many addresses lie in segments that are reached in a certain way.
fn overlap<T: Family>(
    segments: &[Segment<T>],
    addresses: &Ranges<T>,
    wanted: impl Fn(Reach) -> bool,
) -> u128 {
    within(segments, wanted).intersect(addresses).count()
}

fn within<T: Family>(segments: &[Segment<T>], wanted: impl Fn(Reach) -> bool) -> Ranges<T> {
    let wanted = segments.iter().filter(|segment| wanted(segment.reach));
    Ranges::from_unsorted(wanted.map(|segment| (segment.first, segment.last)).collect())
}

/// Where probes come from, one address for each family that has targets. The user's choice may be an address that no
/// interface has, as long as its neighbours are on the link: swath then answers for it.
pub(super) fn source_addresses(
    args: &Args,
    host: &Host,
    interface: &Interface,
    addresses: &AddressSet,
) -> Result<Vec<IpAddr>, BuildError> {
    let mut sources = Vec::new();
    if !addresses.v4.is_empty() {
        sources.push(source_address(args, host, interface, &addresses.v4)?);
    }
    if !addresses.v6.is_empty() {
        sources.push(source_address(args, host, interface, &addresses.v6)?);
    }
    match args.source_ip {
        Some(wanted) if !sources.contains(&wanted) => usage(format!(
            "--source-ip {wanted} is of another family than the targets; replies could not come to it"
        )),
        _ => Ok(sources),
    }
}

fn source_address<T: Family>(
    args: &Args,
    host: &Host,
    interface: &Interface,
    addresses: &Ranges<T>,
) -> Result<IpAddr, BuildError> {
    let (first, _) = addresses.iter().next().expect("a family with targets");
    let same_family = |address: &IpAddr| address.is_ipv4() == first.ip().is_ipv4();
    if let Some(wanted) = args.source_ip.filter(same_family) {
        check_source(wanted, host, interface)?;
        return Ok(wanted);
    }
    let mut samples = addresses.iter().flat_map(|(first, last)| [first, last]);
    let routed = samples.find_map(|sample| match host.route_to(sample.ip(), args.interface.as_deref()) {
        Ok(routing) if routing.interface == interface.index => Some(routing.source).filter(same_family),
        _ => None,
    });
    let own = interface.addresses.iter().map(|own| own.address).find(same_family);
    let family = IpFamily::of(first.ip());
    routed.or(own).ok_or_else(|| HostError::NoAddress { name: interface.name.clone(), family }.into())
}

/// Refuses a source address that replies could not come to.
fn check_source(wanted: IpAddr, host: &Host, interface: &Interface) -> Result<(), BuildError> {
    let own = |other: &Interface| other.addresses.iter().any(|own| own.address == wanted);
    if own(interface) {
        return Ok(());
    }
    let names: Vec<String> = interface.addresses.iter().map(|own| own.address.to_string()).collect();
    let names = if names.is_empty() { "none".into() } else { names.join(", ") };
    if let Some(other) = host.interfaces.iter().find(|other| own(other)) {
        return usage(format!(
            "--source-ip {wanted} is an address of {}, not of {} (it has {names}); replies would go elsewhere",
            other.name, interface.name
        ));
    }
    match host.route_to(wanted, Some(&interface.name)) {
        Ok(routing) if routing.hop == Hop::OnLink && interface.kind == InterfaceKind::Ethernet => Ok(()),
        _ => usage(format!(
            "--source-ip {wanted} is no address of {} (it has {names}) and not on its link; replies would go elsewhere",
            interface.name
        )),
    }
}

/// Whether this host's kernel does not own an address that probes come from: then somebody must answer for it.
pub(super) fn is_borrowed(host: &Host, address: IpAddr) -> bool {
    !host.interfaces.iter().any(|interface| interface.addresses.iter().any(|own| own.address == address))
}

/// Every segment's path, and the gateways. An address without a route is an error: it would be counted as silent.
pub(super) fn routes(
    args: &Args,
    host: &Host,
    interface: &Interface,
    addresses: &AddressSet,
) -> Result<Routes, BuildError> {
    let selection = if args.interface.is_some() { Selection::Forced } else { Selection::ByRoute };
    let mut gateways: Vec<Gateway> = Vec::new();
    if let Some(mac) = args.router_mac {
        gateways.push(Gateway { hop: 0, address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), mac: Some(mac) });
    }
    let way = Way { args, host, interface, selection };
    let (segments_v4, segments_v6) =
        (host.segments_v4(interface, selection), host.segments_v6(interface, selection));
    let v4 = way.paths(&segments_v4, &addresses.v4, &mut gateways)?;
    let v6 = way.paths(&segments_v6, &addresses.v6, &mut gateways)?;
    let direct = |reach| reach == Reach::Hop(Hop::OnLink);
    let on_link = overlap(&segments_v4, &addresses.v4, direct).saturating_add(overlap(
        &segments_v6,
        &addresses.v6,
        direct,
    ));
    let on_link = u64::try_from(on_link).unwrap_or(u64::MAX);
    Ok(Routes { paths: Paths::of_both(v4, v6), gateways, on_link })
}

/// What the paths of either family depend on.
#[derive(Clone, Copy)]
struct Way<'a> {
    args: &'a Args,
    host: &'a Host,
    interface: &'a Interface,
    selection: Selection,
}

impl Way<'_> {
    /// The paths of the segments in which targets lie.
    fn paths<T: Family>(
        self,
        segments: &[Segment<T>],
        addresses: &Ranges<T>,
        gateways: &mut Vec<Gateway>,
    ) -> Result<Vec<(T, Path)>, BuildError> {
        let loopback = self.interface.kind == InterfaceKind::Loopback;
        if self.args.router_mac.is_none() {
            self.refuse_unreachable(segments, addresses)?;
        }
        if !loopback {
            refuse_named_own(segments, addresses)?;
        }
        let used =
            |segment: &&Segment<T>| !Ranges::one(segment.first, segment.last).intersect(addresses).is_empty();
        let path = |segment: &Segment<T>| {
            let path = match segment.reach {
                Reach::Hop(Hop::Local) if loopback => Path::Hop(0),
                Reach::Hop(Hop::Local) => Path::Own,
                Reach::ManyStations => Path::ManyStations,
                _ if self.args.router_mac.is_some() => Path::Hop(0),
                Reach::Hop(Hop::Bare) => Path::Hop(0),
                Reach::Hop(Hop::OnLink) => Path::OnLink,
                Reach::Hop(Hop::Gateway(address)) => Path::Hop(self.gateway(gateways, address)),
                Reach::Elsewhere | Reach::Unreachable => return None,
            };
            Some((segment.first, path))
        };
        Ok(segments.iter().filter(used).filter_map(path).collect())
    }

    /// The slot of a gateway, new or known.
    fn gateway(self, gateways: &mut Vec<Gateway>, address: IpAddr) -> u16 {
        if let Some(known) = gateways.iter().find(|known| known.address == address) {
            return known.hop;
        }
        let hop = u16::try_from(gateways.len()).unwrap_or(u16::MAX);
        let mac = self.host.neighbour(self.interface.index, address).map(Mac);
        gateways.push(Gateway { hop, address, mac });
        hop
    }

    fn refuse_unreachable<T: Family>(
        self,
        segments: &[Segment<T>],
        addresses: &Ranges<T>,
    ) -> Result<(), BuildError> {
        let lost = within(segments, |reach| matches!(reach, Reach::Unreachable | Reach::Elsewhere))
            .intersect(addresses);
        let Some((first, last)) = lost.iter().next() else { return Ok(()) };
        let (first, last) = (first.ip(), last.ip());
        let elsewhere = match self.selection {
            Selection::Forced => None,
            Selection::ByRoute => self
                .host
                .route_to(first, None)
                .ok()
                .and_then(|routing| self.host.interface_at(routing.interface)),
        };
        let why = elsewhere.map_or_else(
            || "there is no route to them".into(),
            |other| {
                format!("the route to them leads over {}; scan them apart, or choose with -e", other.name)
            },
        );
        usage(format!(
            "{} of the addresses, {first} to {last} first, cannot be reached over {}: {why}",
            lost.count(),
            self.interface.name
        ))
    }
}

/// ARP and neighbour discovery end at the first router: what lies behind one cannot be asked.
pub(super) fn refuse_routed(
    args: &Args,
    host: &Host,
    interface: &Interface,
    addresses: &AddressSet,
) -> Result<(), BuildError> {
    let selection = if args.interface.is_some() { Selection::Forced } else { Selection::ByRoute };
    if interface.kind != InterfaceKind::Ethernet {
        return usage(format!("{}: there are no link-layer addresses to ask for", interface.name));
    }
    refuse_behind_routers(&host.segments_v4(interface, selection), &addresses.v4, &interface.name)?;
    refuse_behind_routers(&host.segments_v6(interface, selection), &addresses.v6, &interface.name)
}

fn refuse_behind_routers<T: Family>(
    segments: &[Segment<T>],
    addresses: &Ranges<T>,
    name: &str,
) -> Result<(), BuildError> {
    let routed = |reach| matches!(reach, Reach::Hop(Hop::Gateway(_) | Hop::Bare));
    let behind = within(segments, routed).intersect(addresses);
    let Some((first, last)) = behind.iter().next() else { return Ok(()) };
    usage(format!(
        "{} of the addresses, {} to {} first, are behind a router of {name}, and ARP and neighbour discovery end there; leave them out, or look for hosts with -sn",
        behind.count(),
        first.ip(),
        last.ip()
    ))
}

/// This host's own addresses do not answer over the wire. Inside a larger range they are counted as failed; named by
/// themselves they are a mistake.
fn refuse_named_own<T: Family>(segments: &[Segment<T>], addresses: &Ranges<T>) -> Result<(), BuildError> {
    let own = within(segments, |reach| reach == Reach::Hop(Hop::Local));
    let named = addresses.iter().find(|&(first, last)| {
        let range = Ranges::one(first, last);
        own.intersect(&range).count() == range.count()
    });
    let Some((first, _)) = named else { return Ok(()) };
    let first = first.ip();
    usage(format!(
        "{first} is this host itself, which does not answer over the wire; scan it by itself, over loopback"
    ))
}
