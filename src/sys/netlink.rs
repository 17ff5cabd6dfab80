//! Netlink: asking the kernel for tables, and cutting its answers into messages and attributes
//! (`linux/netlink.h`, RFC 3549).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::socket;

/// A socket to the kernel's routing tables (NETLINK_ROUTE) of the namespace it was opened in.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens the socket. Needs no privilege.
    ///
    /// # Errors
    /// When the kernel has no netlink or the process no descriptor left.
    pub fn open() -> io::Result<Netlink> {
        let socket = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Asks for a whole table (`RTM_GETLINK`, `RTM_GETADDR`, `RTM_GETROUTE` or `RTM_GETNEIGH`) of one address
    /// family (0 for all); `parse` makes entries of the body of each message of the answer. A table that changed
    /// while it was read is asked for again, a few times.
    ///
    /// # Errors
    /// What the kernel answers; [`io::ErrorKind::Interrupted`] when the table never stood still.
    pub fn dump<T>(
        &mut self,
        request: u16,
        family: u8,
        mut parse: impl FnMut(&[u8], &mut Vec<T>),
    ) -> io::Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            let mut entries = Vec::new();
            self.ask(request, libc::NLM_F_DUMP, body_of(family, 0))?;
            if self.collect(&mut |body| parse(body, &mut entries))? {
                return Ok(entries);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the table changes faster than it can be read"))
    }

    /// Asks for the interface with an index (`RTM_GETLINK`); `visit` gets the body of the answer.
    ///
    /// # Errors
    /// What the kernel answers, `ENODEV` when there is none.
    pub fn link(&mut self, index: u32, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        // With an acknowledgement behind the answer there is an end to read to.
        self.ask(libc::RTM_GETLINK, libc::NLM_F_ACK, body_of(0, index))?;
        self.collect(&mut visit).map(|_| ())
    }

    fn ask(&mut self, request: u16, flags: i32, body: [u8; 16]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = [0u8; HEADER + 16];
        let length = message.len() as u32;
        message[0..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&request.to_ne_bytes());
        message[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        message[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        message[HEADER..].copy_from_slice(&body);
        // SAFETY: the kernel reads `message.len()` bytes of `message`, which outlives the call; the descriptor is
        // open. An unconnected netlink socket sends to the kernel.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads the answer to its end; returns whether the table stood still.
    fn collect(&mut self, visit: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut buffer = vec![0; BUFFER];
        let mut still = true;
        loop {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]) {
                if message.sequence != self.sequence {
                    continue;
                }
                still &= message.flags & DUMP_INTERRUPTED == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(still),
                    libc::NLMSG_ERROR => {
                        let code = message.body.get(..4).and_then(|code| code.try_into().ok());
                        let code = code.map_or(0, i32::from_ne_bytes);
                        if code == 0 {
                            return Ok(still);
                        }
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    _ => visit(message.body),
                }
            }
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which outlives the call; the
        // descriptor is open. With MSG_TRUNC the result may be longer than the buffer, which is checked below.
        let length = unsafe {
            libc::recv(
                self.socket.as_fd().as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_TRUNC,
            )
        };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        if buffer.len() < length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink answer was cut off"));
        }
        Ok(length)
    }
}

/// The fixed part of a request: the longest of the four kinds is that of links, `struct ifinfomsg`, 16 bytes; the family is
/// the first byte of each, the index of an interface the second word of that of links.
fn body_of(family: u8, index: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[0] = family;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body
}

/// A socket that hears what changes in the kernel's routing tables.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Listener {
    /// Hears the groups whose bits are set (`RTMGRP_*`). Needs no privilege.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(groups: u32) -> io::Result<Listener> {
        let socket = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        // SAFETY: all zeroes is a valid sockaddr_nl: port 0 lets the kernel choose.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_nl of `length` bytes that outlives the call; the descriptor is open.
        super::checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(Listener { socket, buffer: vec![0; BUFFER] })
    }

    /// Waits at most `timeout_ms` and visits the messages that came.
    ///
    /// # Errors
    /// ENOBUFS when more changed than the socket had room for, and what else the kernel says.
    pub fn hear(&mut self, timeout_ms: i32, mut visit: impl FnMut(Message<'_>)) -> io::Result<()> {
        let mut waits = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd that outlives the call.
        if super::checked(unsafe { libc::poll(&raw mut waits, 1, timeout_ms) })? == 0 {
            return Ok(());
        }
        // SAFETY: the kernel writes at most so many bytes to the buffer, which outlives the call; the descriptor is open.
        let length = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        messages(&self.buffer[..length.min(self.buffer.len())]).for_each(&mut visit);
        Ok(())
    }
}

/// One message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is about (`RTM_*`, `NLMSG_*`).
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The number of the request it answers.
    pub sequence: u32,
    /// What stands behind the header.
    pub body: &'a [u8],
}

/// The messages in `bytes`; ends at the first that is cut off.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let message =
            Message { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)?, body };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `bytes`, kind and value, nesting flags removed; ends at the first that is cut off.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The number of 2 bytes at `offset`, in the byte order of this machine.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?))
}

/// The number of 4 bytes at `offset`, in the byte order of this machine.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLM_F_DUMP_INTR`.
const DUMP_INTERRUPTED: u16 = 0x10;
/// The kernel's answers to dumps are at most 32 KiB (`netlink_dump`, `net/netlink/af_netlink.c`).
const BUFFER: usize = 64 << 10;
/// How often a changing table is read again.
const ATTEMPTS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_and_attributes_are_cut_at_their_padded_lengths() {
        let mut bytes = Vec::new();
        bytes.extend(21u32.to_ne_bytes());
        bytes.extend(24u16.to_ne_bytes());
        bytes.extend(2u16.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend([5, 0, 1, 0x80, 9]);
        bytes.extend([0; 3]);
        let second = bytes.clone();
        bytes.extend(second);
        let all: Vec<Message<'_>> = messages(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].kind, all[1].flags, all[1].sequence), (24, 2, 7));
        if cfg!(target_endian = "little") {
            assert_eq!(attributes(all[1].body).collect::<Vec<_>>(), [(1, &[9u8][..])]);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_neither_panic_nor_loop(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / 4);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
        }
    }

    #[test]
    fn the_kernel_lists_the_loopback_device() {
        let mut netlink = Netlink::open().expect("netlink");
        let bodies = netlink
            .dump(libc::RTM_GETLINK, 0, |body, bodies: &mut Vec<Vec<u8>>| bodies.push(body.to_vec()))
            .expect("a table of links");
        assert!(bodies.iter().any(|body| u16_at(body, 2) == Some(libc::ARPHRD_LOOPBACK)));
        let mut only = Vec::new();
        netlink.link(1, |body| only.push(body.to_vec())).expect("the loopback device");
        assert_eq!((only.len(), u32_at(&only[0], 4)), (1, Some(1)));
        let none = netlink.link(0x7fff_0000, |_| panic!("no such interface")).expect_err("none");
        assert_eq!(none.raw_os_error(), Some(libc::ENODEV));
        netlink.link(1, |_| ()).expect("the socket is in step behind an error");
    }
}
