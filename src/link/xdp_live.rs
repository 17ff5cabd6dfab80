//! Live frames: the kernel makes the frames itself, as copies of slots in shared memory, and hands them to the driver
//! as if they had been redirected there (`BPF_F_TEST_XDP_LIVE_FRAMES`, `net/bpf/test_run.c`). No socket, no queueing
//! discipline, no packet buffer of the network stack: ten times what a packet socket sends.
//!
//! A round of batches is stamped into the slots, each slot is read back through the last gate, and one call runs the
//! stamper program once per slot. What became of every frame is read from two tracepoints ([`live_program`]), so a lane that
//! the interface did not take is known and goes back to the transmitter.
//!
//! Works on any driver that takes redirected frames (`ndo_xdp_xmit`). Leaves the interface as it is, but for drivers
//! that take such frames only with a program attached: there a program that passes everything is attached for as
//! long as the link is open, which on a real NIC may reset it. Receives through packet sockets.

use std::io;
use std::sync::Arc;

use crate::batch::{Batch, LANES};
use crate::gate::Gate;
use crate::link::af_packet::{self, FrameSender};
use crate::link::live_program::{self, SLOT_COUNT, word};
use crate::link::stamper::Stamper;
use crate::link::{
    Accepted, Backend, Framing, Link, LinkError, LinkInterface, LinkSpec, Stall, TxQueue, xdp_program,
};
use crate::sys::ebpf::{AssembleError, Program};
use crate::sys::ebpf_kernel::{
    Attachment, DeviceMap, LoadError, LoadedProgram, ProgramKind, SharedBytes, SharedWords, XdpMode,
};
use crate::sys::netlink::Netlink;
use crate::sys::rtnetlink;
use crate::sys::tun::TunDevice;
use crate::wire::ethernet;

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "xdp_live",
    about: "frames made in the kernel by XDP, on Ethernet",
    transmits: true,
    argument: None,
    open,
};

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let interface = spec.interface.as_ref().ok_or_else(|| unusable("no interface to send on"))?;
    if interface.framing != Framing::Ethernet {
        return Err(unusable(&format!("{} has no Ethernet header; use af_packet", interface.name)));
    }
    let (rx, receives, hides_answers) = af_packet::receive(spec, interface, BACKEND.name)?;
    // One for all engines: a driver has room for one program.
    let companion = companion(interface, spec.attach)?.map(Arc::new);
    let (mut tx, mut pins): (Vec<Box<dyn TxQueue>>, _) = (Vec::new(), Vec::new());
    for _ in 0..spec.queues.tx {
        let (housekeeping, _) = FrameSender::open(interface)?;
        let stamper = Stamper::new(spec);
        let engine = Engine::open(interface, &stamper, companion.clone())?;
        pins.push(engine.pin.0.name().to_owned());
        let (runs, lane_of) = (Vec::new(), vec![0; SLOT_COUNT].into());
        tx.push(Box::new(Transmit { stamper, engine, housekeeping, runs, lane_of }));
    }
    let also = if companion.is_some() { ", a pass program attached to the interface" } else { "" };
    let about = format!(
        "xdp_live on {}: up to {SLOT_COUNT} frames a run, losses known by tracepoints, program pinned by {}{also}; {receives}",
        interface.name,
        pins.join(", "),
    );
    Ok(Link { tx, rx, about, hides_answers })
}

fn unusable(reason: &str) -> LinkError {
    LinkError::Unusable { name: BACKEND.name, reason: reason.to_owned() }
}

/// Says what a refused system call or program means for whoever asked for this link.
fn opening(operation: &'static str, error: LoadError) -> LinkError {
    unusable(&match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "no permission to {operation}: it needs root, or the capabilities cap_net_raw, cap_net_admin, cap_bpf \
             and cap_perfmon ({error})"
        ),
        _ => format!("cannot {operation}: {error}"),
    })
}

fn refused(operation: &'static str) -> impl Fn(io::Error) -> LinkError {
    move |error| opening(operation, LoadError::Refused { error, log: String::new() })
}

struct Transmit {
    stamper: Stamper,
    engine: Engine,
    housekeeping: FrameSender,
    runs: Vec<Run>,
    /// Which lane stands in each slot, batches counted through.
    lane_of: Box<[u16]>,
}

