//! eBPF in the kernel (`man 2 bpf`, `linux/bpf.h`): maps, programs, attachments, runs.
//!
//! Everything is a descriptor and goes with the last one: after SIGKILL no map, program or attachment is left.
//! Attachments are links of the kernel's (`BPF_LINK_CREATE`, Linux 5.9), never settings of an interface, which
//! would stay.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::ebpf::{AssembleError, Binding, MapSlot, Program};
use super::mapping::Mapping;
use super::xsk::XskReceiver;

/// A map a program may name.
pub trait Map {
    /// Its descriptor.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Whether programs may only read its memory.
    fn is_read_only(&self) -> bool {
        false
    }
}

/// Memory that programs and this process both read and write, as counters and words.
#[derive(Debug)]
pub struct SharedWords {
    descriptor: OwnedFd,
    mapping: Mapping,
}

impl SharedWords {
    /// `bytes` of zeroes.
    ///
    /// # Errors
    /// EPERM without CAP_BPF.
    pub fn new(bytes: usize) -> io::Result<SharedWords> {
        let (descriptor, mapping) = shared_array(bytes)?;
        Ok(SharedWords { descriptor, mapping })
    }

    /// The 32-bit word at `offset` bytes.
    ///
    /// # Panics
    /// When the offset is no multiple of 4 or leads outside.
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.mapping.length(), "a word inside of the map");
        // SAFETY: the word lies inside of the mapping, which lives as long as `self` and starts at a multiple of the
        // page size, so it is aligned. Programs change it as one 32-bit word or part of a 64-bit one at most, and
        // this process reaches this memory through atomics only.
        unsafe { &*self.mapping.address().as_ptr().add(offset).cast::<AtomicU32>() }
    }

    /// The 64-bit word at `offset` bytes.
    ///
    /// # Panics
    /// When the offset is no multiple of 8 or leads outside.
    pub fn double(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.mapping.length(), "a word inside of the map");
        // SAFETY: as in `word`, for 64 bits.
        unsafe { &*self.mapping.address().as_ptr().add(offset).cast::<AtomicU64>() }
    }
}

impl Map for SharedWords {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Memory that this process writes and programs only read: [`LoadedProgram::load`] refuses a program that could write
/// it. (The kernel's own flag for that, `BPF_F_RDONLY_PROG`, forbids to map it for writing.)
#[derive(Debug)]
pub struct SharedBytes {
    descriptor: OwnedFd,
    mapping: Mapping,
}

impl SharedBytes {
    /// `bytes` of zeroes.
    ///
    /// # Errors
    /// EPERM without CAP_BPF.
    pub fn new(bytes: usize) -> io::Result<SharedBytes> {
        let (descriptor, mapping) = shared_array(bytes)?;
        Ok(SharedBytes { descriptor, mapping })
    }

    /// All of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is of this length, initialised by the kernel with zeroes, and lives as long as `self`.
        // No program writes to it, which `LoadedProgram::load` sees to, and `&mut self` says that no other reference
        // into it exists.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.address().as_ptr(), self.mapping.length()) }
    }
}

