//! Transmitting to this machine itself: whole IP packets through raw sockets, which the kernel delivers over the
//! loopback device.
//!
//! Not through a packet socket on that device, because there the kernel takes packets to 127.0.0.0/8 for forged.
//! And not bound to that device, because then the kernel does not find its own other addresses. Unbound, a packet
//! to a foreign address would leave by another interface: so every destination is compared with the kernel's own
//! table of local addresses, read once when the link is opened.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};

use crate::batch::LANES;
use crate::link::{LinkError, frame};
use crate::sys::mmsg::{self, Destination, Sent};
use crate::sys::netlink::Netlink;
use crate::sys::{rtnetlink, socket};

/// Raw sockets that reach this machine and nothing else.
pub(super) struct LocalSender {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
    own: Vec<(IpAddr, u8)>,
}

impl LocalSender {
    /// Opens the sockets and reads the local addresses.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW.
    pub(super) fn open(send_buffer_bytes: u32) -> io::Result<LocalSender> {
        let v4 = socket::raw_ipv4()?;
        socket::raise_send_buffer(v4.as_fd(), send_buffer_bytes);
        // A host may be built without IPv6.
        let v6 = socket::raw_ipv6().ok();
        if let Some(v6) = &v6 {
            socket::raise_send_buffer(v6.as_fd(), send_buffer_bytes);
        }
        let routes = rtnetlink::routes(&mut Netlink::open()?)?;
        let local = routes.iter().filter(|route| route.kind == RTN_LOCAL && route.table == TABLE_LOCAL);
        let own = local.map(|route| (route.destination, route.prefix)).collect();
        Ok(LocalSender { v4, v6, own })
    }

    /// Sends frames, Ethernet header left out. Bit `i` of the result is set when frame `i` left; the error is why
    /// one did not.
    ///
    /// # Errors
    /// [`LinkError::Unusable`] when a destination is no address of this machine; then nothing was sent.
    pub(super) fn send(&self, frames: &[&[u8]]) -> Result<(u64, Option<io::Error>), LinkError> {
        let mut destinations = [Destination::V4(Ipv4Addr::UNSPECIFIED); LANES];
        for (destination, frame) in destinations.iter_mut().zip(frames) {
            *destination = self.destination(frame)?;
        }
        let destinations = &destinations[..frames.len().min(LANES)];
        let mut accepted = 0;
        for family in [Some(&self.v4), self.v6.as_ref()].into_iter().flatten().zip([true, false]) {
            let (descriptor, is_v4) = family;
            let lanes: Vec<usize> = (0..destinations.len())
                .filter(|&lane| matches!(destinations[lane], Destination::V4(_)) == is_v4)
                .collect();
            let messages: Vec<IoSlice<'_>> =
                lanes.iter().map(|&lane| IoSlice::new(frame::packet(frames[lane]))).collect();
            let to: Vec<Destination> = lanes.iter().map(|&lane| destinations[lane]).collect();
            let Sent { count, error } = mmsg::send(descriptor.as_fd(), &messages, &to);
            accepted |= lanes[..count].iter().fold(0, |bits, &lane| bits | 1 << lane);
            if error.is_some() {
                return Ok((accepted, error));
            }
        }
        Ok((accepted, None))
    }

    fn destination(&self, frame: &[u8]) -> Result<Destination, LinkError> {
        let address = frame::destination(frame).ok_or_else(|| unusable("a frame without IP".to_owned()))?;
        if !self.own.iter().any(|&(first, prefix)| holds(first, prefix, address)) {
            return Err(unusable(format!("{address} is no address of this machine; nothing was sent")));
        }
        match address {
            IpAddr::V4(address) => Ok(Destination::V4(address)),
            IpAddr::V6(_) if self.v6.is_none() => Err(unusable("this host has no IPv6".to_owned())),
            IpAddr::V6(address) => Ok(Destination::V6(address)),
        }
    }
}

fn unusable(what: String) -> LinkError {
    LinkError::Unusable { name: "af_packet", reason: format!("on the loopback device: {what}") }
}

fn holds(first: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let common = match (first, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => (number_v4(first) ^ number_v4(address)).leading_zeros(),
        (IpAddr::V6(first), IpAddr::V6(address)) => (number_v6(first) ^ number_v6(address)).leading_zeros(),
        _ => return false,
    };
    u32::from(prefix) <= common
}

fn number_v4(address: Ipv4Addr) -> u32 {
    address.into()
}

fn number_v6(address: Ipv6Addr) -> u128 {
    address.into()
}

// linux/rtnetlink.h
const RTN_LOCAL: u8 = 2;
const TABLE_LOCAL: u32 = 255;