/// Slots that follow each other and hold frames of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: usize,
    count: usize,
    length: usize,
}

impl TxQueue for Transmit {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        let mut accepted = [Accepted { lanes: batch.lanes(), stall: None }];
        self.send_round(std::slice::from_ref(batch), &mut accepted)?;
        let [accepted] = accepted;
        Ok(accepted)
    }

    fn round_length(&self) -> usize {
        ROUND
    }

    fn submit_round(&mut self, batches: &[Batch], accepted: &mut Vec<Accepted>) -> Result<(), LinkError> {
        accepted.clear();
        for batches in batches.chunks(ROUND) {
            let first = accepted.len();
            accepted.extend(batches.iter().map(|batch| Accepted { lanes: batch.lanes(), stall: None }));
            let result = self.send_round(batches, &mut accepted[first..]);
            if result.is_err() {
                accepted.truncate(first);
            }
            result?;
            if accepted[first..].iter().any(|accepted| accepted.stall.is_some()) {
                break;
            }
        }
        Ok(())
    }

    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.stamper.replace_gate(gate);
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        Ok(self.housekeeping.send(&[frame])?.lanes != 0)
    }
}

impl Transmit {
    /// Sends at most [`ROUND`] batches. `accepted`, an entry for each with all its lanes set, loses those that did not
    /// leave.
    ///
    /// # Errors
    /// When the scan must end; then no lane left.
    fn send_round(&mut self, batches: &[Batch], accepted: &mut [Accepted]) -> Result<(), LinkError> {
        // All lanes are stamped and gated before the first one leaves.
        self.fill(batches)?;
        let (mut any_left, mut failure) = (false, None);
        for run in &self.runs {
            let outcome = match failure {
                None => self.engine.run(*run)?,
                Some(error) => Outcome::Part { left: SlotSet::EMPTY, error },
            };
            let Outcome::Part { left, error } = outcome else {
                any_left = true;
                continue;
            };
            any_left |= left != SlotSet::EMPTY;
            failure = Some(error);
            for slot in (run.first..run.first + run.count).filter(|&slot| !left.holds(slot)) {
                let lane = usize::from(self.lane_of[slot]);
                accepted[lane / LANES].lanes &= !(1 << (lane % LANES));
            }
        }
        let Some(error) = failure else { return Ok(()) };
        // What left must be told before a scan may end: an error that lasts comes again with the next round.
        let stall = match stall(error, &self.engine.interface) {
            Err(fatal) if !any_left => return Err(fatal),
            Err(_) => Stall::Down,
            Ok(stall) => stall,
        };
        for (accepted, batch) in accepted.iter_mut().zip(batches) {
            accepted.stall = (accepted.lanes != batch.lanes()).then_some(stall);
        }
        Ok(())
    }

    /// Stamps the lanes into the slots, those of one length side by side.
    fn fill(&mut self, batches: &[Batch]) -> Result<(), LinkError> {
        let stride = self.stamper.stride();
        let mut slots = self.engine.slots.bytes_mut().chunks_exact_mut(stride);
        let mut first = 0;
        self.runs.clear();
        for &length in &self.engine.lengths {
            let mut count = 0;
            for (index, batch) in batches.iter().enumerate() {
                for lane in 0..batch.len() {
                    if self.stamper.frame_length(batch, lane) != length {
                        continue;
                    }
                    let slot = slots.next().expect("as many slots as lanes");
                    self.stamper.stamp_lane(batch, lane, slot)?;
                    self.lane_of[first + count] =
                        u16::try_from(index * LANES + lane).expect("a lane of a round");
                    count += 1;
                }
            }
            if 0 < count {
                self.runs.push(Run { first, count, length });
            }
            first += count;
        }
        Ok(())
    }
}

/// A set of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SlotSet([u64; SLOT_COUNT / 64]);

impl SlotSet {
    const EMPTY: SlotSet = SlotSet([0; SLOT_COUNT / 64]);

    fn holds(&self, slot: usize) -> bool {
        self.0[slot / 64] & 1 << (slot % 64) != 0
    }

