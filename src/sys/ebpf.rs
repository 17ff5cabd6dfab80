//! An assembler for eBPF, the language of XDP programs (RFC 9669; `Documentation/bpf/standardization`).
//!
//! Programs are made at run time for the scan at hand, so they hold constants where others look up tables. Memory
//! of maps is named by [`MapSlot`]s and bound when the program is linked: to descriptors for the kernel
//! ([`crate::sys::ebpf_kernel`]), to addresses for an interpreter in tests.
//!
//! Invariant: makes bytes and runs nothing; whether a program is allowed is the kernel's verifier to say.

use std::os::fd::RawFd;

/// One instruction (RFC 9669 section 3): a wide one takes two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high ones.
    pub registers: u8,
    /// Distance of a jump or a memory access.
    pub offset: i16,
    /// Constant.
    pub constant: i32,
}

impl Instruction {
    /// As the kernel of this machine reads it (`struct bpf_insn`).
    pub fn to_bytes(self) -> [u8; 8] {
        let [a, b] = self.offset.to_ne_bytes();
        let [c, d, e, f] = self.constant.to_ne_bytes();
        let registers =
            if cfg!(target_endian = "big") { self.registers.rotate_left(4) } else { self.registers };
        [self.code, registers, a, b, c, d, e, f]
    }
}

/// A register. The first argument of the program comes in `R1`, its result leaves in `R0`; calls keep `R6` to `R9`
/// and `R10`, which points behind the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the name says all")]
pub enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// The second operand: a register, or a constant that is extended with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A register's value.
    Register(Register),
    /// A constant.
    Constant(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Operand {
        Operand::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(constant: i32) -> Operand {
        Operand::Constant(constant)
    }
}

/// Bytes of a memory access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl Size {
    /// Number of bytes.
    pub fn bytes(self) -> usize {
        match self {
            Size::Byte => 1,
            Size::Half => 2,
            Size::Word => 4,
            Size::Double => 8,
        }
    }

    fn code(self) -> u8 {
        match self {
            Size::Word => 0x00,
            Size::Half => 0x08,
            Size::Byte => 0x10,
            Size::Double => 0x18,
        }
    }
}

/// Arithmetic on 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the name says all")]
pub enum Operation {
    Add = 0x00,
    Subtract = 0x10,
    Multiply = 0x20,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    ExclusiveOr = 0xa0,
    Move = 0xb0,
}

/// An unsigned comparison of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the name says all")]
pub enum Test {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    AnyBit = 0x40,
    NotEqual = 0x50,
    Less = 0xa0,
    LessOrEqual = 0xb0,
}

/// A function of the kernel (`enum bpf_func_id`). Those who may be called without a GPL licence only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// The number of this CPU.
    SmpProcessorId = 8,
    /// Redirects the frame to an entry of a device or socket map: map, key, flags.
    RedirectMap = 51,
}

/// A field of `struct xdp_md`, the argument of an XDP program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextField {
    /// The first byte of the frame.
    Data = 0,
    /// Behind its last byte.
    DataEnd = 4,
    /// The receive queue it came by.
    ReceiveQueue = 16,
}

/// A map the program names, by its position in the list given to [`Program::link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSlot(pub usize);

/// A place in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// Why there is no program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A label was used and never bound, or stands behind the last instruction.
    #[error("instruction {0} jumps to a label that was not bound")]
    Unbound(usize),
    /// A jump is longer than 32,767 instructions.
    #[error("instruction {0} jumps too far")]
    TooFar(usize),
    /// A map was named that is not in the list.
    #[error("instruction {0} names a map that was not given")]
    NoMap(usize),
    /// A program could write to memory it may only read.
    #[error("the program could write to map {0}, which it may only read")]
    Writes(usize),
}

/// What a [`MapSlot`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// An open map of the kernel's.
    Descriptor(RawFd),
    /// The address of its memory, for an interpreter, which also has pointers of 64 bits in its context.
    Address(u64),
}

/// Builds a program from the first instruction to the last.
#[derive(Debug, Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    jumps: Vec<(usize, Label)>,
    labels: Vec<Option<usize>>,
    maps: Vec<MapUse>,
    context: Vec<(usize, ContextField)>,
}

#[derive(Debug, Clone, Copy)]
struct MapUse {
    at: usize,
    map: MapSlot,
    /// Offset into the memory of the map's only entry; none for the map itself.
    offset: Option<u32>,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Assembler {
        Assembler::default()
    }

