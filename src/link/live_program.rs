//! The programs behind [`super::xdp_live`], and the words of memory in which they and the link meet.
//!
//! Three programs share one page of words ([`word`]): the stamper, which runs once per frame and makes it a whole copy
//! of the next slot; and two at tracepoints, which write down what became of the frames. All three act on one CPU
//! within one run of the kernel's, during which nothing else can redirect frames there, so no word is ever
//! contended; events of other CPUs and of other users of the same tracepoints are told apart by the CPU and by
//! whether a frame of ours is still on its way.
//!
//! Invariant: knows slots and lengths, nothing of what is in a frame.

use crate::sys::ebpf::Operation::{Add, And, Multiply, Or, ShiftLeft, ShiftRight};
use crate::sys::ebpf::Register::{self, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};
use crate::sys::ebpf::{AssembleError, Assembler, ContextField, Helper, Label, MapSlot, Program, Size, Test};

/// Slots, so frames of a run at most.
///
/// A run has a fixed cost: the kernel makes a pool of pages for it and frees it afterwards. Measured over veth, without
/// user-space work, 64 frames a run 2.9 Mpps, 128 4.2, 256 5.5, 512 6.3, 1,024 7.0, 65,536 7.8.
pub(super) const SLOT_COUNT: usize = SLOTS_I16 as usize;

/// Offsets of the shared words.
pub(super) mod word {
    use super::{SLOT_COUNT, SLOTS_I16};

    /// The slot of the next frame; the link sets it to the first one of a run.
    pub(in crate::link) const NEXT: i16 = 0;
    /// The CPU the run is on; [`NO_CPU`] while there is none.
    pub(in crate::link) const CPU: i16 = 4;
    /// The slot the run began with.
    pub(in crate::link) const FIRST: i16 = 8;
    /// Length of each frame of the run in bytes.
    pub(in crate::link) const LENGTH: i16 = 12;
    /// Frames that were not queued for the interface: bits set in [`REFUSED`].
    pub(in crate::link) const REFUSALS: i16 = 16;
    /// Frames the interface was given in bulk, whether it took them or not.
    pub(in crate::link) const FLUSHED: i16 = 20;
    /// Frames of those it did not take.
    pub(in crate::link) const DROPPED: i16 = 24;
    /// Number of bulks, so of entries in [`BULKS`].
    pub(in crate::link) const BULK_COUNT: i16 = 28;
    /// The last error that came with a refusal or a drop, as the kernel's negative number; 0 for a full queue.
    pub(in crate::link) const ERROR: i16 = 32;
    /// A bit for each slot: it was refused.
    pub(in crate::link) const REFUSED: i16 = 40;
    /// What became of each bulk: frames taken in the low 16 bits, dropped ones in the high 16.
    pub(in crate::link) const BULKS: i16 = REFUSED + SLOTS_I16 / 8;
    /// Bytes of all words. A bulk holds at least one frame, so there are at most as many as slots.
    pub(in crate::link) const BYTES: usize = BULKS as usize + 4 * SLOT_COUNT;

    /// No CPU has this number.
    pub(in crate::link) const NO_CPU: u32 = u32::MAX;
}

/// The maps of the stamper, in the order it is linked with; the tracepoint programs have the first only.
pub(super) const WORDS: MapSlot = MapSlot(0);
/// The slots, [`SLOT_COUNT`] of them.
pub(super) const SLOTS: MapSlot = MapSlot(1);
/// The interface.
pub(super) const INTERFACE: MapSlot = MapSlot(2);

