//! The processor's counter of instructions, where the kernel lets us read it (`perf_event_open(2)`).

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;

/// Counts the instructions that the calling thread executes in user space.
#[derive(Debug)]
pub struct Instructions {
    file: File,
}

/// The first 64 bytes of `struct perf_event_attr` (linux/perf_event.h, PERF_ATTR_SIZE_VER0).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

impl Instructions {
    /// A counter that runs; none where the processor, the virtual machine or the kernel's settings give none.
    pub fn counter() -> Option<Instructions> {
        let attributes = Attributes {
            kind: PERF_TYPE_HARDWARE,
            size: size_of::<Attributes>() as u32,
            config: PERF_COUNT_HW_INSTRUCTIONS,
            flags: EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR,
            ..Attributes::default()
        };
        let (this_thread, any_processor, no_group): (libc::pid_t, libc::c_int, libc::c_int) = (0, -1, -1);
        // SAFETY: `attributes` is 64 bytes laid out as the kernel's structure, says so in `size`, and outlives the call;
        // the other arguments are plain numbers.
        let result = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                this_thread,
                any_processor,
                no_group,
                FLAG_CLOEXEC,
            )
        };
        let descriptor = i32::try_from(result).ok().filter(|descriptor| 0 <= *descriptor)?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        let file = unsafe { File::from_raw_fd(descriptor) };
        Some(Instructions { file })
    }

    /// Instructions so far; none when the counter cannot be read.
    pub fn value(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact(&mut bytes).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }
}

const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_COUNT_HW_INSTRUCTIONS: u64 = 1;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const FLAG_CLOEXEC: libc::c_ulong = 1 << 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_there_is_counts_upward() {
        assert_eq!(size_of::<Attributes>(), 64);
        let Some(mut counter) = Instructions::counter() else { return };
        let before = counter.value().expect("read");
        let work: u64 = std::hint::black_box((0..1000u64).sum());
        assert!(before < counter.value().expect("read"), "{work}");
    }
}