impl Map for SharedBytes {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

/// An array with one entry of at least `bytes` bytes, mapped: whole pages, so that the mapping is the entry.
fn shared_array(bytes: usize) -> io::Result<(OwnedFd, Mapping)> {
    let bytes = bytes.max(1).next_multiple_of(PAGE);
    let value_bytes = u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    let descriptor = create_map(MAP_ARRAY, 4, value_bytes, MEMORY_MAPPABLE)?;
    let mapping = Mapping::new(descriptor.as_fd(), bytes, 0)?;
    Ok((descriptor, mapping))
}

/// A map with one interface, the destination of redirected frames. Finds the interface in the network namespace of
/// the calling thread, once; the entry vanishes with the interface.
#[derive(Debug)]
pub struct DeviceMap {
    descriptor: OwnedFd,
}

impl DeviceMap {
    /// A map whose entry 0 is the interface with `index`.
    ///
    /// # Errors
    /// EPERM without CAP_BPF and CAP_NET_ADMIN, EINVAL when there is no such interface.
    pub fn new(index: u32) -> io::Result<DeviceMap> {
        let descriptor = create_map(MAP_DEVICES, 4, 4, 0)?;
        update(descriptor.as_fd(), 0, index)?;
        Ok(DeviceMap { descriptor })
    }
}

impl Map for DeviceMap {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A map with the AF_XDP sockets of an interface, by receive queue: the destination of frames that a program takes from
/// the network stack. An entry vanishes with its socket.
#[derive(Debug)]
pub struct SocketMap {
    descriptor: OwnedFd,
}

impl SocketMap {
    /// A map of `sockets[i]`, which must be bound to queue `i`, as entry `i`.
    ///
    /// # Errors
    /// EPERM without CAP_BPF and CAP_NET_ADMIN.
    pub fn new(sockets: &[&XskReceiver]) -> io::Result<SocketMap> {
        let count = u32::try_from(sockets.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let descriptor = create_map_of(MAP_SOCKETS, 4, 4, (count.max(1), 0))?;
        for (queue, socket) in (0..count).zip(sockets) {
            let socket = socket.descriptor().as_raw_fd();
            update(
                descriptor.as_fd(),
                queue,
                u32::try_from(socket).map_err(|_| io::ErrorKind::InvalidInput)?,
            )?;
        }
        Ok(SocketMap { descriptor })
    }
}

impl Map for SocketMap {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramKind {
    /// Sees frames before the network stack does, or makes them.
    Xdp,
    /// Is called at a tracepoint of the kernel with its raw arguments.
    RawTracepoint,
}

/// Why the kernel holds no such program.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be assembled.
    #[error("{0}")]
    Assemble(#[from] AssembleError),
    /// The kernel refused it; the log is the verifier's, its end only.
    #[error("{error}{log}")]
    Refused {
        /// The kernel's answer.
        error: io::Error,
        /// What its verifier said, on lines of its own; empty when nothing.
        log: String,
    },
}

impl LoadError {
    /// The kernel's answer, where that is the reason.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            LoadError::Assemble(_) => None,
            LoadError::Refused { error, .. } => error.raw_os_error(),
        }
    }
}

/// A program in the kernel.
#[derive(Debug)]
pub struct LoadedProgram {
    descriptor: OwnedFd,
}

impl LoadedProgram {
    /// Loads `program` with `maps[i]` for map slot `i`. The program keeps its maps.
    ///
    /// # Errors
    /// EPERM without CAP_BPF, and CAP_NET_ADMIN for XDP or CAP_PERFMON for tracepoints; what the verifier says.
    pub fn load(kind: ProgramKind, program: &Program, maps: &[&dyn Map]) -> Result<LoadedProgram, LoadError> {
        let written =
            (0..maps.len()).find(|&slot| maps[slot].is_read_only() && program.may_write(MapSlot(slot)));
        if let Some(slot) = written {
            return Err(AssembleError::Writes(slot).into());
        }
        let bindings: Vec<Binding> =
            maps.iter().map(|map| Binding::Descriptor(map.descriptor().as_raw_fd())).collect();
        let instructions = program.link(&bindings)?;
        let bytes: Vec<u8> =
            instructions.into_iter().flat_map(|instruction| instruction.to_bytes()).collect();
        // The log costs the verifier time, so it is asked for only after a refusal.
        let refused = match load(kind, &bytes, &mut []) {
            Ok(descriptor) => return Ok(LoadedProgram { descriptor }),
            Err(error) => error,
        };
        let mut log = vec![0; LOG_BYTES];
        let log = match load(kind, &bytes, &mut log) {
            Ok(descriptor) => return Ok(LoadedProgram { descriptor }),
            Err(_) => String::from_utf8_lossy(log.split(|&byte| byte == 0).next().unwrap_or_default()),
        };
        let tail: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
        let log = tail.iter().rev().map(|line| format!("\n  {line}")).collect();
        Err(LoadError::Refused { error: refused, log })
    }

    /// Runs the program, an XDP program, `count` times on copies of `frame`, each of which then goes where the
    /// program says (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18). All runs happen on one CPU, without a pause but after
    /// each `batch` of them, when the frames are flushed and the CPU sees to its network interrupts.
    ///
    /// # Errors
    /// ENOMEM when frames could not be allocated and EINTR when a signal came: some may have run then. EINVAL for a
    /// frame below 14 bytes or above some 3,000, E2BIG for a batch above 256.
    pub fn run_live(&self, frame: &[u8], count: u32, batch: u32) -> io::Result<()> {
        let mut attributes = TestRun {
            program: self.descriptor.as_raw_fd(),
            frame_bytes: u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            frame: frame.as_ptr() as u64,
            repeat: count,
            flags: LIVE_FRAMES,
            batch,
            ..TestRun::default()
        };
        command(PROGRAM_RUN, &mut attributes).map(drop)
    }

