//! Sockets for whole frames and whole IP packets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::bpf::Program;
use super::checked;

/// A socket for whole link-layer frames (`man 7 packet`), without the kernel's cooking.
#[derive(Debug)]
pub struct PacketSocket {
    descriptor: OwnedFd,
}

impl PacketSocket {
    /// A socket that receives nothing (protocol 0) and is bound to no interface.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW.
    pub fn open() -> io::Result<PacketSocket> {
        let descriptor = open(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        Ok(PacketSocket { descriptor })
    }

    /// Binds to the interface with `index`. With `protocol` 0 the socket only transmits; with an EtherType, in host
    /// byte order, it receives frames of that type from then on.
    ///
    /// # Errors
    /// ENODEV when there is no such interface, ENETDOWN when it is down and the socket is to receive.
    pub fn bind(&self, index: u32, protocol: u16) -> io::Result<()> {
        let address = packet_address(index, protocol);
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll of `length` bytes that outlives the call; the descriptor is open.
        checked(unsafe { libc::bind(self.descriptor.as_raw_fd(), (&raw const address).cast(), length) })
            .map(drop)
    }

    /// Hands frames to the driver without a queueing discipline: no requeue, and a full queue is reported at once
    /// (`PACKET_QDISC_BYPASS`, Linux 3.14).
    ///
    /// # Errors
    /// ENOPROTOOPT on older kernels.
    pub fn bypass_qdisc(&self) -> io::Result<()> {
        set(self.as_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)
    }

    /// Does not receive what this host transmits (`PACKET_IGNORE_OUTGOING`, Linux 4.20).
    ///
    /// # Errors
    /// ENOPROTOOPT on older kernels.
    pub fn ignore_outgoing(&self) -> io::Result<()> {
        set(self.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)
    }

    /// Receives only what the program accepts.
    ///
    /// # Errors
    /// EINVAL when the kernel's checker refuses the program.
    pub fn attach_filter(&self, program: &Program) -> io::Result<()> {
        self.attach(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
    }

    /// Gives a program to an option that takes one (`struct sock_fprog`).
    pub(super) fn attach(&self, level: libc::c_int, name: libc::c_int, program: &Program) -> io::Result<()> {
        let mut code: Vec<libc::sock_filter> = program
            .instructions()
            .iter()
            .map(|instruction| libc::sock_filter {
                code: instruction.code,
                jt: instruction.jump_true,
                jf: instruction.jump_false,
                k: instruction.operand,
            })
            .collect();
        let length = u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let header = libc::sock_fprog { len: length, filter: code.as_mut_ptr() };
        let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: `header` is a sock_fprog of `size` bytes whose pointer leads to `len` instructions; both outlive
        // the call, and the kernel copies them. The descriptor is open.
        let result = unsafe { libc::setsockopt(descriptor, level, name, (&raw const header).cast(), size) };
        checked(result).map(drop)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A socket that sends whole IP packets, header included, and receives nothing (`man 7 raw`, IPPROTO_RAW). The
/// kernel routes them; it writes the IPv4 header checksum, and the identification if that is zero.
///
/// # Errors
/// EPERM without CAP_NET_RAW, EAFNOSUPPORT when the host has no IPv6.
pub fn raw_ipv4() -> io::Result<OwnedFd> {
    open(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)
}

/// As [`raw_ipv4`], for IPv6.
///
/// # Errors
/// As [`raw_ipv4`].
pub fn raw_ipv6() -> io::Result<OwnedFd> {
    open(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW)
}

/// Raises the send buffer to `bytes` (of packets with the kernel's own overhead, about 768 for a small frame), past
/// the administrator's limit where CAP_NET_ADMIN allows it; below it otherwise, silently: a small buffer shows as
/// a full queue, not as a failure.
pub fn raise_send_buffer(socket: BorrowedFd<'_>, bytes: u32) {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    if set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes).is_err() {
        let _ = set(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
    }
}

/// A socket option whose value is an int.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn get(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, an int, and the length to `length`; both outlive
    // the call, and the descriptor is open.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &mut length)
    })?;
    Ok(value)
}

/// The error that waits on a socket (`SO_ERROR`), which is thereby cleared.
///
/// # Errors
/// When the kernel cannot be asked; the waiting error itself is the value.
pub fn pending_error(socket: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let code = get(socket, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Opens a socket that closes on exec.
pub(super) fn open(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket takes no pointer.
    let descriptor = checked(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel just returned this descriptor, it is open and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Sets a socket option whose value is an int.
pub(super) fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is an int of `length` bytes that outlives the call; the descriptor is open. Options whose
    // value holds a pointer or is longer are refused by the kernel for their length.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    checked(result).map(drop)
}

/// The link-layer address that names an interface and an EtherType.
pub(super) fn packet_address(index: u32, protocol: u16) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: protocol.to_be(),
        // An index above i32::MAX exists nowhere: -1 draws ENODEV or ENXIO.
        sll_ifindex: libc::c_int::try_from(index).unwrap_or(-1),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}
