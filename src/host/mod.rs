//! Facts about this machine as plain data: interfaces, routes, neighbours, privileges; and what follows from
//! them: which way an address is reached, with which source address.
//!
//! Everything but [`Host::read`] is a pure function of that data, so a configuration is tested with hosts that
//! do not exist.
//!
//! Invariant: knows no link, no template and no target; sends nothing. Policy routing rules beyond the three
//! standard tables (`ip rule`) are not consulted.

mod read;
mod route;
mod segment;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::IpAddr;

pub use segment::{Reach, Segment, Selection, reach_of};

/// What this machine looks like from inside the current network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// All interfaces, by index.
    pub interfaces: Vec<Interface>,
    /// The routes of the tables local, main and default, both families.
    pub routes: Vec<Route>,
    /// The kernel's neighbour table (ARP and neighbour discovery).
    pub neighbours: Vec<Neighbour>,
    /// First and last port the kernel gives to outgoing connections
    /// (`/proc/sys/net/ipv4/ip_local_port_range`).
    pub local_port_range: (u16, u16),
    /// Whether this process may open raw and packet sockets (CAP_NET_RAW is effective).
    pub can_send_raw: bool,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in the kernel, from 1.
    pub index: u32,
    /// What its frames look like.
    pub kind: InterfaceKind,
    /// Its own link-layer address; all zero where there is none.
    pub mac: [u8; 6],
    /// Largest network packet in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Whether there is only one other end, so that no neighbour is ever resolved.
    pub point_to_point: bool,
    /// Its addresses that may be used as source, preferred ones first.
    pub addresses: Vec<InterfaceAddress>,
}

/// What the frames of an interface look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceKind {
    /// Ethernet header before the IP header.
    Ethernet,
    /// The loopback device.
    Loopback,
    /// Frames start with the IP header (tun, PPP, IP tunnels).
    Bare,
    /// Something swath has no frames for; the number is the kernel's (`ARPHRD_*`, `linux/if_arp.h`).
    Other(u16),
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix: u8,
}

/// A route of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// First address of the prefix.
    pub destination: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// The router to send to; none if the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the interface to send on; routes that refuse have none.
    pub interface: Option<u32>,
    /// The source address the route asks for.
    pub source: Option<IpAddr>,
    /// Among routes of the same prefix the lowest wins.
    pub metric: u32,
    /// What happens to packets.
    pub kind: RouteKind,
    /// Which table it stands in.
    pub table: Table,
}

/// What a route does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Sends them on.
    Unicast,
    /// Delivers them to this machine.
    Local,
    /// Sends them to all stations of the link.
    Broadcast,
    /// Delivers them to a group.
    Multicast,
    /// Drops or refuses them (blackhole, unreachable, prohibit, throw).
    Refused,
}

/// The tables that are consulted, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// This machine's own addresses and their broadcasts.
    Local,
    /// What is normally configured.
    Main,
    /// Routes of last resort, normally none.
    Default,
}

/// An entry of the kernel's neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its network address.
    pub address: IpAddr,
    /// Index of the interface it is seen on.
    pub interface: u32,
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// Whether the kernel would send to it without asking first (reachable, permanent, stale and the like).
    pub usable: bool,
}

/// How an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// Index of the interface packets leave on; the loopback device for this machine's own addresses.
    pub interface: u32,
    /// The source address to use.
    pub source: IpAddr,
    /// Who gets the frame.
    pub hop: Hop,
}

/// Who gets a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hop {
    /// A router, whose link-layer address must be known. May be IPv6 for an IPv4 destination (RFC 8950).
    Gateway(IpAddr),
    /// The destination itself, whose link-layer address must be known.
    OnLink,
    /// This machine.
    Local,
    /// Whoever is at the other end: the interface has no link-layer addresses.
    Bare,
}

/// Why a question about the host has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel could not be asked.
    #[error("cannot {operation}: {source}")]
    Read {
        /// What was attempted.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no interface of that name.
    #[error("no interface named '{name}'; there are: {}", known.join(", "))]
    UnknownInterface {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The interface is administratively down.
    #[error("interface {name} is down; bring it up: ip link set {name} up")]
    InterfaceDown {
        /// Its name.
        name: String,
    },
    /// Nothing says how to reach an address.
    #[error("no route to {address}{}", interface.as_ref().map_or_else(String::new, |name| format!(" on interface {name}")))]
    NoRoute {
        /// The address.
        address: IpAddr,
        /// The interface, when one was asked for.
        interface: Option<String>,
    },
    /// A route says that the address must not be reached.
    #[error(
        "the route to {address} refuses packets ({destination}/{prefix} is blackhole, unreachable or prohibit)"
    )]
    Refused {
        /// The address.
        address: IpAddr,
        /// Prefix of the route.
        destination: IpAddr,
        /// Length of the prefix.
        prefix: u8,
    },
    /// The address means many stations.
    #[error("{address} is a broadcast or multicast address on this host")]
    ManyStations {
        /// The address.
        address: IpAddr,
    },
    /// The interface has no source address of the family.
    #[error(
        "interface {name} has no {family} address to send from; give it one, or name one with --source-ip"
    )]
    NoAddress {
        /// Its name.
        name: String,
        /// The family.
        family: IpFamily,
    },
}

/// The family of an address, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> IpFamily {
        if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            IpFamily::V4 => "IPv4",
            IpFamily::V6 => "IPv6",
        })
    }
}

impl Host {
    /// Asks the kernel for the facts of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`HostError::Read`] when netlink or `/proc` cannot be read.
    pub fn read() -> Result<Host, HostError> {
        read::host()
    }

    /// The interface of that name.
    ///
    /// # Errors
    /// [`HostError::UnknownInterface`], which lists the names there are.
    pub fn interface(&self, name: &str) -> Result<&Interface, HostError> {
        self.interfaces.iter().find(|interface| interface.name == name).ok_or_else(|| {
            let known = self.interfaces.iter().map(|interface| interface.name.clone()).collect();
            HostError::UnknownInterface { name: name.to_owned(), known }
        })
    }

    /// The interface with that index.
    pub fn interface_at(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }

    /// The loopback device, where there is one.
    pub fn loopback(&self) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.kind == InterfaceKind::Loopback)
    }

    /// The link-layer address the kernel knows for a neighbour and would use without asking.
    pub fn neighbour(&self, interface: u32, address: IpAddr) -> Option<[u8; 6]> {
        let mut found = self.neighbours.iter().filter(|neighbour| {
            neighbour.interface == interface && neighbour.address == address && neighbour.usable
        });
        found.next().map(|neighbour| neighbour.mac)
    }
}