    /// A label to be bound later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Makes `label` mean the next instruction.
    pub fn bind(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(self.instructions.len());
        }
    }

    /// `destination = destination OPERATION operand`.
    pub fn compute(&mut self, operation: Operation, destination: Register, operand: impl Into<Operand>) {
        self.with_operand(ALU64 | operation as u8, destination, 0, operand.into());
    }

    /// `destination = operand`.
    pub fn set(&mut self, destination: Register, operand: impl Into<Operand>) {
        self.compute(Operation::Move, destination, operand);
    }

    /// `destination = the bytes at base + offset`, extended with zeroes.
    pub fn load(&mut self, size: Size, destination: Register, base: Register, offset: i16) {
        self.push(LOAD_MEMORY | size.code(), destination, base, offset, 0);
    }

    /// `the bytes at base + offset = operand`.
    pub fn store(&mut self, size: Size, base: Register, offset: i16, operand: impl Into<Operand>) {
        match operand.into() {
            Operand::Register(source) => self.push(STORE_REGISTER | size.code(), base, source, offset, 0),
            Operand::Constant(constant) => {
                self.push(STORE_CONSTANT | size.code(), base, Register::R0, offset, constant);
            }
        }
    }

    /// `the word at base + offset += source`, seen by all CPUs (RFC 9669 section 5.3). Words and doubles only.
    pub fn atomic_add(&mut self, size: Size, base: Register, offset: i16, source: Register) {
        self.push(ATOMIC | size.code(), base, source, offset, ATOMIC_ADD);
    }

    /// `destination = a field of the XDP context`.
    pub fn load_context(&mut self, destination: Register, context: Register, field: ContextField) {
        self.context.push((self.instructions.len(), field));
        self.load(Size::Word, destination, context, field as i16);
    }

    /// Turns the low 16 bits of a register from network order into this machine's, or back.
    pub fn swap_network_half(&mut self, register: Register) {
        self.push(TO_BIG_ENDIAN, register, Register::R0, 0, 16);
    }

    /// Turns the low 32 bits of a register from network order into this machine's, or back.
    pub fn swap_network_word(&mut self, register: Register) {
        self.push(TO_BIG_ENDIAN, register, Register::R0, 0, 32);
    }

    /// `destination = map`, as the argument of a helper.
    pub fn load_map(&mut self, destination: Register, map: MapSlot) {
        self.wide(destination, map, None);
    }

    /// `destination = the address of byte offset` of the only entry of an array map.
    pub fn load_map_memory(&mut self, destination: Register, map: MapSlot, offset: u32) {
        self.wide(destination, map, Some(offset));
    }

    /// Goes on at `label`.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(JUMP, Register::R0, Register::R0, 0, 0);
    }

    /// Goes on at `label` when `left TEST right` holds.
    pub fn jump_if(&mut self, test: Test, left: Register, right: impl Into<Operand>, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.with_operand(JUMP | test as u8, left, 0, right.into());
    }

    /// Calls a function of the kernel's; `R1` to `R5` are undefined afterwards.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, Register::R0, Register::R0, 0, helper as i32);
    }

    /// Ends the program with what is in `R0`.
    pub fn exit(&mut self) {
        self.push(EXIT, Register::R0, Register::R0, 0, 0);
    }

    /// The finished program.
    ///
    /// # Errors
    /// When a jump cannot be resolved.
    pub fn finish(mut self) -> Result<Program, AssembleError> {
        for &(at, label) in &self.jumps {
            let place = self.labels.get(label.0).copied().flatten();
            let place = place.filter(|&place| place < self.instructions.len());
            let place = place.ok_or(AssembleError::Unbound(at))?;
            let distance = place as i64 - (at as i64 + 1);
            self.instructions[at].offset = i16::try_from(distance).map_err(|_| AssembleError::TooFar(at))?;
        }
        let Assembler { instructions, maps, context, .. } = self;
        Ok(Program { instructions, maps, context })
    }

    fn wide(&mut self, destination: Register, map: MapSlot, offset: Option<u32>) {
        self.maps.push(MapUse { at: self.instructions.len(), map, offset });
        self.push(LOAD_WIDE, destination, Register::R0, 0, 0);
        self.push(0, Register::R0, Register::R0, 0, 0);
    }

    fn with_operand(&mut self, code: u8, destination: Register, offset: i16, operand: Operand) {
        match operand {
            Operand::Register(source) => self.push(code | BY_REGISTER, destination, source, offset, 0),
            Operand::Constant(constant) => self.push(code, destination, Register::R0, offset, constant),
        }
    }

    fn push(&mut self, code: u8, destination: Register, source: Register, offset: i16, constant: i32) {
        let registers = destination as u8 | (source as u8) << 4;
        self.instructions.push(Instruction { code, registers, offset, constant });
    }
}