    /// Runs the program, an XDP program, once on a copy of `frame`, which goes nowhere; returns the verdict and the
    /// frame as the program left it.
    ///
    /// # Errors
    /// EINVAL for a frame below 14 bytes or above some 3,000.
    pub fn run_once(&self, frame: &[u8]) -> io::Result<(u32, Vec<u8>)> {
        let mut output = vec![0; frame.len() + 512];
        let mut attributes = TestRun {
            program: self.descriptor.as_raw_fd(),
            frame_bytes: u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            frame: frame.as_ptr() as u64,
            output_bytes: u32::try_from(output.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            output: output.as_mut_ptr() as u64,
            repeat: 1,
            ..TestRun::default()
        };
        command(PROGRAM_RUN, &mut attributes)?;
        output.truncate(attributes.output_bytes as usize);
        Ok((attributes.verdict, output))
    }
}

/// How a program is attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver. On a real NIC this may reset the link.
    Native,
    /// In the network stack: works everywhere, changes nothing in the driver.
    Generic,
}

/// A program at its place; detached when dropped, and when the process ends however it ends.
#[derive(Debug)]
pub struct Attachment {
    _descriptor: OwnedFd,
}

impl Attachment {
    /// Attaches an XDP program to the interface with `index`, found in the network namespace of the calling thread.
    ///
    /// # Errors
    /// EBUSY when another program is attached, EOPNOTSUPP when the driver has no native mode.
    pub fn xdp(program: &LoadedProgram, index: u32, mode: XdpMode) -> io::Result<Attachment> {
        let flags = match mode {
            XdpMode::Generic => 1 << 1,
            XdpMode::Native => 1 << 2,
        };
        let mut attributes = LinkCreate {
            program: program.descriptor.as_raw_fd(),
            target: index,
            attach_type: ATTACH_XDP,
            flags,
            ..LinkCreate::default()
        };
        command_descriptor(LINK_CREATE, &mut attributes)
            .map(|descriptor| Attachment { _descriptor: descriptor })
    }

