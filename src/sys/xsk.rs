//! AF_XDP sockets (`Documentation/networking/af_xdp.rst`, `net/xdp/xsk.c`, `net/xdp/xsk_queue.h`).
//!
//! Frames live in memory of this process that the kernel shares. Some are for sending: free, taken and filled here, pushed
//! to the transmit ring, read by the kernel, back through the completion ring, free. The others are for receiving: given
//! to the kernel by the fill ring, written by it, shown by the receive ring, copied out, given back. No frame ever changes
//! sides, so the sender's frames are never written by the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::checked;
use super::mapping::Mapping;
use super::socket;

/// How frames get to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XskMode {
    /// The kernel copies each frame into or out of a packet buffer: any interface.
    Copy,
    /// The driver reads and writes the frames in place.
    ZeroCopy,
}

/// A socket and the memory it shares; the halves that send and receive both hold it.
///
/// Fields are dropped in this order: the socket before the memory it reads and writes.
#[derive(Debug)]
struct Shared {
    descriptor: OwnedFd,
    frames: Mapping,
}

/// The half of an AF_XDP socket that transmits.
#[derive(Debug)]
pub struct XskSender {
    shared: Arc<Shared>,
    transmit: Ring,
    completion: Ring,
    /// How many frames are for sending: the first ones.
    count: u32,
    free: Vec<u32>,
    /// Frames pushed since the socket was opened, modulo 2^32: the producer index.
    pushed: u32,
}

/// The half of an AF_XDP socket that receives.
#[derive(Debug)]
pub struct XskReceiver {
    shared: Arc<Shared>,
    receive: Ring,
    fill: Ring,
    /// Where the frames for receiving begin and end, in bytes.
    range: std::ops::Range<usize>,
}

/// A new socket.
#[derive(Debug)]
pub struct Xsk {
    /// Transmits, where frames for that were asked for.
    pub sender: Option<XskSender>,
    /// Receives, where frames for that were asked for.
    pub receiver: Option<XskReceiver>,
    shared: Arc<Shared>,
}

