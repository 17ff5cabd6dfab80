//! A far end that answers in the driver: an XDP program that sends a SYN-ACK back for a keyed share of all SYNs, so that
//! what a scan must find is known at any rate, and counts what it saw.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use swath::host::Host;
use swath::sys::ebpf::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};
use swath::sys::ebpf::{Assembler, ContextField, Label, MapSlot, Operation, Program, Register, Size, Test};
use swath::sys::ebpf_kernel::{Attachment, LoadedProgram, ProgramKind, SharedWords, XdpMode};
use swath::wire::ethernet;

/// Which targets answer: one in `2^shift`, chosen by the key.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub key: u32,
    pub shift: u32,
}

impl Share {
    /// Whether a target answers.
    pub fn answers(self, address: Ipv4Addr, port: u16) -> bool {
        let mixed = (u32::from(address) ^ self.key).wrapping_mul(FIRST);
        let mixed = (mixed ^ mixed >> 15).wrapping_add(u32::from(port)).wrapping_mul(SECOND);
        let mixed = mixed ^ mixed >> 16;
        mixed & ((1 << self.shift) - 1) == 0
    }
}

/// The program, attached. Detached when dropped.
pub struct Reflector {
    counters: SharedWords,
    _attachment: Attachment,
}

/// What a reflector saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub syns: u64,
    pub answered: u64,
    pub resets: u64,
}

impl Reflector {
    /// Attaches to an interface of the namespace the thread is in.
    pub fn attach(interface: &str, share: Share) -> Reflector {
        let counters = SharedWords::new(64).expect("a map");
        let program = LoadedProgram::load(ProgramKind::Xdp, &program(share), &[&counters])
            .unwrap_or_else(|error| panic!("{error}"));
        Reflector { counters, _attachment: attach(interface, &program) }
    }

    pub fn seen(&self) -> Seen {
        let count = |offset: i16| self.counters.double(offset as usize).load(Ordering::Relaxed);
        Seen { syns: count(SYNS), answered: count(ANSWERED), resets: count(RESETS) }
    }
}

/// A program that passes everything: a veth takes what its other end sends back from XDP only with one of its own.
pub fn attach_pass(interface: &str) -> Attachment {
    let mut program = Assembler::new();
    program.set(R0, XDP_PASS);
    program.exit();
    let program = program.finish().expect("assembles");
    let program =
        LoadedProgram::load(ProgramKind::Xdp, &program, &[]).unwrap_or_else(|error| panic!("{error}"));
    attach(interface, &program)
}

fn attach(interface: &str, program: &LoadedProgram) -> Attachment {
    let host = Host::read().expect("facts");
    let index = host.interface(interface).unwrap_or_else(|error| panic!("{error}")).index;
    Attachment::xdp(program, index, XdpMode::Native).expect("attached")
}

fn program(share: Share) -> Program {
    let mut program = Assembler::new();
    let (pass, drop, reset) = (program.label(), program.label(), program.label());
    program.set(R6, R1);
    program.load_context(R2, R6, ContextField::Data);
    program.load_context(R3, R6, ContextField::DataEnd);
    program.set(R1, R2);
    program.compute(Operation::Add, R1, 54);
    program.jump_if(Test::Greater, R1, R3, pass);
    program.load(Size::Half, R0, R2, 12);
    program.swap_network_half(R0);
    program.jump_if(Test::NotEqual, R0, i32::from(ethernet::IPV4), pass);
    program.load(Size::Byte, R0, R2, 14);
    program.jump_if(Test::NotEqual, R0, 0x45, pass);
    program.load(Size::Byte, R0, R2, 23);
    program.jump_if(Test::NotEqual, R0, 6, pass);
    program.load_map_memory(R7, MapSlot(0), 0);
    program.load(Size::Byte, R8, R2, 47);
    program.set(R0, R8);
    program.compute(Operation::And, R0, 0x04);
    program.jump_if(Test::NotEqual, R0, 0, reset);
    program.compute(Operation::And, R8, 0x12);
    program.jump_if(Test::NotEqual, R8, 0x02, pass);
    count(&mut program, SYNS);
    choose(&mut program, share, drop);
    count(&mut program, ANSWERED);
    answer(&mut program);
    program.set(R0, XDP_TX);
    program.exit();
    program.bind(reset);
    count(&mut program, RESETS);
    program.bind(drop);
    program.set(R0, XDP_DROP);
    program.exit();
    program.bind(pass);
    program.set(R0, XDP_PASS);
    program.exit();
    program.finish().expect("assembles")
}

