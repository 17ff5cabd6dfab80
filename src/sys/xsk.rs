//! AF_XDP sockets, transmit side (`Documentation/networking/af_xdp.rst`, `net/xdp/xsk.c`, `net/xdp/xsk_queue.h`).
//!
//! Frames live in memory of this process that the kernel reads. A frame number travels: free, taken and filled here,
//! pushed to the transmit ring, read by the kernel, back through the completion ring, free. The kernel is never given
//! frames to receive into, so it writes to none.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::checked;
use super::mapping::Mapping;
use super::socket;

/// How frames get to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XskMode {
    /// The kernel copies each frame into a packet buffer: any interface.
    Copy,
    /// The driver reads the frames in place.
    ZeroCopy,
}

/// An AF_XDP socket that transmits.
///
/// Fields are dropped in this order: the socket before the memory it reads.
#[derive(Debug)]
pub struct XskSender {
    descriptor: OwnedFd,
    transmit: Ring,
    completion: Ring,
    /// The kernel wants this ring to exist; it stays empty.
    _fill: Mapping,
    frames: Mapping,
    free: Vec<u32>,
    /// Frames pushed since the socket was opened, modulo 2^32: the producer index.
    pushed: u32,
}

impl XskSender {
    /// A socket with `frames` frames (a power of two) of [`FRAME_BYTES`] bytes, bound to nothing.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, ENOBUFS above the limit of locked memory, EINVAL when `frames` is no power of two.
    pub fn open(frames: u32) -> io::Result<XskSender> {
        if !frames.is_power_of_two() || MOST_FRAMES < frames {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let descriptor = socket::open(libc::AF_XDP, libc::SOCK_RAW, 0)?;
        let memory = Mapping::anonymous(frames as usize * FRAME_BYTES)?;
        let registration = libc::xdp_umem_reg {
            addr: memory.address().as_ptr() as u64,
            len: memory.length() as u64,
            chunk_size: FRAME_BYTES as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        // The kernel reads the memory from now on, when it is told to; it is unmapped only after the socket is closed.
        set_option(&descriptor, libc::XDP_UMEM_REG, &registration)?;
        set_option(&descriptor, libc::XDP_UMEM_FILL_RING, &FILL_ENTRIES)?;
        set_option(&descriptor, libc::XDP_UMEM_COMPLETION_RING, &frames)?;
        set_option(&descriptor, libc::XDP_TX_RING, &frames)?;
        // By default a call sends 32 frames at most (Linux 6.17 lets it be raised; older kernels say ENOPROTOOPT).
        let _ = set_option(&descriptor, XDP_MAX_TX_SKB_BUDGET, &frames);
        let layout = offsets(&descriptor)?;
        let completion_at = libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64;
        let transmit =
            Ring::new(&descriptor, &layout.tx, frames, size_of::<Descriptor>(), libc::XDP_PGOFF_TX_RING)?;
        let completion = Ring::new(&descriptor, &layout.cr, frames, size_of::<u64>(), completion_at)?;
        let fill_bytes = layout.fr.desc as usize + FILL_ENTRIES as usize * size_of::<u64>();
        let fill = Mapping::new(descriptor.as_fd(), fill_bytes, libc::XDP_UMEM_PGOFF_FILL_RING as i64)?;
        let free = (0..frames).rev().collect();
        Ok(XskSender { descriptor, transmit, completion, _fill: fill, frames: memory, free, pushed: 0 })
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
        checked(unsafe { libc::bind(self.descriptor.as_raw_fd(), (&raw const address).cast(), length) })
            .map(drop)
    }

    /// The mode that was obtained.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn mode(&self) -> io::Result<XskMode> {
        let mut options = libc::xdp_options { flags: 0 };
        get_option(&self.descriptor, libc::XDP_OPTIONS, &mut options)?;
        let zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        Ok(if zero_copy { XskMode::ZeroCopy } else { XskMode::Copy })
    }

    /// Makes the socket's send buffer hold `bytes`; the kernel charges copies of frames to it.
    pub fn raise_send_buffer(&self, bytes: u32) {
        socket::raise_send_buffer(self.descriptor.as_fd(), bytes);
    }

    /// Frames that may be filled and pushed.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The memory of the free frame that [`XskSender::push`] will push after `ahead` others; none when there are not
    /// so many.
    pub fn free_frame(&mut self, ahead: usize) -> Option<&mut [u8]> {
        let place = self.free.len().checked_sub(ahead + 1)?;
        let start = self.free[place] as usize * FRAME_BYTES;
        // SAFETY: frame numbers are below the number of frames, so these bytes lie inside of the mapping, which lives as
        // long as `self` and which the kernel initialised with zeroes. `&mut self` says that no other reference into it
        // exists, and the kernel only reads it.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.frames.address().as_ptr().add(start), FRAME_BYTES)
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
                self.descriptor.as_raw_fd(),
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
        // Numbers of frames only, and no more of them than there are.
        if number < (self.frames.length() / FRAME_BYTES) as u64 && self.free.len() < self.free.capacity() {
            self.free.push(number as u32);
        }
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
    fn write(&mut self, index: u32, entry: Descriptor) {
        // SAFETY: the address is inside of the mapping and a multiple of 8, as `new` has seen and entries are 16 bytes
        // long. Whatever is written there, the kernel checks it.
        unsafe { self.entry::<Descriptor>(index).write_volatile(entry) };
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
const FILL_ENTRIES: u32 = 64;
/// `linux/if_xdp.h`, Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