    fn insert(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    fn of(slots: impl IntoIterator<Item = usize>) -> SlotSet {
        let mut set = SlotSet::EMPTY;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

/// What an error of the kernel's says about the frames it came with, which were not sent: wait, or give up.
fn stall(error: i32, interface: &str) -> Result<Stall, LinkError> {
    match error {
        // No error but drops: the driver's queue is full. The others: no memory for frames, a signal.
        0 | libc::EINTR | libc::ENOMEM | libc::ENOBUFS | libc::ENOSPC | libc::EAGAIN | libc::EBUSY => {
            Ok(Stall::Full)
        }
        // ENXIO: the other end of a veth pair is down, or a driver is setting up its queues.
        libc::ENETDOWN | libc::ENXIO => Ok(Stall::Down),
        libc::EOPNOTSUPP => Err(no_transmit(interface)),
        _ => Err(LinkError::System {
            operation: "send on",
            object: interface.to_owned(),
            source: io::Error::from_raw_os_error(error),
        }),
    }
}

fn no_transmit(interface: &str) -> LinkError {
    unusable(&format!(
        "the driver of {interface} takes no redirected frames (ndo_xdp_xmit); use af_packet. A veth takes them when its \
         other end has GRO on (ethtool -K PEER gro on) or a native XDP program"
    ))
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All its frames left.
    All,
    /// Some left, or none.
    Part {
        /// The slots whose frames left.
        left: SlotSet,
        /// Why the others did not: an error number, 0 for a full queue.
        error: i32,
    },
}

/// The kernel's side: programs, memory, attachments. Fields are dropped in this order: attachments before programs.
struct Engine {
    pin: (TunDevice, Attachment),
    _companion: Option<Arc<Attachment>>,
    _tracepoints: [Attachment; 2],
    program: LoadedProgram,
    words: SharedWords,
    slots: SharedBytes,
    lengths: Vec<usize>,
    /// What the kernel puts into each page before the program runs.
    blank: Box<[u8]>,
    interface: String,
}

impl Engine {
    fn open(
        interface: &LinkInterface,
        stamper: &Stamper,
        companion: Option<Arc<Attachment>>,
    ) -> Result<Engine, LinkError> {
        let words = SharedWords::new(word::BYTES).map_err(refused("create a map"))?;
        let mut slots = SharedBytes::new(SLOT_COUNT * stamper.stride()).map_err(refused("create a map"))?;
        let device = DeviceMap::new(interface.index).map_err(refused("create a device map"))?;
        slots.bytes_mut().fill(0);
        let lengths = stamper.frame_lengths();
        let small = |size: usize| u16::try_from(size).map_err(|_| unusable("frames are too long"));
        let in_program =
            lengths.iter().map(|&length| small(length)).collect::<Result<Vec<u16>, LinkError>>()?;
        let code = live_program::stamper(&in_program, small(stamper.stride())?);
        let code = code.map_err(|error| opening("assemble the stamper", error.into()))?;
        let program = LoadedProgram::load(ProgramKind::Xdp, &code, &[&words, &slots, &device])
            .map_err(|error| opening("load an XDP program", error))?;
        let tracepoints = [
            tracepoint(live_program::on_refusal(), &words, c"xdp_redirect_err")?,
            tracepoint(live_program::on_bulk(), &words, c"xdp_devmap_xmit")?,
        ];
        let pin = pin(&program)?;
        let blank = vec![0; lengths.last().copied().unwrap_or(0).max(ethernet::HEADER)].into_boxed_slice();
        Ok(Engine {
            pin,
            _companion: companion,
            _tracepoints: tracepoints,
            program,
            words,
            slots,
            lengths,
            blank,
            interface: interface.name.clone(),
        })
    }

    fn run(&self, run: Run) -> Result<Outcome, LinkError> {
        reset(&self.words, run);
        let result = self.program.run_live(&self.blank[..run.length], narrow(run.count), FLUSH_AFTER);
        settle(&Told::read(&self.words), run, result).map_err(|source| LinkError::System {
            operation: "make frames on",
            object: self.interface.clone(),
            source,
        })
    }
}

/// Keeps the program attached to a device of our own for as long as the link is open.
///
/// Running a program that is attached nowhere makes the kernel rebuild its table of XDP programs before and after each
/// call, waiting for all CPUs each time (`bpf_dispatcher_change_prog`): 23 ms a call instead of 12 us.
fn pin(program: &LoadedProgram) -> Result<(TunDevice, Attachment), LinkError> {
    let device = TunDevice::open("swath").map_err(refused("create a tun device"))?;
    let attachment = Attachment::xdp(program, device.index(), XdpMode::Generic)
        .map_err(refused("attach a program to a tun device"))?;
    Ok((device, attachment))
}

fn tracepoint(
    program: Result<Program, AssembleError>,
    words: &SharedWords,
    name: &'static std::ffi::CStr,
) -> Result<Attachment, LinkError> {
    let program = program.map_err(|error| opening("assemble a tracepoint program", error.into()))?;
    let program = LoadedProgram::load(ProgramKind::RawTracepoint, &program, &[words])
        .map_err(|error| opening("load a tracepoint program", error))?;
    Attachment::raw_tracepoint(&program, name).map_err(refused("attach to a tracepoint of XDP"))
}

/// Finds out whether the interface takes redirected frames, without sending one; attaches a program that passes
/// everything where that is what the driver waits for.
fn companion(interface: &LinkInterface, attach: bool) -> Result<Option<Attachment>, LinkError> {
    let Some(length) = oversize(interface)? else { return Ok(None) };
    let words = SharedWords::new(word::BYTES).map_err(refused("create a map"))?;
    let device = DeviceMap::new(interface.index).map_err(refused("create a device map"))?;
    let _tracepoint = tracepoint(live_program::on_refusal(), &words, c"xdp_redirect_err")?;
    let code = live_program::prober().map_err(|error| opening("assemble a program", error.into()))?;
    let prober = LoadedProgram::load(ProgramKind::Xdp, &code, &[&words, &words, &device])
        .map_err(|error| opening("load an XDP program", error))?;
    let run = Run { first: 0, count: 1, length };
    let takes_none = || -> Result<bool, LinkError> {
        reset(&words, run);
        let result = prober.run_live(&vec![0; length], 1, 1);
        result.map_err(refused("run an XDP program on live frames (Linux 5.18)"))?;
        Ok(Told::read(&words).error == libc::EOPNOTSUPP)
    };
    if !takes_none()? {
        return Ok(None);
    }
    if !attach {
        return Err(unusable(&format!(
            "the driver of {} takes no redirected frames as it is; --link xdp_live tries a program of its own there. A veth takes \
             them when its other end has GRO on (ethtool -K PEER gro on)",
            interface.name
        )));
    }
    let pass = xdp_program::pass().map_err(|error| opening("assemble a program", error.into()))?;
    let pass = LoadedProgram::load(ProgramKind::Xdp, &pass, &[])
        .map_err(|error| opening("load an XDP program", error))?;
    let attached = Attachment::xdp(&pass, interface.index, XdpMode::Native);
    let attached = attached.map_err(|_| no_transmit(&interface.name))?;
    if takes_none()? { Err(no_transmit(&interface.name)) } else { Ok(Some(attached)) }
}

/// A length that no frame on the interface may have, so that the kernel names its error and sends nothing: it asks for
/// the driver's ability before it looks at the length (`__xdp_enqueue`, `kernel/bpf/devmap.c`). None where one page
/// cannot hold such a frame.
fn oversize(interface: &LinkInterface) -> Result<Option<usize>, LinkError> {
    let system = |source| LinkError::System { operation: "read", object: interface.name.clone(), source };
    let links = rtnetlink::links(&mut Netlink::open().map_err(system)?).map_err(system)?;
    let mtu = links.iter().find(|link| link.index == interface.index).map(|link| link.mtu as usize);
    let length = mtu.ok_or_else(|| unusable("the interface is gone"))? + LONGEST_LINK_HEADER;
    Ok((length <= LONGEST_LIVE_FRAME).then_some(length))
}

/// Prepares the words for a run.
fn reset(words: &SharedWords, run: Run) {
    use std::sync::atomic::Ordering::Relaxed;
    // Relaxed: the programs run on this very thread, within the system call that follows.
    let set = |offset: i16, value: u32| words.word(place(offset)).store(value, Relaxed);
    set(word::CPU, word::NO_CPU);
    set(word::NEXT, narrow(run.first));
    set(word::FIRST, narrow(run.first));
    set(word::LENGTH, narrow(run.length));
    for offset in [word::REFUSALS, word::FLUSHED, word::DROPPED, word::BULK_COUNT, word::ERROR] {
        set(offset, 0);
    }
    for index in 0..SLOT_COUNT / 64 {
        words.double(place(word::REFUSED) + 8 * index).store(0, Relaxed);
    }
}

/// What the programs wrote down about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    next: usize,
    refusals: usize,
    flushed: usize,
    /// A positive error number.
    error: i32,
    /// The slots refused.
    refused: SlotSet,
    /// Taken and dropped frames of each bulk; only when some were dropped.
    bulks: Vec<(usize, usize)>,
}

impl Told {
    fn read(words: &SharedWords) -> Told {
        use std::sync::atomic::Ordering::Relaxed;
        let number = |offset: usize| words.word(offset).load(Relaxed);
        let count = |offset: i16| number(place(offset)) as usize;
        words.word(place(word::CPU)).store(word::NO_CPU, Relaxed);
        let mut told = Told {
            next: count(word::NEXT),
            refusals: count(word::REFUSALS),
            flushed: count(word::FLUSHED),
            error: number(place(word::ERROR)).cast_signed().saturating_neg(),
            refused: SlotSet::EMPTY,
            bulks: Vec::new(),
        };
        if told.refusals != 0 {
            for (index, bits) in told.refused.0.iter_mut().enumerate() {
                *bits = words.double(place(word::REFUSED) + 8 * index).load(Relaxed);
            }
        }
        if count(word::DROPPED) != 0 {
            let bulks = 0..count(word::BULK_COUNT).min(SLOT_COUNT);
            let both = bulks.map(|index| number(place(word::BULKS) + 4 * index) as usize);
            told.bulks = both.map(|both| (both & 0xffff, both >> 16)).collect();
        }
        told
    }
}

/// Says which slots left.
///
/// # Errors
/// When the kernel refused the run, or when its words do not account for every frame.
fn settle(told: &Told, run: Run, result: io::Result<()>) -> io::Result<Outcome> {
    let stamped = told.next.wrapping_sub(run.first);
    // Two errors end a run half way: no memory for frames, and a signal.
    let ended_by = match result {
        Ok(()) => None,
        Err(error) => match error.raw_os_error() {
            Some(code @ (libc::ENOMEM | libc::EINTR)) => Some(code),
            _ => return Err(error),
        },
    };
    let complete = ended_by.is_some() || stamped == run.count;
    if run.count < stamped || !complete || told.flushed + told.refusals != stamped {
        return Err(io::Error::other(format!(
            "of {} frames {stamped} were made, {} refused and {} handed over, which does not add up",
            run.count, told.refusals, told.flushed
        )));
    }
    if stamped == run.count && told.refusals == 0 && told.bulks.is_empty() {
        return Ok(Outcome::All);
    }
    let left = left(told, run.first..run.first + stamped);
    Ok(Outcome::Part { left, error: ended_by.unwrap_or(told.error) })
}

/// The slots among `stamped` that the interface took: those not refused, less the last ones of each bulk.
fn left(told: &Told, stamped: std::ops::Range<usize>) -> SlotSet {
    let mut queued = stamped.filter(|&slot| !told.refused.holds(slot));
    if told.bulks.is_empty() {
        return SlotSet::of(queued);
    }
    let mut left = SlotSet::EMPTY;
    for &(taken, dropped) in &told.bulks {
        queued.by_ref().take(taken).for_each(|slot| left.insert(slot));
        queued.by_ref().take(dropped).for_each(drop);
    }
    left
}

/// Slots, counts and frame lengths are below 2^16.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).expect("a slot, a count or the length of a frame")
}

fn place(offset: i16) -> usize {
    usize::from(offset.unsigned_abs())
}

/// Batches of a round.
const ROUND: usize = SLOT_COUNT / LANES;
/// Frames after which the kernel flushes them to the driver: up to 160 never overran a veth, from 192 on some were lost.
const FLUSH_AFTER: u32 = 64;
/// More than any link header with tags (`hard_header_len`, `VLAN_HLEN`).
const LONGEST_LINK_HEADER: usize = 128;
/// A page less the kernel's own share of it (`TEST_XDP_FRAME_SIZE` less headroom and `struct skb_shared_info`).
const LONGEST_LIVE_FRAME: usize = 3_200;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is told when `stamped` frames were made and taken.
    fn told(run: Run, stamped: usize) -> Told {
        Told {
            next: run.first + stamped,
            refusals: 0,
            flushed: stamped,
            error: 0,
            refused: SlotSet::EMPTY,
            bulks: Vec::new(),
        }
    }