fn count(program: &mut Assembler, counter: i16) {
    program.set(R1, 1);
    program.atomic_add(Size::Double, R7, counter, R1);
}

/// Goes to `silent` unless the target answers. Leaves a number for the answer in `R9`.
fn choose(program: &mut Assembler, share: Share, silent: Label) {
    program.load(Size::Word, R9, R2, 30);
    program.swap_network_word(R9);
    number(program, R1, share.key);
    program.compute(Operation::ExclusiveOr, R9, R1);
    multiply(program, FIRST);
    fold(program, 15);
    program.load(Size::Half, R1, R2, 36);
    program.swap_network_half(R1);
    program.compute(Operation::Add, R9, R1);
    multiply(program, SECOND);
    fold(program, 16);
    program.set(R1, R9);
    program.compute(Operation::And, R1, (1 << share.shift) - 1);
    program.jump_if(Test::NotEqual, R1, 0, silent);
}

/// `R9 = R9 * factor`, modulo 2^32.
fn multiply(program: &mut Assembler, factor: u32) {
    number(program, R1, factor);
    program.compute(Operation::Multiply, R9, R1);
    low_word(program, R9);
}

/// `R9 = R9 ^ R9 >> bits`.
fn fold(program: &mut Assembler, bits: i32) {
    program.set(R1, R9);
    program.compute(Operation::ShiftRight, R1, bits);
    program.compute(Operation::ExclusiveOr, R9, R1);
}

fn number(program: &mut Assembler, register: Register, number: u32) {
    program.set(register, number.cast_signed());
    low_word(program, register);
}

fn low_word(program: &mut Assembler, register: Register) {
    program.compute(Operation::ShiftLeft, register, 32);
    program.compute(Operation::ShiftRight, register, 32);
}

/// Turns the SYN at `R2` into its SYN-ACK: addresses and ports change sides, which leaves checksums as they are; the
/// number becomes `R9`, and the SYN's number and one are acknowledged (RFC 1624 for the checksum).
fn answer(program: &mut Assembler) {
    for (one, other, size) in
        [(0, 6, Size::Word), (4, 10, Size::Half), (26, 30, Size::Word), (34, 36, Size::Half)]
    {
        program.load(size, R0, R2, one);
        program.load(size, R1, R2, other);
        program.store(size, R2, one, R1);
        program.store(size, R2, other, R0);
    }
    program.load(Size::Word, R4, R2, 38);
    program.swap_network_word(R4);
    program.set(R5, R4);
    program.compute(Operation::Add, R5, 1);
    low_word(program, R5);
    // The checksum's complement, less the old number, plus the new number, what is acknowledged and the flag.
    program.load(Size::Half, R8, R2, 50);
    program.swap_network_half(R8);
    program.compute(Operation::ExclusiveOr, R8, 0xffff);
    program.compute(Operation::Add, R8, 0x10 + 2 * 0xffff);
    for (register, subtract) in [(R4, true), (R9, false), (R5, false)] {
        for half in [0, 16] {
            program.set(R0, register);
            program.compute(Operation::ShiftRight, R0, half);
            program.compute(Operation::And, R0, 0xffff);
            program.compute(if subtract { Operation::Subtract } else { Operation::Add }, R8, R0);
        }
    }
    for _ in 0..2 {
        program.set(R0, R8);
        program.compute(Operation::ShiftRight, R0, 16);
        program.compute(Operation::And, R8, 0xffff);
        program.compute(Operation::Add, R8, R0);
    }
    program.compute(Operation::ExclusiveOr, R8, 0xffff);
    program.swap_network_half(R8);
    program.store(Size::Half, R2, 50, R8);
    program.swap_network_word(R9);
    program.store(Size::Word, R2, 38, R9);
    program.swap_network_word(R5);
    program.store(Size::Word, R2, 42, R5);
    program.store(Size::Byte, R2, 47, 0x12);
}

const FIRST: u32 = 0x9e37_79b1;
const SECOND: u32 = 0x85eb_ca6b;
const SYNS: i16 = 0;
const ANSWERED: i16 = 8;
const RESETS: i16 = 16;
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;
