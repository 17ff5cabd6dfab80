//! A receive ring shared with the kernel: TPACKET_V3 (`Documentation/networking/packet_mmap.rst`,
//! `linux/if_packet.h`, `net/packet/af_packet.c`).
//!
//! The kernel fills blocks with frames and hands over whole blocks, when full or after a timeout. A block belongs
//! to whom its status word names: this side reads it only while it says "user", and gives it back by writing
//! "kernel".

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::bpf::Program;
use super::checked;
use super::mapping::Mapping;
use super::socket::{self, PacketSocket};

/// Size and timing of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSize {
    /// Bytes per block: a power of two and a multiple of the page size. A longer frame is cut off.
    pub block_bytes: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// Milliseconds after which the kernel hands over a block that is not full.
    pub retire_ms: u32,
}

/// A frame in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Offset of its first byte in the block.
    pub offset: usize,
    /// Bytes captured.
    pub length: usize,
    /// When it was received: nanoseconds since the Unix epoch.
    pub time_ns: u64,
}

/// A receive ring on one interface.
#[derive(Debug)]
pub struct Ring {
    socket: PacketSocket,
    mapping: Mapping,
    size: RingSize,
    current: usize,
    held: bool,
    drops: u64,
}

impl Ring {
    /// Receives frames of every type on the interface with `index` that `filter` accepts, but not what this host
    /// transmits there.
    ///
    /// Binding comes last, so that no frame arrives before the filter stands; and it is for every type, because
    /// those taps see a frame before anything on the host can drop it.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, ENOMEM when the ring is too large, EINVAL for a size the kernel refuses, ENODEV
    /// and ENETDOWN for the interface.
    pub fn open(index: u32, filter: &Program, size: RingSize) -> io::Result<Ring> {
        let socket = PacketSocket::open()?;
        socket::set(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_VERSION, TPACKET_V3)?;
        socket.ignore_outgoing()?;
        socket.attach_filter(filter)?;
        request(&socket, size)?;
        let length = size.block_bytes as usize * size.blocks as usize;
        let mapping = Mapping::new(socket.as_fd(), length, 0)?;
        socket.bind(index, EVERY_TYPE)?;
        Ok(Ring { socket, mapping, size, current: 0, held: false, drops: 0 })
    }

    /// Makes a group of one of the ring: frames of the interface are from then on divided among the rings of a group, to
    /// each the one that `program` computes for it, modulo their number. Returns the number that names the group.
    ///
    /// # Errors
    /// EINVAL on kernels before 4.12, what the kernel's checker says to the program.
    pub fn lead_group(&self, program: &Program) -> io::Result<u16> {
        let socket = self.socket.as_fd();
        let kind = (FANOUT_PROGRAM | FANOUT_UNIQUE_NUMBER) << 16;
        socket::set(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, kind)?;
        let group = socket::get(socket, libc::SOL_PACKET, libc::PACKET_FANOUT)?;
        self.socket.attach(libc::SOL_PACKET, PACKET_FANOUT_DATA, program)?;
        Ok((group & 0xffff) as u16)
    }

    /// Joins the group that another ring on the same interface leads.
    ///
    /// # Errors
    /// EINVAL when there is no such group.
    pub fn join_group(&self, group: u16) -> io::Result<()> {
        let value = FANOUT_PROGRAM << 16 | libc::c_int::from(group);
        socket::set(self.socket.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, value)
    }

    /// Gives back the block of the last call, waits at most `timeout` for the next one, shows each of its frames to
    /// `visit` and returns the memory they lie in; empty when there was none in time.
    ///
    /// # Errors
    /// When the kernel cannot be asked. An interface that goes down is no error: it may come up again.
    pub fn next(&mut self, timeout: Duration, visit: impl FnMut(Packet)) -> io::Result<&[u8]> {
        self.release();
        if !self.ready() {
            self.wait(timeout)?;
            if !self.ready() {
                return Ok(&[]);
            }
        }
        self.held = true;
        let block = self.block();
        walk(block, visit);
        Ok(block)
    }

