//! Memory shared with the kernel (`man 2 mmap`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// A range of memory that the kernel writes and reads as well; unmapped when dropped.
///
/// It hands out nothing but its address: who may touch which byte when is for the structure above to say.
#[derive(Debug)]
pub(super) struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `Mapping` is its only owner.
unsafe impl Send for Mapping {}

// SAFETY: `Mapping` itself reads and writes nothing; its methods only tell address and length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of what stands behind `descriptor`, from `offset` on.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(descriptor: BorrowedFd<'_>, length: usize, offset: i64) -> io::Result<Mapping> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Mapping::map(descriptor.as_raw_fd(), length, flags, offset)
    }

    /// Maps `length` bytes of fresh memory, all zero.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn anonymous(length: usize) -> io::Result<Mapping> {
        Mapping::map(-1, length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, 0)
    }

    fn map(descriptor: i32, length: usize, flags: libc::c_int, offset: i64) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a null hint lets the kernel choose a free range, so nothing existing is replaced. The descriptor
        // is open, or -1 for anonymous memory; a mapping holds its memory even after the descriptor is closed. A
        // length or offset the kernel does not like is an error of its own.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, descriptor, offset) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { address, length })
    }

    /// Where it starts: a multiple of the page size.
    pub(super) fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Its bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `map` mapped exactly this range, nothing else unmaps it, and every reference into it borrows the
        // structure that owns this value.
        unsafe {
            libc::munmap(self.address.as_ptr().cast(), self.length);
        }
    }
}