/// A program whose jumps are resolved and whose maps are not.
#[derive(Debug, Clone)]
pub struct Program {
    instructions: Vec<Instruction>,
    maps: Vec<MapUse>,
    context: Vec<(usize, ContextField)>,
}

impl Program {
    /// The instructions with `maps[i]` for [`MapSlot`] `i`.
    ///
    /// # Errors
    /// When the program names a map that is not in the list.
    pub fn link(&self, maps: &[Binding]) -> Result<Vec<Instruction>, AssembleError> {
        let mut instructions = self.instructions.clone();
        for &MapUse { at, map, offset } in &self.maps {
            let binding = maps.get(map.0).ok_or(AssembleError::NoMap(at))?;
            let (kind, low, high) = match *binding {
                Binding::Descriptor(descriptor) if offset.is_none() => (PSEUDO_MAP, descriptor, 0),
                Binding::Descriptor(descriptor) => {
                    (PSEUDO_MAP_MEMORY, descriptor, offset.unwrap_or(0) as i32)
                }
                Binding::Address(address) => {
                    let address = address + u64::from(offset.unwrap_or(0));
                    (0, address as i32, (address >> 32) as i32)
                }
            };
            instructions[at].registers |= kind << 4;
            instructions[at].constant = low;
            instructions[at + 1].constant = high;
        }
        if matches!(maps.first(), Some(Binding::Address(_))) {
            for &(at, field) in &self.context {
                instructions[at].code = LOAD_MEMORY | Size::Double.code();
                instructions[at].offset = field as i16 * 2;
            }
        }
        Ok(instructions)
    }

    /// Whether the program could write to the memory of `map`: it stores through a register that may point there, or
    /// gives such a register away. Registers are judged over the whole program, not place by place, so the answer
    /// may be yes where no run ever writes; it is never no where one does, as the kernel's verifier lets pointers
    /// come from nowhere else.
    pub fn may_write(&self, map: MapSlot) -> bool {
        let destination = |instruction: &Instruction| 1u16 << (instruction.registers & 0xf);
        let source = |instruction: &Instruction| 1u16 << (instruction.registers >> 4);
        let uses = self.maps.iter().filter(|used| used.map == map && used.offset.is_some());
        let mut pointers = uses.fold(0, |bits, used| bits | destination(&self.instructions[used.at]));
        // Each turn of the loop finds a register more or is the last; there are eleven.
        loop {
            let before = pointers;
            for instruction in &self.instructions {
                let moves = instruction.code & 0x0f == ALU64 | BY_REGISTER;
                if moves && pointers & source(instruction) != 0 {
                    pointers |= destination(instruction);
                }
            }
            if pointers == before {
                break;
            }
        }
        const ARGUMENTS: u16 = 0b11_1110;
        self.instructions.iter().any(|instruction| match instruction.code & 0x07 {
            CLASS_STORE_CONSTANT => pointers & destination(instruction) != 0,
            CLASS_STORE_REGISTER => pointers & (destination(instruction) | source(instruction)) != 0,
            CLASS_JUMP => instruction.code == CALL && pointers & ARGUMENTS != 0,
            _ => false,
        })
    }

    /// Number of instructions, a wide one counted twice.
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Whether there is no instruction.
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }
}

// RFC 9669 section 3: classes and sources; linux/bpf.h for the pseudo sources of a wide load.
const ALU64: u8 = 0x07;
const BY_REGISTER: u8 = 0x08;
const LOAD_WIDE: u8 = 0x18;
const LOAD_MEMORY: u8 = 0x61;
const STORE_CONSTANT: u8 = 0x62;
const STORE_REGISTER: u8 = 0x63;
const ATOMIC: u8 = 0xc3;
const ATOMIC_ADD: i32 = 0x00;
const TO_BIG_ENDIAN: u8 = 0xdc;
const JUMP: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const CLASS_STORE_CONSTANT: u8 = 0x02;
const CLASS_STORE_REGISTER: u8 = 0x03;
const CLASS_JUMP: u8 = 0x05;
const PSEUDO_MAP: u8 = 1;
const PSEUDO_MAP_MEMORY: u8 = 2;