    /// Frames the kernel dropped because the ring was full, since it was opened.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn drops(&mut self) -> io::Result<u64> {
        // struct tpacket_stats_v3: packets, drops, times the ring was frozen. Reading sets them to zero.
        let mut counters = [0u32; 3];
        let mut length = size_of_val(&counters) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `counters` and the length to `length`; both outlive
        // the call, and the descriptor is open.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_fd().as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counters.as_mut_ptr().cast(),
                &mut length,
            )
        };
        checked(result)?;
        self.drops += u64::from(counters[1]);
        Ok(self.drops)
    }

    fn release(&mut self) {
        if self.held {
            // Release: all reads of the block happen before the kernel sees that it owns it again.
            self.status().store(STATUS_KERNEL, Ordering::Release);
            self.current = (self.current + 1) % self.size.blocks as usize;
            self.held = false;
        }
    }

    /// Whether a block waits that was not shown.
    pub fn has_frames(&self) -> bool {
        if !self.held {
            return self.ready();
        }
        let next = (self.current + 1) % self.size.blocks as usize;
        self.status_of(next).load(Ordering::Acquire) & STATUS_USER != 0
    }

    fn ready(&self) -> bool {
        // Acquire: the block's bytes are read only after its status said that the kernel has written them.
        self.status().load(Ordering::Acquire) & STATUS_USER != 0
    }

    fn wait(&self, timeout: Duration) -> io::Result<()> {
        let events = poll(self.socket.as_fd(), timeout)?;
        if events & libc::POLLERR == 0 {
            return Ok(());
        }
        // A waiting error would make every later poll return at once, so it is taken. The interface going down is
        // reported this way; the kernel goes on receiving when it comes up again (packet_notifier).
        match socket::pending_error(self.socket.as_fd())? {
            Some(error) if error.raw_os_error() != Some(libc::ENETDOWN) => Err(error),
            _ => Ok(()),
        }
    }

    fn status(&self) -> &AtomicU32 {
        self.status_of(self.current)
    }

    fn status_of(&self, block: usize) -> &AtomicU32 {
        let start = block * self.size.block_bytes as usize + BLOCK_STATUS;
        assert!(start + 4 <= self.mapping.length(), "a block of the ring");
        // SAFETY: the assertion says that the word lies inside of the mapping, which lives as long as `self`; blocks
        // start at multiples of the page size, so it is aligned; kernel and user both access it as one 32-bit
        // word, and no other reference to it is made: `block` starts behind it.
        unsafe { &*self.mapping.address().as_ptr().add(start).cast::<AtomicU32>() }
    }

    /// The block in hand, without its first [`BLOCK_START`] bytes, which hold the status word.
    fn block(&self) -> &[u8] {
        let block_bytes = self.size.block_bytes as usize;
        let start = self.current * block_bytes + BLOCK_START;
        // SAFETY: `current < blocks`, so these bytes lie inside of the mapping, which lives as long as `self`. The
        // caller has seen the status "user" with Acquire, so the kernel has initialised them and writes none of
        // them until `release`, which takes `&mut self` and so outlives this borrow.
        unsafe {
            std::slice::from_raw_parts(
                self.mapping.address().as_ptr().add(start).cast_const(),
                block_bytes - BLOCK_START,
            )
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Shows each frame of a block (without its first [`BLOCK_START`] bytes) to `visit`. Offsets that lead outside of
/// the block end the walk, so no value the kernel could write leads to a wrong access or an endless loop.
fn walk(block: &[u8], mut visit: impl FnMut(Packet)) {
    let (Some(count), Some(first)) = (word(block, BLOCK_PACKETS), word(block, BLOCK_FIRST)) else { return };
    // Offsets of the kernel count from the start of the block.
    let Some(mut at) = (first as usize).checked_sub(BLOCK_START) else { return };
    for _ in 0..count {
        let (Some(next), Some(seconds), Some(nanoseconds), Some(length), Some(mac)) = (
            word(block, at),
            word(block, at + PACKET_SECONDS),
            word(block, at + PACKET_NANOSECONDS),
            word(block, at + PACKET_LENGTH),
            word(block, at + PACKET_MAC),
        ) else {
            return;
        };
        // tp_mac is the first of two 16-bit numbers in that word.
        let [low, high, ..] = mac.to_ne_bytes();
        let offset = at + usize::from(u16::from_ne_bytes([low, high]));
        let length = length as usize;
        if block.len() < offset + length {
            return;
        }
        visit(Packet {
            offset,
            length,
            time_ns: u64::from(seconds) * 1_000_000_000 + u64::from(nanoseconds),
        });
        if next == 0 {
            return;
        }
        at += next as usize;
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Asks for the ring: PACKET_RX_RING with a `struct tpacket_req3`.
fn request(socket: &PacketSocket, size: RingSize) -> io::Result<()> {
    let frames = u64::from(size.block_bytes / FRAME_BYTES) * u64::from(size.blocks);
    let frames = u32::try_from(frames).map_err(|_| io::ErrorKind::InvalidInput)?;
    let request: [u32; 7] = [size.block_bytes, size.blocks, FRAME_BYTES, frames, size.retire_ms, 0, 0];
    // SAFETY: `request` has the layout of tpacket_req3, seven 32-bit words, and outlives the call; the descriptor
    // is open. The kernel refuses sizes that do not fit each other.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_RX_RING,
            request.as_ptr().cast(),
            size_of_val(&request) as libc::socklen_t,
        )
    };
    checked(result).map(drop)
}

/// Waits until one of several sockets has something to say, or `timeout` is over. A signal ends the wait.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn wait_for_any(sockets: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
    let entry =
        |socket: &BorrowedFd<'_>| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    poll_all(&mut sockets.iter().map(entry).collect::<Vec<_>>(), timeout)
}

/// Waits until the socket has something to say; returns what (`man 2 poll`). A signal ends the wait.
fn poll(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<libc::c_short> {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    poll_all(std::slice::from_mut(&mut entry), timeout)?;
    Ok(entry.revents)
}

fn poll_all(entries: &mut [libc::pollfd], timeout: Duration) -> io::Result<()> {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    let count = entries.len() as libc::nfds_t;
    // SAFETY: `count` pollfds the kernel may write and one timespec it reads, all outlive the call; a null signal mask
    // means that the mask stays as it is.
    match checked(unsafe { libc::ppoll(entries.as_mut_ptr(), count, &timeout, std::ptr::null()) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

// linux/if_packet.h
const TPACKET_V3: libc::c_int = 2;
const FANOUT_PROGRAM: libc::c_int = 6;
const FANOUT_UNIQUE_NUMBER: libc::c_int = 0x2000;
const PACKET_FANOUT_DATA: libc::c_int = 22;
const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1;
const EVERY_TYPE: u16 = libc::ETH_P_ALL as u16;
/// Only a measure for the kernel's arithmetic: frames take the room they need.
const FRAME_BYTES: u32 = 2048;
/// Offset of `block_status` in `struct tpacket_block_desc`.
const BLOCK_STATUS: usize = 8;
/// Offset of `num_pkts`, behind the status word: where the safe view of a block starts.
const BLOCK_START: usize = 12;
/// `num_pkts`, `offset_to_first_pkt`, counted from [`BLOCK_START`].
const BLOCK_PACKETS: usize = 0;
const BLOCK_FIRST: usize = 4;
/// Offsets in `struct tpacket3_hdr`; `tp_next_offset` is its first word.
const PACKET_SECONDS: usize = 4;
const PACKET_NANOSECONDS: usize = 8;
const PACKET_LENGTH: usize = 12;
const PACKET_MAC: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A block, without its first bytes, that holds the given frames.
    fn block_of(frames: &[(&[u8], u64)]) -> Vec<u8> {
        let mut block = vec![0; 48 - BLOCK_START];
        block[BLOCK_PACKETS..][..4].copy_from_slice(&(frames.len() as u32).to_ne_bytes());
        block[BLOCK_FIRST..][..4].copy_from_slice(&48u32.to_ne_bytes());
        for (frame, time_ns) in frames {
            let mut header = [0u8; 82];
            let next = (header.len() + frame.len()).next_multiple_of(16) as u32;
            header[..4].copy_from_slice(&next.to_ne_bytes());
            header[4..8].copy_from_slice(&((time_ns / 1_000_000_000) as u32).to_ne_bytes());
            header[8..12].copy_from_slice(&((time_ns % 1_000_000_000) as u32).to_ne_bytes());
            header[12..16].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
            header[24..26].copy_from_slice(&82u16.to_ne_bytes());
            let end = block.len() + next as usize;
            block.extend(header);
            block.extend(*frame);
            block.resize(end, 0);
        }
        block
    }

    #[test]
    fn a_walk_shows_every_frame_with_its_time() {
        let frames: [(&[u8], u64); 3] =
            [(b"first", 1_700_000_000_123_456_789), (b"", 5), (b"the third frame", 1_000_000_000)];
        let block = block_of(&frames);
        let mut seen = Vec::new();
        walk(&block, |packet| seen.push((&block[packet.offset..][..packet.length], packet.time_ns)));
        assert_eq!(seen, frames);
    }

    proptest! {
        #[test]
        fn no_block_leads_a_walk_outside_of_it(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            count in 0u32..20,
            first in 0u32..200,
        ) {
            let mut block = bytes;
            if 8 <= block.len() {
                block[..4].copy_from_slice(&count.to_ne_bytes());
                block[4..8].copy_from_slice(&first.to_ne_bytes());
            }
            let mut shown = 0;
            walk(&block, |packet| {
                assert!(packet.offset + packet.length <= block.len());
                shown += 1;
            });
            prop_assert!(shown <= count as usize);
        }
    }
}