    #[test]
    fn a_run_that_ends_half_way_leaves_the_rest_unsent() {
        let run = Run { first: 60, count: 320, length: 58 };
        for code in [libc::ENOMEM, libc::EINTR] {
            for stamped in [0, 1, 200, 319] {
                let result = Err(io::Error::from_raw_os_error(code));
                let outcome = settle(&told(run, stamped), run, result).expect("adds up");
                assert_eq!(outcome, Outcome::Part { left: SlotSet::of(60..60 + stamped), error: code });
            }
        }
    }

    #[test]
    fn words_that_do_not_add_up_are_an_error() {
        let run = Run { first: 0, count: 64, length: 58 };
        let cases: [fn(&mut Told); 4] = [
            |told| told.flushed = 63,
            |told| told.refusals = 1,
            |told| (told.next, told.flushed) = (63, 63),
            |told| (told.next, told.flushed) = (65, 65),
        ];
        for spoil in cases {
            let mut told = told(run, 64);
            spoil(&mut told);
            let error = settle(&told, run, Ok(())).expect_err("does not add up");
            assert!(error.to_string().ends_with("which does not add up"), "{error}");
        }
        assert!(settle(&told(run, 64), run, Err(io::Error::from_raw_os_error(libc::EPERM))).is_err());
    }