/// Runs programs without a kernel, for tests.
#[cfg(test)]
pub(crate) mod interpret {
    use super::*;

    /// What stands for a function of the kernel's.
    pub(crate) type Function = fn(u64, u64, u64, u64, u64) -> u64;

    /// Runs an XDP program over `frame`. `memory` stands for the maps, slot by slot.
    pub(crate) fn run(
        program: &Program,
        frame: &mut [u8],
        memory: &mut [Vec<u8>],
        helpers: &[(Helper, Function)],
    ) -> u64 {
        let start = frame.as_mut_ptr() as u64;
        let context = [start, start + frame.len() as u64, 0, 0, 3];
        let context: Vec<u8> = context.iter().flat_map(|field| field.to_ne_bytes()).collect();
        run_with_context(program, &context, frame, memory, helpers)
    }

    /// Runs a program with any context of 64-bit words.
    pub(crate) fn run_with_context(
        program: &Program,
        context: &[u8],
        frame: &[u8],
        memory: &mut [Vec<u8>],
        helpers: &[(Helper, Function)],
    ) -> u64 {
        let ranges: Vec<std::ops::Range<u64>> = memory
            .iter_mut()
            .map(|map| map.as_mut_ptr() as u64..map.as_mut_ptr() as u64 + map.len() as u64)
            .collect();
        let bindings: Vec<Binding> = ranges.iter().map(|range| Binding::Address(range.start)).collect();
        let linked = program.link(&bindings).expect("every map is given");
        let bytes: Vec<u8> = linked.iter().flat_map(|instruction| instruction.to_bytes()).collect();
        let mut machine = rbpf::EbpfVmMbuff::new(Some(&bytes)).expect("a valid program");
        for range in ranges {
            machine.register_allowed_memory(range);
        }
        for &(number, helper) in helpers {
            machine.register_helper(number as u32, helper).expect("registered");
        }
        machine.execute_program(frame, context).expect("no access outside of its memory")
    }
}

#[cfg(test)]
mod tests {
    use super::Register::{R0, R1, R2, R3, R6};
    use super::*;

