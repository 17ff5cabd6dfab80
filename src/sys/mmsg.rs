//! Many messages in one system call (`man 2 sendmmsg`).
//!
//! The message headers are built on the stack for each call: 64 of them cost about one nanosecond a message, a
//! thousandth of what the kernel spends on it, and no structure is left behind that points into a buffer.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::socket::packet_address;

/// Messages per system call.
pub const MESSAGES: usize = 64;

/// Where a message goes, for sockets that are not bound or connected to one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// An IPv4 host (raw IPv4 sockets).
    V4(Ipv4Addr),
    /// An IPv6 host (raw IPv6 sockets).
    V6(Ipv6Addr),
    /// An interface and the EtherType of the frame (packet sockets).
    Interface {
        /// Index of the interface.
        index: u32,
        /// EtherType in host byte order.
        protocol: u16,
    },
}

/// What became of the messages.
#[derive(Debug)]
pub struct Sent {
    /// How many the kernel took, from the first on.
    pub count: usize,
    /// Why it did not take the next one; none when it took all.
    pub error: Option<io::Error>,
}

/// Sends `messages` in order and without waiting, each to the destination of the same position, or, where
/// `destinations` is shorter, to where the socket is bound. Goes on after a partial call until the kernel names an
/// error for the first message it did not take.
pub fn send(socket: BorrowedFd<'_>, messages: &[IoSlice<'_>], destinations: &[Destination]) -> Sent {
    let mut count = 0;
    while count < messages.len() {
        let rest = &messages[count..messages.len().min(count + MESSAGES)];
        match send_once(socket, rest, destinations.get(count..).unwrap_or_default()) {
            // The kernel says 0 only for an empty vector; ending here keeps the loop bounded whatever it says.
            Ok(0) => break,
            Ok(sent) => count += sent,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Sent { count, error: Some(error) },
        }
    }
    Sent { count, error: None }
}

/// One system call for at most [`MESSAGES`] messages.
fn send_once(
    socket: BorrowedFd<'_>,
    messages: &[IoSlice<'_>],
    destinations: &[Destination],
) -> io::Result<usize> {
    let count = messages.len().min(MESSAGES);
    let mut addresses = [const { Address::NONE }; MESSAGES];
    for (address, destination) in addresses.iter_mut().zip(destinations) {
        *address = Address::from(destination);
    }
    // SAFETY: a zeroed mmsghdr is valid: null pointers with zero lengths.
    let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { std::mem::zeroed() };
    for ((header, message), address) in headers.iter_mut().zip(&messages[..count]).zip(&mut addresses) {
        // IoSlice has the layout of iovec (its documentation promises so); the kernel only reads it.
        header.msg_hdr.msg_iov = std::ptr::from_ref(message).cast::<libc::iovec>().cast_mut();
        header.msg_hdr.msg_iovlen = 1;
        if address.length != 0 {
            header.msg_hdr.msg_name = (&raw mut address.bytes).cast();
            header.msg_hdr.msg_namelen = address.length;
        }
    }
    // SAFETY: the first `count` headers are initialised; each points to one iovec of `messages` and at most one
    // address of `addresses`, with its length; all of them and the bytes behind them outlive the call, and for
    // sending the kernel writes only `msg_len` in the headers. The descriptor is open.
    let result = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A socket address and its length in bytes; length 0 for none.
#[derive(Clone, Copy)]
struct Address {
    bytes: AddressBytes,
    length: libc::socklen_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
union AddressBytes {
    none: (),
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    packet: libc::sockaddr_ll,
}

impl Address {
    const NONE: Address = Address { bytes: AddressBytes { none: () }, length: 0 };

    /// The port is zero: the kernel refuses another one for a raw IPv6 socket, and ignores it for IPv4.
    fn from(destination: &Destination) -> Address {
        match *destination {
            Destination::V4(address) => {
                let v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: 0,
                    sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
                    sin_zero: [0; 8],
                };
                Address { bytes: AddressBytes { v4 }, length: size_of_val(&v4) as libc::socklen_t }
            }
            Destination::V6(address) => {
                let v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: 0,
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.octets() },
                    sin6_scope_id: 0,
                };
                Address { bytes: AddressBytes { v6 }, length: size_of_val(&v6) as libc::socklen_t }
            }
            Destination::Interface { index, protocol } => {
                let packet = packet_address(index, protocol);
                Address { bytes: AddressBytes { packet }, length: size_of_val(&packet) as libc::socklen_t }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn every_message_arrives_once_and_in_order_over_several_calls() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket on the loopback device");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket on the loopback device");
        sender.connect(receiver.local_addr().expect("bound")).expect("connected");
        let payloads: Vec<[u8; 4]> = (0..150u32).map(u32::to_be_bytes).collect();
        let messages: Vec<IoSlice<'_>> = payloads.iter().map(|payload| IoSlice::new(payload)).collect();
        let sent = send(sender.as_fd(), &messages, &[]);
        assert_eq!((sent.count, sent.error.is_none()), (150, true));
        for payload in &payloads {
            let mut buffer = [0; 8];
            let length = receiver.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], payload);
        }
    }

    #[test]
    fn the_count_stops_before_the_first_message_the_kernel_refuses() {
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket on the loopback device");
        sender.connect("127.0.0.1:9").expect("connected");
        let long = vec![0; 70_000];
        let messages = [IoSlice::new(b"fits"), IoSlice::new(&long), IoSlice::new(b"fits")];
        let sent = send(sender.as_fd(), &messages, &[]);
        assert_eq!(sent.count, 1);
        assert_eq!(sent.error.and_then(|error| error.raw_os_error()), Some(libc::EMSGSIZE));
    }

    #[test]
    fn nothing_to_send_is_no_error() {
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket on the loopback device");
        let sent = send(sender.as_fd(), &[], &[]);
        assert_eq!((sent.count, sent.error.is_none()), (0, true));
    }
}