    #[test]
    fn lasting_errors_end_the_scan_and_passing_ones_stall() {
        assert!(matches!(stall(0, "v0"), Ok(Stall::Full)));
        assert!(matches!(stall(libc::ENETDOWN, "v0"), Ok(Stall::Down)));
        let error = stall(libc::ENODEV, "v0").expect_err("gone").to_string();
        assert!(error.starts_with("cannot send on v0: "), "{error}");
        let error = stall(libc::EOPNOTSUPP, "v0").expect_err("cannot").to_string();
        assert!(error.contains("use af_packet"), "{error}");
    }

    proptest! {
        /// Plays the kernel: each frame is refused or queued; the queue is flushed before the 17th, after 64 frames and
        /// at the end, and the driver takes the first few of each bulk.
        #[test]
        fn exactly_the_lost_slots_are_found(
            first in 0usize..600,
            fates in proptest::collection::vec(0u8..20, 1..400),
            takes in proptest::collection::vec(0usize..33, 400),
        ) {
            let run = Run { first, count: fates.len(), length: 58 };
            let mut told = Told { flushed: 0, ..told(run, fates.len()) };
            let (mut queue, mut left, mut dropped) = (Vec::new(), SlotSet::EMPTY, 0);
            let mut flush = |queue: &mut Vec<usize>, told: &mut Told| {
                if queue.is_empty() {
                    return;
                }
                let taken = takes[told.bulks.len()].min(queue.len());
                queue[..taken].iter().for_each(|&slot| left.insert(slot));
                told.bulks.push((taken, queue.len() - taken));
                told.flushed += queue.len();
                dropped += queue.len() - taken;
                queue.clear();
            };
            for (index, (slot, fate)) in (first..).zip(&fates).enumerate() {
                if index % 64 == 0 || queue.len() == 16 {
                    flush(&mut queue, &mut told);
                }
                if *fate == 0 {
                    told.refused.insert(slot);
                    told.refusals += 1;
                } else {
                    queue.push(slot);
                }
            }
            flush(&mut queue, &mut told);
            if dropped == 0 {
                told.bulks.clear();
            }
            let outcome = settle(&told, run, Ok(())).expect("adds up");
            let expected = match dropped + told.refusals {
                0 => Outcome::All,
                _ => Outcome::Part { left, error: 0 },
            };
            prop_assert_eq!(outcome, expected);
        }
    }
}