    fn bytes(program: &Program) -> Vec<[u8; 8]> {
        let linked = program.link(&[Binding::Descriptor(0x11)]).expect("linked");
        linked.into_iter().map(Instruction::to_bytes).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_those_of_the_specification() {
        let mut assembler = Assembler::new();
        let out = assembler.label();
        assembler.load_context(R2, R1, ContextField::Data);
        assembler.load_map_memory(R6, MapSlot(0), 8);
        assembler.set(R0, 7);
        assembler.compute(Operation::ShiftLeft, R0, R6);
        assembler.store(Size::Half, R6, -2, R0);
        assembler.store(Size::Byte, R6, 1, 5);
        assembler.atomic_add(Size::Word, R6, 4, R0);
        assembler.jump_if(Test::GreaterOrEqual, R0, 64, out);
        assembler.load_map(R1, MapSlot(0));
        assembler.call(Helper::RedirectMap);
        assembler.swap_network_half(R0);
        assembler.bind(out);
        assembler.exit();
        let expected: [[u8; 8]; 15] = [
            [0x61, 0x12, 0, 0, 0, 0, 0, 0],
            [0x18, 0x26, 0, 0, 0x11, 0, 0, 0],
            [0x00, 0x00, 0, 0, 8, 0, 0, 0],
            [0xb7, 0x00, 0, 0, 7, 0, 0, 0],
            [0x6f, 0x60, 0, 0, 0, 0, 0, 0],
            [0x6b, 0x06, 0xfe, 0xff, 0, 0, 0, 0],
            [0x72, 0x06, 1, 0, 5, 0, 0, 0],
            [0xc3, 0x06, 4, 0, 0, 0, 0, 0],
            [0x35, 0x00, 4, 0, 64, 0, 0, 0],
            [0x18, 0x11, 0, 0, 0x11, 0, 0, 0],
            [0x00, 0x00, 0, 0, 0, 0, 0, 0],
            [0x85, 0x00, 0, 0, 51, 0, 0, 0],
            [0xdc, 0x00, 0, 0, 16, 0, 0, 0],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
            [0; 8],
        ];
        assert_eq!(bytes(&assembler.finish().expect("assembles")), expected[..14]);
    }

    #[test]
    fn a_program_reads_its_frame_and_writes_its_map() {
        let mut assembler = Assembler::new();
        let (short, done) = (assembler.label(), assembler.label());
        assembler.load_context(R2, R1, ContextField::Data);
        assembler.load_context(R3, R1, ContextField::DataEnd);
        assembler.load_map_memory(R6, MapSlot(0), 4);
        assembler.set(R1, R2);
        assembler.compute(Operation::Add, R1, 4);
        assembler.jump_if(Test::Greater, R1, R3, short);
        assembler.load(Size::Word, R0, R2, 0);
        assembler.swap_network_word(R0);
        assembler.store(Size::Word, R6, 0, R0);
        assembler.jump(done);
        assembler.bind(short);
        assembler.set(R0, 0);
        assembler.bind(done);
        assembler.exit();
        let program = assembler.finish().expect("assembles");
        let mut memory = [vec![0; 8]];
        let result = interpret::run(&program, &mut [1, 2, 3, 4, 5], &mut memory, &[]);
        assert_eq!(result, 0x0102_0304);
        assert_eq!(memory[0][4..], 0x0102_0304u32.to_ne_bytes());
        assert_eq!(interpret::run(&program, &mut [1, 2, 3], &mut memory, &[]), 0);
    }

    #[test]
    fn a_program_that_could_write_to_a_map_is_told_from_one_that_only_reads() {
        let writes = |body: fn(&mut Assembler)| {
            let mut assembler = Assembler::new();
            assembler.load_map_memory(R6, MapSlot(0), 0);
            assembler.load_map_memory(R3, MapSlot(1), 0);
            body(&mut assembler);
            assembler.exit();
            let program = assembler.finish().expect("assembles");
            assert!(!program.may_write(MapSlot(2)), "it is not named");
            program.may_write(MapSlot(0))
        };
        assert!(!writes(|it| it.load(Size::Word, R0, R6, 0)));
        assert!(!writes(|it| it.store(Size::Word, R3, 0, R0)));
        assert!(!writes(|it| it.compute(Operation::Add, R6, R0)), "still a pointer, still only read");
        assert!(writes(|it| it.store(Size::Word, R6, 0, 1)));
        assert!(writes(|it| it.store(Size::Word, R6, 0, R0)));
        assert!(writes(|it| it.atomic_add(Size::Word, R6, 0, R0)));
        assert!(
            writes(|it| it.store(Size::Double, Register::R10, -8, R6)),
            "it could come back from the stack"
        );
        let copied = |it: &mut Assembler| {
            it.store(Size::Byte, R2, 0, 1);
            it.compute(Operation::Add, R2, R1);
            it.set(R1, R6);
        };
        assert!(writes(copied), "over two registers, against the order of the program");
        let given_away = |it: &mut Assembler| {
            it.set(R2, R6);
            it.call(Helper::RedirectMap);
        };
        assert!(writes(given_away));
    }

    #[test]
    fn programs_that_lead_nowhere_are_not_made() {
        let mut assembler = Assembler::new();
        let nowhere = assembler.label();
        assembler.jump(nowhere);
        assert_eq!(assembler.finish().expect_err("unbound"), AssembleError::Unbound(0));

        let mut assembler = Assembler::new();
        let behind = assembler.label();
        assembler.jump(behind);
        assembler.bind(behind);
        assert_eq!(assembler.finish().expect_err("behind the end"), AssembleError::Unbound(0));

        let mut assembler = Assembler::new();
        let far = assembler.label();
        assembler.jump(far);
        (0..40_000).for_each(|_| assembler.exit());
        assembler.bind(far);
        assembler.exit();
        assert_eq!(assembler.finish().expect_err("too far"), AssembleError::TooFar(0));

        let mut assembler = Assembler::new();
        assembler.load_map(R1, MapSlot(0));
        assembler.exit();
        let program = assembler.finish().expect("assembles");
        assert_eq!(program.link(&[]).expect_err("no map"), AssembleError::NoMap(0));
    }
}