/// The XDP program that makes each frame a copy of the next slot and redirects it.
///
/// The kernel hands over pages that may hold older frames, so every byte is written. `lengths` are all the lengths a
/// frame can have; the frame it is given must have the one that stands in the shared words. `stride` is the distance of
/// slots in bytes. Without lengths nothing can be sent: the link is only tried, and so is the [`prober`].
///
/// # Errors
/// When the program grows too long for its jumps.
pub(super) fn stamper(lengths: &[u16], stride: u16) -> Result<Program, AssembleError> {
    if lengths.is_empty() {
        return prober(); // the kernel refuses programs with parts that nothing leads to
    }
    let mut program = Assembler::new();
    let (refuse, drop, redirect) = (program.label(), program.label(), program.label());
    take_slot(&mut program, drop);
    program.load_context(R2, R6, ContextField::Data);
    program.load_context(R3, R6, ContextField::DataEnd);
    program.set(R1, R8);
    program.compute(Multiply, R1, i32::from(stride));
    program.load_map_memory(R9, SLOTS, 0);
    program.compute(Add, R9, R1);
    program.load(Size::Word, R4, R7, word::LENGTH);
    for &length in lengths {
        copy(&mut program, length, refuse, redirect);
    }
    program.jump(refuse);
    program.bind(redirect);
    leave(&mut program, refuse, drop);
    program.finish()
}

/// The XDP program that redirects each frame as it is: with a frame no interface can take it tells what the interface
/// says to that. Linked as [`stamper`] is.
///
/// # Errors
/// Never in practice: its size is fixed.
pub(super) fn prober() -> Result<Program, AssembleError> {
    let mut program = Assembler::new();
    let (refuse, drop) = (program.label(), program.label());
    take_slot(&mut program, drop);
    leave(&mut program, refuse, drop);
    program.finish()
}

/// Takes the next slot and says which CPU this is. Leaves the context in `R6`, the words in `R7`, the slot in `R8`.
fn take_slot(program: &mut Assembler, drop: Label) {
    program.set(R6, R1);
    program.load_map_memory(R7, WORDS, 0);
    program.load(Size::Word, R8, R7, word::NEXT);
    program.jump_if(Test::GreaterOrEqual, R8, SLOT_LIMIT, drop);
    program.set(R1, R8);
    program.compute(Add, R1, 1);
    program.store(Size::Word, R7, word::NEXT, R1);
    program.call(Helper::SmpProcessorId);
    program.store(Size::Word, R7, word::CPU, R0);
}

/// Ends the program: by redirecting the frame, at `refuse` by refusing it, at `drop` by dropping it unnoted.
fn leave(program: &mut Assembler, refuse: Label, drop: Label) {
    program.load_map(R1, INTERFACE);
    program.set(R2, 0);
    program.set(R3, XDP_DROP);
    program.call(Helper::RedirectMap);
    let done = program.label();
    program.jump_if(Test::Equal, R0, XDP_REDIRECT, done);
    // The map is empty: the interface is gone.
    program.bind(refuse);
    program.store(Size::Word, R7, word::ERROR, -NO_DEVICE);
    mark_refused(program);
    program.bind(drop);
    program.set(R0, XDP_DROP);
    program.bind(done);
    program.exit();
}

/// If `R4` is `length`: copies that many bytes from `R9` to the frame, `R2` to `R3`.
fn copy(program: &mut Assembler, length: u16, refuse: Label, redirect: Label) {
    let next = program.label();
    program.jump_if(Test::NotEqual, R4, i32::from(length), next);
    program.set(R1, R2);
    program.compute(Add, R1, i32::from(length));
    program.jump_if(Test::Greater, R1, R3, refuse);
    let mut at = 0;
    for size in [Size::Double, Size::Word, Size::Half, Size::Byte] {
        while at + size.bytes() <= usize::from(length) {
            let offset = i16::try_from(at).unwrap_or(i16::MAX);
            program.load(size, R0, R9, offset);
            program.store(size, R2, offset, R0);
            at += size.bytes();
        }
    }
    program.jump(redirect);
    program.bind(next);
}