    /// Attaches a program to the raw tracepoint `name`. It is called for events of the whole machine.
    ///
    /// # Errors
    /// ENOENT when the kernel has no such tracepoint.
    pub fn raw_tracepoint(program: &LoadedProgram, name: &CStr) -> io::Result<Attachment> {
        let mut attributes = RawTracepoint {
            name: name.as_ptr() as u64,
            program: program.descriptor.as_raw_fd(),
            ..RawTracepoint::default()
        };
        command_descriptor(RAW_TRACEPOINT_OPEN, &mut attributes)
            .map(|descriptor| Attachment { _descriptor: descriptor })
    }
}

/// What the kernel numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// An attachment that has a descriptor (`struct bpf_link`).
    Attachment,
}

/// Whether the kernel holds an object of that number.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub fn exists(kind: ObjectKind, number: u32) -> io::Result<bool> {
    let what = match kind {
        ObjectKind::Program => 13,
        ObjectKind::Map => 14,
        ObjectKind::Attachment => 30,
    };
    match command_descriptor(what, &mut ById { number, ..ById::default() }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn create_map(kind: u32, key_bytes: u32, value_bytes: u32, flags: u32) -> io::Result<OwnedFd> {
    create_map_of(kind, key_bytes, value_bytes, (1, flags))
}

fn create_map_of(
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    (entries, flags): (u32, u32),
) -> io::Result<OwnedFd> {
    let mut attributes =
        MapCreate { kind, key_bytes, value_bytes, entries, flags, name: NAME, ..MapCreate::default() };
    command_descriptor(MAP_CREATE, &mut attributes)
}

/// Sets an entry of a map whose keys and values are 32-bit numbers.
fn update(map: BorrowedFd<'_>, key: u32, value: u32) -> io::Result<()> {
    let mut attributes = MapUpdate {
        map: map.as_raw_fd(),
        padding: 0,
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    command(MAP_UPDATE, &mut attributes).map(drop)
}

fn load(kind: ProgramKind, bytes: &[u8], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = ProgramLoad {
        kind: match kind {
            ProgramKind::Xdp => PROGRAM_XDP,
            ProgramKind::RawTracepoint => PROGRAM_RAW_TRACEPOINT,
        },
        instructions: u32::try_from(bytes.len() / 8).map_err(|_| io::ErrorKind::InvalidInput)?,
        code: bytes.as_ptr() as u64,
        licence: LICENCE.as_ptr() as u64,
        name: NAME,
        ..ProgramLoad::default()
    };
    if kind == ProgramKind::Xdp {
        attributes.attach_type = ATTACH_XDP;
    }
    if !log.is_empty() {
        attributes.log_level = 1;
        attributes.log_bytes = u32::try_from(log.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        attributes.log = log.as_mut_ptr() as u64;
    }
    command_descriptor(PROGRAM_LOAD, &mut attributes)
}

/// The part of `union bpf_attr` that one command reads. The kernel takes what is missing for zero.
///
/// # Safety
/// Plain old data of the layout the kernel gives that command; every address in it leads to memory of the length
/// the same structure tells, which outlives the call and, where the kernel writes to it, is writable.
unsafe trait Attributes {}

fn command_descriptor<T: Attributes>(number: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let descriptor = command(number, attributes)?;
    // SAFETY: for the commands this is called with the kernel returns a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn command<T: Attributes>(number: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    let pointer = std::ptr::from_mut(attributes);
    // SAFETY: `attributes` is valid for the size given and outlives the call, the kernel writes inside of it only;
    // `Attributes` promises the same for what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, number, pointer, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

// SAFETY: the first fields of BPF_MAP_CREATE's structure, no address.
unsafe impl Attributes for MapCreate {}

#[repr(C)]
struct MapUpdate {
    map: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// SAFETY: BPF_MAP_UPDATE_ELEM's structure; `update` points both addresses to 32-bit numbers of its own, the size
// of key and value in the maps it is called for, and the kernel only reads them.
unsafe impl Attributes for MapUpdate {}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    licence: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

// SAFETY: the first fields of BPF_PROG_LOAD's structure; `load` points `code` to that many instructions of 8 bytes,
// `licence` to a constant that ends with zero, and `log` to `log_bytes` writable bytes.
unsafe impl Attributes for ProgramLoad {}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: i32,
    verdict: u32,
    frame_bytes: u32,
    output_bytes: u32,
    frame: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_bytes: u32,
    context_output_bytes: u32,
    context: u64,
    context_output: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

// SAFETY: BPF_PROG_TEST_RUN's structure; the callers point `frame` and `output` to slices of the lengths given, the
// latter writable; no context is given.
unsafe impl Attributes for TestRun {}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: i32,
    target: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 2],
}

// SAFETY: the first fields of BPF_LINK_CREATE's structure, no address.
unsafe impl Attributes for LinkCreate {}

#[repr(C)]
#[derive(Default)]
struct ById {
    number: u32,
    next: u32,
    flags: u32,
}

// SAFETY: the structure of BPF_PROG_GET_FD_BY_ID and its sisters, no address.
unsafe impl Attributes for ById {}

#[repr(C)]
#[derive(Default)]
struct RawTracepoint {
    name: u64,
    program: i32,
    padding: u32,
}

// SAFETY: BPF_RAW_TRACEPOINT_OPEN's structure; `name` points to a string that ends with zero.
unsafe impl Attributes for RawTracepoint {}

/// The name that `bpftool` shows for what belongs to us.
const NAME: [u8; 16] = *b"swath\0\0\0\0\0\0\0\0\0\0\0";
/// The bytecode is made by this crate and may be used under both; no helper in use needs GPL.
const LICENCE: &CStr = c"Dual MIT/GPL";
const LOG_BYTES: usize = 1 << 20;
const LOG_LINES: usize = 12;
/// Every page size of Linux that matters divides this.
const PAGE: usize = 65_536;

// linux/bpf.h
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROGRAM_LOAD: libc::c_int = 5;
const PROGRAM_RUN: libc::c_int = 10;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const LINK_CREATE: libc::c_int = 28;
const MAP_ARRAY: u32 = 2;
const MAP_DEVICES: u32 = 14;
const MAP_SOCKETS: u32 = 17;
const MEMORY_MAPPABLE: u32 = 1 << 10;
const PROGRAM_XDP: u32 = 6;
const PROGRAM_RAW_TRACEPOINT: u32 = 17;
const ATTACH_XDP: u32 = 37;
const LIVE_FRAMES: u32 = 1 << 1;