impl Xsk {
    /// A socket with `transmit` frames (0, or a power of two) of [`FRAME_BYTES`] bytes for sending and `receive` such for
    /// receiving, bound to nothing. All frames for receiving are given to the kernel.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, ENOBUFS above the limit of locked memory, EINVAL for numbers that are no powers of two.
    pub fn open(transmit: u32, receive: u32) -> io::Result<Xsk> {
        let fits = |count: u32| count == 0 || (count.is_power_of_two() && count <= MOST_FRAMES);
        if !fits(transmit) || !fits(receive) || transmit + receive == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let descriptor = socket::open(libc::AF_XDP, libc::SOCK_RAW, 0)?;
        let memory = Mapping::anonymous((transmit + receive) as usize * FRAME_BYTES)?;
        let registration = libc::xdp_umem_reg {
            addr: memory.address().as_ptr() as u64,
            len: memory.length() as u64,
            chunk_size: FRAME_BYTES as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        // The kernel uses the memory from now on, when it is told to; it is unmapped only after the socket is closed.
        set_option(&descriptor, libc::XDP_UMEM_REG, &registration)?;
        // The kernel wants both of these to exist, whatever is sent and received.
        let (fills, completions) = (receive.max(LEAST_ENTRIES), transmit.max(LEAST_ENTRIES));
        set_option(&descriptor, libc::XDP_UMEM_FILL_RING, &fills)?;
        set_option(&descriptor, libc::XDP_UMEM_COMPLETION_RING, &completions)?;
        if transmit != 0 {
            set_option(&descriptor, libc::XDP_TX_RING, &transmit)?;
            // By default a call sends 32 frames at most (Linux 6.17 lets it be raised; older kernels say ENOPROTOOPT).
            let _ = set_option(&descriptor, XDP_MAX_TX_SKB_BUDGET, &transmit);
        }
        if receive != 0 {
            set_option(&descriptor, libc::XDP_RX_RING, &receive)?;
        }
        let layout = offsets(&descriptor)?;
        let shared = Arc::new(Shared { descriptor, frames: memory });
        let socket = &shared.descriptor;
        let sender = (transmit != 0).then(|| {
            let entry = size_of::<Descriptor>();
            let completion_at = libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64;
            Ok::<_, io::Error>(XskSender {
                transmit: Ring::new(socket, &layout.tx, transmit, entry, libc::XDP_PGOFF_TX_RING)?,
                completion: Ring::new(socket, &layout.cr, transmit, size_of::<u64>(), completion_at)?,
                shared: Arc::clone(&shared),
                count: transmit,
                free: (0..transmit).rev().collect(),
                pushed: 0,
            })
        });
        let receiver = (receive != 0).then(|| {
            let entry = size_of::<Descriptor>();
            let fill_at = libc::XDP_UMEM_PGOFF_FILL_RING as i64;
            let first = transmit as usize * FRAME_BYTES;
            let mut receiver = XskReceiver {
                receive: Ring::new(socket, &layout.rx, receive, entry, libc::XDP_PGOFF_RX_RING)?,
                fill: Ring::new(socket, &layout.fr, receive, size_of::<u64>(), fill_at)?,
                shared: Arc::clone(&shared),
                range: first..first + receive as usize * FRAME_BYTES,
            };
            receiver.give((0..receive).map(|frame| (first + frame as usize * FRAME_BYTES) as u64));
            Ok::<_, io::Error>(receiver)
        });
        Ok(Xsk { sender: sender.transpose()?, receiver: receiver.transpose()?, shared })
    }

    /// Binds to a queue of the interface with `index`, found in the network namespace of the calling thread.
    ///
    /// # Errors
    /// EBUSY when another socket has the queue, EINVAL when there is no such queue, EOPNOTSUPP when the driver does not
    /// do what was asked for, ENETDOWN when the interface is down.
    pub fn bind(&self, index: u32, queue: u32, mode: XskMode) -> io::Result<()> {
        let how = match mode {
            XskMode::Copy => libc::XDP_COPY,
            XskMode::ZeroCopy => libc::XDP_ZEROCOPY,
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: how | libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: index,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let length = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_xdp of `length` bytes that outlives the call; the descriptor is open.
        checked(unsafe {
            libc::bind(self.shared.descriptor.as_raw_fd(), (&raw const address).cast(), length)
        })
        .map(drop)
    }

    /// The mode that was obtained.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn mode(&self) -> io::Result<XskMode> {
        let mut options = libc::xdp_options { flags: 0 };
        get_option(&self.shared.descriptor, libc::XDP_OPTIONS, &mut options)?;
        let zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        Ok(if zero_copy { XskMode::ZeroCopy } else { XskMode::Copy })
    }

    /// Makes the socket's send buffer hold `bytes`; the kernel charges copies of frames to it.
    pub fn raise_send_buffer(&self, bytes: u32) {
        socket::raise_send_buffer(self.shared.descriptor.as_fd(), bytes);
    }
}

impl XskSender {
    /// Frames that may be filled and pushed.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The memory of the free frame that [`XskSender::push`] will push after `ahead` others; none when there are not
    /// so many.
    pub fn free_frame(&mut self, ahead: usize) -> Option<&mut [u8]> {
        let place = self.free.len().checked_sub(ahead + 1)?;
        let start = self.free[place] as usize * FRAME_BYTES;
        // SAFETY: frame numbers are below the number of frames for sending, so these bytes lie inside of the mapping, which
        // lives as long as `self` and which the kernel initialised with zeroes. `&mut self` says that no other reference to
        // these frames exists (those for receiving are others), and the kernel only reads them.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.shared.frames.address().as_ptr().add(start), FRAME_BYTES)
        })
    }

    /// Pushes the next free frame, its first `length` bytes, to the transmit ring; the kernel sees it after
    /// [`XskSender::publish`]. Returns whether there was a free frame and it can be so long.
    pub fn push(&mut self, length: usize) -> bool {
        let fits = u32::try_from(length).ok().filter(|&length| length as usize <= FRAME_BYTES);
        let (Some(length), Some(frame)) = (fits, self.free.last().copied()) else { return false };
        // There are as many slots in the ring as frames, and a frame that is free is in no slot.
        self.free.pop();
        let descriptor = Descriptor { address: u64::from(frame) * FRAME_BYTES as u64, length, options: 0 };
        self.transmit.write(self.pushed, descriptor);
        self.pushed = self.pushed.wrapping_add(1);
        true
    }

    /// Shows the kernel what was pushed.
    pub fn publish(&self) {
        // Release: descriptors and frames are written before the kernel can see the index.
        self.transmit.producer().store(self.pushed, Ordering::Release);
    }

    /// Frames that were pushed and the kernel has not looked at.
    pub fn unread(&self) -> u32 {
        self.pushed.wrapping_sub(self.transmit.consumer().load(Ordering::Acquire))
    }

    /// Takes back the last `count` frames that were pushed. Only right while the kernel cannot have seen them: before
    /// [`XskSender::publish`], or when [`XskSender::kick`], in copy mode, failed before it looked (ENETDOWN, ENXIO) and
    /// [`XskSender::unread`] says that none was read. Otherwise a frame may be sent that was taken back, or later
    /// contents of it; no memory is ever misused.
    pub fn take_back(&mut self, count: u32) {
        for _ in 0..count.min(self.unread()) {
            self.pushed = self.pushed.wrapping_sub(1);
            let Descriptor { address, .. } = self.transmit.read(self.pushed);
            self.release(address);
        }
        self.publish();
    }

    /// Whether the kernel asked to be told of new frames. In copy mode it always must be.
    pub fn needs_wakeup(&self) -> bool {
        // The index is published before the flag is read, and the kernel does it the other way round.
        fence(Ordering::SeqCst);
        self.transmit.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Tells the kernel to send. In copy mode the frames are sent within the call.
    ///
    /// # Errors
    /// EBUSY when the last frame it read was dropped, EAGAIN and ENOBUFS when it should be told again, ENETDOWN, ENXIO
    /// when the interface is gone.
    pub fn kick(&self) -> io::Result<()> {
        // SAFETY: sendto with neither data nor address takes no pointer; the descriptor is open.
        let result = unsafe {
            libc::sendto(
                self.shared.descriptor.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes frames that the kernel is done with out of the completion ring; they are free again.
    pub fn reclaim(&mut self) {
        let mut at = self.completion.consumer().load(Ordering::Relaxed);
        // Acquire: the entries are read after the index that says they are written.
        let count = self.completion.producer().load(Ordering::Acquire).wrapping_sub(at);
        // Never more than there are slots, whatever the index says.
        for _ in 0..count.min(self.completion.mask + 1) {
            let address: u64 = self.completion.read(at);
            self.release(address);
            at = at.wrapping_add(1);
        }
        // Release: the entries are read before the kernel may write there again.
        self.completion.consumer().store(at, Ordering::Release);
    }

    fn release(&mut self, address: u64) {
        let number = address / FRAME_BYTES as u64;
        // Numbers of frames for sending only, and no more of them than there are.
        if number < u64::from(self.count) && self.free.len() < self.count as usize {
            self.free.push(number as u32);
        }
    }
}

impl AsFd for XskReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.descriptor.as_fd()
    }
}

impl XskReceiver {
    /// Appends the frames that were received, at most `most`, to `bytes`, tells `visit` where in `bytes` each begins and
    /// how long it is, and gives the frames back to the kernel. Does not wait.
    pub fn receive(&mut self, most: u32, bytes: &mut Vec<u8>, mut visit: impl FnMut(usize, usize)) {
        let first = self.receive.consumer().load(Ordering::Relaxed);
        // Acquire: entries and frames are read after the index that says they are written.
        let there = self.receive.producer().load(Ordering::Acquire).wrapping_sub(first);
        let count = there.min(most).min(self.receive.mask + 1);
        for index in 0..count {
            let Descriptor { address, length, .. } = self.receive.read(first.wrapping_add(index));
            let Some(frame) = self.frame(address, length) else { continue };
            visit(bytes.len(), frame.len());
            bytes.extend_from_slice(frame);
        }
        self.give_back(first, count);
        // Release: entries are read before the kernel may write there again.
        self.receive.consumer().store(first.wrapping_add(count), Ordering::Release);
        if count != 0 && self.fill.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0 {
            self.wake();
        }
    }

    /// The bytes of a frame that the kernel has shown and not got back; none for what is no frame for receiving.
    fn frame(&self, address: u64, length: u32) -> Option<&[u8]> {
        let (start, length) = (usize::try_from(address).ok()?, length as usize);
        let inside = self.range.contains(&start) && length <= FRAME_BYTES - start % FRAME_BYTES;
        // SAFETY: these bytes lie inside of one frame of the mapping, which lives as long as `self` and was initialised
        // with zeroes. The kernel writes to a frame only between its entry in the fill ring and that in the receive ring;
        // this one was read from the receive ring, and `give_back`, which gives it to the kernel, takes `&mut self` and so
        // outlives this borrow.
        inside.then(|| unsafe {
            std::slice::from_raw_parts(self.shared.frames.address().as_ptr().add(start).cast_const(), length)
        })
    }

    /// Gives the frames of entries of the receive ring to the kernel again.
    fn give_back(&mut self, first: u32, count: u32) {
        let mut at = self.fill.producer().load(Ordering::Relaxed);
        for index in 0..count {
            let Descriptor { address, .. } = self.receive.read(first.wrapping_add(index));
            // The frame is the kernel's wherever in it the bytes began.
            self.fill.write(at, address / FRAME_BYTES as u64 * FRAME_BYTES as u64);
            at = at.wrapping_add(1);
        }
        // Release: the frames were read, and their numbers written, before the kernel sees the index.
        self.fill.producer().store(at, Ordering::Release);
    }

    fn give(&mut self, addresses: impl Iterator<Item = u64>) {
        let mut at = self.fill.producer().load(Ordering::Relaxed);
        for address in addresses {
            self.fill.write(at, address);
            at = at.wrapping_add(1);
        }
        self.fill.producer().store(at, Ordering::Release);
    }

    /// Whether something was received and not taken.
    pub fn has_frames(&self) -> bool {
        self.receive.producer().load(Ordering::Acquire) != self.receive.consumer().load(Ordering::Relaxed)
    }

    /// Tells a driver that waits for frames that there are some again.
    fn wake(&self) {
        // SAFETY: recvfrom without data and address takes no pointer; the descriptor is open. What it says about frames
        // is nothing to us.
        unsafe {
            libc::recvfrom(
                self.shared.descriptor.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
        }
    }

    /// Frames for this socket that the kernel dropped: no frame to write to, or no room in the ring.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn drops(&self) -> io::Result<u64> {
        let mut statistics = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        get_option(&self.shared.descriptor, libc::XDP_STATISTICS, &mut statistics)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
    }

    /// The socket, to be entered into a map of sockets.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.shared.descriptor
    }
}