/// Writes down that slot `R8` was refused; changes `R0` to `R3`.
fn mark_refused(program: &mut Assembler) {
    program.set(R0, R8);
    program.compute(And, R0, SLOT_LIMIT - 1);
    program.compute(ShiftRight, R0, 6);
    program.compute(ShiftLeft, R0, 3);
    program.compute(Add, R0, R7);
    program.set(R2, R8);
    program.compute(And, R2, 63);
    program.set(R1, 1);
    program.compute(ShiftLeft, R1, R2);
    program.load(Size::Double, R3, R0, word::REFUSED);
    program.compute(Or, R3, R1);
    program.store(Size::Double, R0, word::REFUSED, R3);
    increment(program, word::REFUSALS, R0);
}

fn increment(program: &mut Assembler, offset: i16, scratch: Register) {
    program.load(Size::Word, scratch, R7, offset);
    program.compute(Add, scratch, 1);
    program.store(Size::Word, R7, offset, scratch);
}

/// At `xdp_redirect_err`: the frame that was stamped last was not queued (interface down, no transmit function).
/// Arguments: device, program, target, error, ...
///
/// # Errors
/// Never in practice: its size is fixed.
pub(super) fn on_refusal() -> Result<Program, AssembleError> {
    let mut program = Assembler::new();
    let out = program.label();
    unless_ours(&mut program, out);
    program.load(Size::Double, R1, R6, 3 * 8);
    program.store(Size::Word, R7, word::ERROR, R1);
    // `unless_ours` left the next slot in R8 and found it above the first.
    program.compute(Add, R8, -1);
    mark_refused(&mut program);
    program.bind(out);
    program.set(R0, 0);
    program.exit();
    program.finish()
}

/// At `xdp_devmap_xmit`: the interface was given a bulk, took the first of it and none of the rest (the contract of
/// `ndo_xdp_xmit` since Linux 5.13). Arguments: from device, to device, sent, drops, error.
///
/// # Errors
/// Never in practice: its size is fixed.
pub(super) fn on_bulk() -> Result<Program, AssembleError> {
    let mut program = Assembler::new();
    let out = program.label();
    unless_ours(&mut program, out);
    program.load(Size::Double, R1, R6, 2 * 8);
    program.compute(And, R1, 0xffff);
    program.load(Size::Double, R2, R6, 3 * 8);
    program.compute(And, R2, 0xffff);
    for (offset, more) in [(word::FLUSHED, R1), (word::FLUSHED, R2), (word::DROPPED, R2)] {
        program.load(Size::Word, R0, R7, offset);
        program.compute(Add, R0, more);
        program.store(Size::Word, R7, offset, R0);
    }
    program.load(Size::Word, R3, R7, word::BULK_COUNT);
    program.jump_if(Test::GreaterOrEqual, R3, SLOT_LIMIT, out);
    program.set(R4, R3);
    program.compute(Add, R4, 1);
    program.store(Size::Word, R7, word::BULK_COUNT, R4);
    program.set(R5, R2);
    program.compute(ShiftLeft, R5, 16);
    program.compute(Or, R5, R1);
    program.compute(ShiftLeft, R3, 2);
    program.compute(Add, R3, R7);
    program.store(Size::Word, R3, word::BULKS, R5);
    program.jump_if(Test::Equal, R2, 0, out);
    program.load(Size::Double, R1, R6, 4 * 8);
    program.store(Size::Word, R7, word::ERROR, R1);
    program.bind(out);
    program.set(R0, 0);
    program.exit();
    program.finish()
}

/// Goes to `out` unless the event is of our run: on its CPU, and while a frame that was stamped is neither refused nor
/// flushed. Leaves the context in `R6`, the words in `R7` and the next slot in `R8`.
fn unless_ours(program: &mut Assembler, out: Label) {
    program.set(R6, R1);
    program.load_map_memory(R7, WORDS, 0);
    program.call(Helper::SmpProcessorId);
    program.load(Size::Word, R1, R7, word::CPU);
    program.jump_if(Test::NotEqual, R0, R1, out);
    program.load(Size::Word, R8, R7, word::NEXT);
    program.load(Size::Word, R1, R7, word::FIRST);
    for settled in [word::REFUSALS, word::FLUSHED] {
        program.load(Size::Word, R2, R7, settled);
        program.compute(Add, R1, R2);
    }
    program.jump_if(Test::GreaterOrEqual, R1, R8, out);
}