/// A ring of `mask + 1` entries in memory shared with the kernel. Indices run freely, modulo 2^32.
#[derive(Debug)]
struct Ring {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    mask: u32,
}

impl Ring {
    /// Maps the ring that stands at `offset` behind the socket.
    fn new(
        descriptor: &OwnedFd,
        layout: &libc::xdp_ring_offset,
        count: u32,
        entry_bytes: usize,
        offset: i64,
    ) -> io::Result<Ring> {
        let place = |offset: u64| usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidData);
        let entries = place(layout.desc)?;
        let length = entries + count as usize * entry_bytes;
        let mapping = Mapping::new(descriptor.as_fd(), length, offset)?;
        let (producer, consumer, flags) =
            (place(layout.producer)?, place(layout.consumer)?, place(layout.flags)?);
        let inside = |offset: usize| offset.is_multiple_of(4) && offset + 4 <= length;
        if !(inside(producer) && inside(consumer) && inside(flags) && entries.is_multiple_of(8)) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Ring { mapping, producer, consumer, flags, entries, mask: count - 1 })
    }

    fn producer(&self) -> &AtomicU32 {
        self.word(self.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.consumer)
    }

    fn flags(&self) -> &AtomicU32 {
        self.word(self.flags)
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `new` has seen that the word lies inside of the mapping, which lives as long as `self`, and that it is
        // aligned (mappings start at multiples of the page size). Both sides access it as one 32-bit word.
        unsafe { &*self.mapping.address().as_ptr().add(offset).cast::<AtomicU32>() }
    }

    /// The address of the entry with that index.
    fn entry<T>(&self, index: u32) -> *mut T {
        let offset = self.entries + (index & self.mask) as usize * size_of::<T>();
        assert!(
            offset + size_of::<T>() <= self.mapping.length(),
            "the ring was mapped for entries of this size"
        );
        // SAFETY: the offset lies inside of the mapping.
        unsafe { self.mapping.address().as_ptr().add(offset).cast() }
    }

    /// Writes the entry with that index.
    fn write<T: Entry>(&mut self, index: u32, entry: T) {
        // SAFETY: the address is inside of the mapping and a multiple of 8, as `new` has seen and entries are 8 or 16
        // bytes long. Whatever is written there, the kernel checks it.
        unsafe { self.entry::<T>(index).write_volatile(entry) };
    }

    /// Reads the entry with that index.
    fn read<T: Entry>(&self, index: u32) -> T {
        // SAFETY: as in `write`; every pattern of bits is a valid `T`, as `Entry` says, and the kernel initialised the
        // memory. Volatile, because the kernel may write there.
        unsafe { self.entry::<T>(index).read_volatile() }
    }
}

/// An entry of a ring.
///
/// # Safety
/// Plain old data without padding: every pattern of bits is a value.
unsafe trait Entry: Copy {}

/// `struct xdp_desc`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    address: u64,
    length: u32,
    options: u32,
}

// SAFETY: three numbers without padding.
unsafe impl Entry for Descriptor {}

// SAFETY: a number.
unsafe impl Entry for u64 {}

fn offsets(descriptor: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    let none = || libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
    let mut layout = libc::xdp_mmap_offsets { rx: none(), tx: none(), fr: none(), cr: none() };
    get_option(descriptor, libc::XDP_MMAP_OFFSETS, &mut layout)?;
    Ok(layout)
}

/// Options whose value is a structure without pointers that the kernel dereferences beyond the call, or whose memory
/// outlives the socket (`XDP_UMEM_REG`).
fn set_option<T: Copy>(descriptor: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let pointer = std::ptr::from_ref(value).cast();
    // SAFETY: `value` is `length` bytes that outlive the call; the descriptor is open.
    checked(unsafe { libc::setsockopt(descriptor.as_raw_fd(), libc::SOL_XDP, name, pointer, length) })
        .map(drop)
}

/// Options whose value is made of numbers only.
fn get_option<T: Copy>(descriptor: &OwnedFd, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    let pointer = std::ptr::from_mut(value).cast();
    // SAFETY: the kernel writes at most `length` bytes to `value` and the length to `length`; both outlive the call, and
    // the descriptor is open. The types this is called for are numbers, so that any bytes are a value.
    checked(unsafe { libc::getsockopt(descriptor.as_raw_fd(), libc::SOL_XDP, name, pointer, &mut length) })
        .map(drop)
}

/// Bytes of a frame: the smallest the kernel takes in aligned mode.
pub const FRAME_BYTES: usize = 2048;
/// 128 MiB.
const MOST_FRAMES: u32 = 1 << 16;
/// Of a ring that is not used.
const LEAST_ENTRIES: u32 = 64;
/// `linux/if_xdp.h`, Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