/// [`SLOT_COUNT`] as offsets are counted.
const SLOTS_I16: i16 = 1024;
/// [`SLOT_COUNT`] as a constant of the bytecode.
const SLOT_LIMIT: i32 = SLOTS_I16 as i32;
const _: () =
    assert!(SLOT_COUNT.is_power_of_two() && 64 <= SLOT_COUNT, "SLOT_COUNT - 1 is a mask; whole 64-bit words");

// asm-generic/errno-base.h: ENODEV
const NO_DEVICE: i32 = 19;
// linux/bpf.h, enum xdp_action
const XDP_DROP: i32 = 1;
const XDP_REDIRECT: i32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ebpf::interpret;

    const STRIDE: usize = 128;
    const CPU: u64 = 5;

    fn on_this_cpu(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
        CPU
    }

    fn redirected(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
        XDP_REDIRECT as u64
    }

    fn not_in_the_map(_: u64, _: u64, _: u64, flags: u64, _: u64) -> u64 {
        flags & 3
    }

    /// Words, slots (each byte tells its slot and place) and no interface.
    fn memory(length: u32) -> [Vec<u8>; 3] {
        let mut words = vec![0; word::BYTES];
        words[word::LENGTH as usize..][..4].copy_from_slice(&length.to_ne_bytes());
        words[word::CPU as usize..][..4].copy_from_slice(&word::NO_CPU.to_ne_bytes());
        let slots = (0..SLOT_COUNT * STRIDE).map(|at| (at / STRIDE * 7 + at % STRIDE) as u8).collect();
        [words, slots, vec![0; 4]]
    }

    fn read(memory: &[Vec<u8>], offset: i16) -> u32 {
        u32::from_ne_bytes(memory[0][offset as usize..][..4].try_into().expect("4 bytes"))
    }

    fn write(memory: &mut [Vec<u8>], offset: i16, value: u32) {
        memory[0][offset as usize..][..4].copy_from_slice(&value.to_ne_bytes());
    }

    /// The slots that are marked.
    fn refused(memory: &[Vec<u8>]) -> Vec<usize> {
        let bits = memory[0][word::REFUSED as usize..word::BULKS as usize].chunks(8);
        let words = bits.map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("8 bytes")));
        words
            .enumerate()
            .flat_map(|(index, word)| {
                (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| index * 64 + bit)
            })
            .collect()
    }

    fn event(program: &Program, arguments: [i64; 5], memory: &mut [Vec<u8>]) {
        let context: Vec<u8> = arguments.iter().flat_map(|argument| argument.to_ne_bytes()).collect();
        let helpers: [(Helper, interpret::Function); 1] = [(Helper::SmpProcessorId, on_this_cpu)];
        let words = &mut memory[..1];
        assert_eq!(interpret::run_with_context(program, &context, &[], words, &helpers), 0);
    }

    #[test]
    fn every_frame_becomes_a_whole_copy_of_its_slot_whatever_the_page_held() {
        let lengths = [54, 58, 66, 74, 78, 95];
        let program = stamper(&lengths, STRIDE as u16).expect("assembles");
        let helpers: [(Helper, interpret::Function); 2] =
            [(Helper::SmpProcessorId, on_this_cpu), (Helper::RedirectMap, redirected)];
        for length in lengths {
            let mut memory = memory(length.into());
            for slot in 0..SLOT_COUNT {
                let mut frame = vec![0xee; length.into()];
                assert_eq!(interpret::run(&program, &mut frame, &mut memory, &helpers), 4);
                assert_eq!(frame, memory[1][slot * STRIDE..][..length.into()], "slot {slot}");
            }
            assert_eq!(
                (read(&memory, word::NEXT), read(&memory, word::CPU)),
                (SLOT_COUNT as u32, CPU as u32)
            );
            assert_eq!((read(&memory, word::REFUSALS), refused(&memory)), (0, vec![]));
            let mut frame = vec![0xee; length.into()];
            assert_eq!(
                interpret::run(&program, &mut frame, &mut memory, &helpers),
                1,
                "there are no more slots"
            );
            assert!(frame.iter().all(|&byte| byte == 0xee));
        }
    }

    #[test]
    fn a_frame_of_another_length_or_without_an_interface_is_refused_and_noted() {
        let program = stamper(&[58], STRIDE as u16).expect("assembles");
        let gone: [(Helper, interpret::Function); 2] =
            [(Helper::SmpProcessorId, on_this_cpu), (Helper::RedirectMap, not_in_the_map)];
        for (length, frame) in [(58, 57), (57, 58), (58, 58)] {
            let mut memory = memory(length);
            write(&mut memory, word::NEXT, 709);
            assert_eq!(interpret::run(&program, &mut vec![0; frame], &mut memory, &gone), 1);
            assert_eq!((read(&memory, word::NEXT), read(&memory, word::REFUSALS)), (710, 1));
            assert_eq!(refused(&memory), [709]);
            assert_eq!(read(&memory, word::ERROR) as i32, -19);
        }
    }

    #[test]
    fn bulks_are_written_down_while_frames_of_ours_are_on_their_way() {
        let program = on_bulk().expect("assembles");
        let mut memory = memory(58);
        write(&mut memory, word::FIRST, 4);
        write(&mut memory, word::NEXT, 4 + 16);
        event(&program, [0, 0, 16, 0, 0], &mut memory);
        assert_eq!(read(&memory, word::BULK_COUNT), 0, "not before a frame was stamped on this CPU");
        write(&mut memory, word::CPU, CPU as u32);
        event(&program, [0, 0, 16, 0, 0], &mut memory);
        event(&program, [0, 0, 16, 0, 0], &mut memory);
        assert_eq!(read(&memory, word::BULK_COUNT), 1, "a second one belongs to somebody else");
        write(&mut memory, word::NEXT, 4 + 32);
        event(&program, [0, 0, 5, 11, -6], &mut memory);
        event(&program, [0, 0, 0, 16, -6], &mut memory);
        assert_eq!(read(&memory, word::BULK_COUNT), 2);
        assert_eq!(read(&memory, word::BULKS), 16);
        assert_eq!(read(&memory, word::BULKS + 4), 5 | 11 << 16);
        assert_eq!((read(&memory, word::FLUSHED), read(&memory, word::DROPPED)), (32, 11));
        assert_eq!(read(&memory, word::ERROR) as i32, -6);
    }

    #[test]
    fn a_refusal_is_that_of_the_frame_stamped_last() {
        let program = on_refusal().expect("assembles");
        let mut memory = memory(58);
        write(&mut memory, word::CPU, CPU as u32);
        event(&program, [0, 0, 0, -100, 0], &mut memory);
        assert_eq!(read(&memory, word::REFUSALS), 0, "no frame was stamped");
        for next in 1..=SLOT_COUNT as u32 {
            write(&mut memory, word::NEXT, next);
            if next % 3 == 0 {
                event(&program, [0, 0, 0, -100, 0], &mut memory);
            }
        }
        let expected: Vec<usize> = (0..SLOT_COUNT).filter(|slot| slot % 3 == 2).collect();
        assert_eq!(refused(&memory), expected);
        assert_eq!(read(&memory, word::REFUSALS), 341);
        assert_eq!(read(&memory, word::ERROR) as i32, -100);
        write(&mut memory, word::FLUSHED, 683);
        event(&program, [0, 0, 0, -5, 0], &mut memory);
        assert_eq!(
            read(&memory, word::REFUSALS),
            341,
            "all frames are settled: the event is somebody else's"
        );
    }
}
