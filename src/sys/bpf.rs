//! An assembler for classic BPF, the language of socket filters
//! (`Documentation/networking/filter.rst`, McCanne and Jacobson 1993).
//!
//! Jumps name labels and only lead forward. A program that would not load in the kernel is not made.

/// One instruction, as in `struct sock_filter` (`linux/filter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Constant, offset or result.
    pub operand: u32,
}

/// A program whose jumps are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    /// Its instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// A place in the program to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// Where a comparison leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To the next instruction.
    Next,
    /// To a label that is bound further down.
    Label(Label),
}

/// Why there is no program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A label was used and never bound, or bound above its use.
    #[error("instruction {0} jumps to a label that is not below it")]
    Unbound(usize),
    /// A jump is longer than 255 instructions.
    #[error("instruction {0} jumps too far")]
    TooFar(usize),
    /// More than 4,096 instructions (`BPF_MAXINSNS`).
    #[error("a filter of {0} instructions is too long")]
    TooLong(usize),
}

/// A comparison of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Equal.
    Equal,
    /// The accumulator is greater.
    Greater,
    /// The accumulator is greater or equal.
    GreaterOrEqual,
    /// They share a bit.
    AnyBit,
}

/// Builds a program from the first instruction to the last.
#[derive(Debug, Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    jumps: Vec<(usize, To, To)>,
    labels: Vec<Option<usize>>,
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

    /// Loads 4 bytes at `offset`. Any load outside of the packet ends the program with "drop".
    pub fn load_word(&mut self, offset: u32) {
        self.push(LOAD | ABSOLUTE | WORD, offset);
    }

    /// Loads 2 bytes at `offset`.
    pub fn load_half(&mut self, offset: u32) {
        self.push(LOAD | ABSOLUTE | HALF, offset);
    }

    /// Loads 1 byte at `offset`.
    pub fn load_byte(&mut self, offset: u32) {
        self.push(LOAD | ABSOLUTE | BYTE, offset);
    }

    /// Sets the index register to the length of the IPv4 header at `offset`: four times its low nibble.
    pub fn index_by_ipv4_header(&mut self, offset: u32) {
        self.push(LOAD_INDEX | HEADER_LENGTH | BYTE, offset);
    }

    /// Loads 2 bytes at `offset` plus the index register.
    pub fn load_half_indexed(&mut self, offset: u32) {
        self.push(LOAD | INDEXED | HALF, offset);
    }

    /// Loads 1 byte at `offset` plus the index register.
    pub fn load_byte_indexed(&mut self, offset: u32) {
        self.push(LOAD | INDEXED | BYTE, offset);
    }

    /// Loads 4 bytes at `offset` plus the index register.
    pub fn load_word_indexed(&mut self, offset: u32) {
        self.push(LOAD | INDEXED | WORD, offset);
    }

    /// Copies what was computed to the index register.
    pub fn to_index(&mut self) {
        self.push(TO_INDEX, 0);
    }

    /// Adds the index register, modulo 2^32.
    pub fn add_index(&mut self) {
        self.push(ARITHMETIC | ADD_INDEX, 0);
    }

    /// Multiplies by `factor`, modulo 2^32.
    pub fn multiply(&mut self, factor: u32) {
        self.push(ARITHMETIC | MULTIPLY, factor);
    }

    /// Shifts to the right.
    pub fn shift_right(&mut self, bits: u32) {
        self.push(ARITHMETIC | SHIFT_RIGHT, bits);
    }

    /// Keeps only the bits of `mask`.
    pub fn and(&mut self, mask: u32) {
        self.push(ARITHMETIC | AND, mask);
    }

    /// Compares the accumulator with `constant`.
    pub fn jump(&mut self, test: Test, constant: u32, holds: To, fails: To) {
        self.jumps.push((self.instructions.len(), holds, fails));
        let test = match test {
            Test::Equal => EQUAL,
            Test::Greater => GREATER,
            Test::GreaterOrEqual => GREATER_OR_EQUAL,
            Test::AnyBit => ANY_BIT,
        };
        self.push(JUMP | test, constant);
    }

    /// Ends: keeps the first `length` bytes of the packet; 0 drops it.
    pub fn accept(&mut self, length: u32) {
        self.push(RETURN, length);
    }

    /// Ends with what was computed: what it means is for whoever runs the program (which socket of a group, for one).
    pub fn accept_computed(&mut self) {
        self.push(RETURN_COMPUTED, 0);
    }

    /// The finished program.
    ///
    /// # Errors
    /// When a jump cannot be resolved or the program is too long.
    pub fn finish(mut self) -> Result<Program, AssembleError> {
        if MAX_INSTRUCTIONS < self.instructions.len() {
            return Err(AssembleError::TooLong(self.instructions.len()));
        }
        for &(from, holds, fails) in &self.jumps {
            let jump_true = self.distance(from, holds)?;
            let jump_false = self.distance(from, fails)?;
            self.instructions[from].jump_true = jump_true;
            self.instructions[from].jump_false = jump_false;
        }
        Ok(Program { instructions: self.instructions })
    }

    fn distance(&self, from: usize, to: To) -> Result<u8, AssembleError> {
        let To::Label(label) = to else { return Ok(0) };
        let place = self.labels.get(label.0).copied().flatten();
        let place = place.filter(|&place| place < self.instructions.len());
        let distance =
            place.and_then(|place| place.checked_sub(from + 1)).ok_or(AssembleError::Unbound(from))?;
        u8::try_from(distance).map_err(|_| AssembleError::TooFar(from))
    }

    fn push(&mut self, code: u16, operand: u32) {
        self.instructions.push(Instruction { code, jump_true: 0, jump_false: 0, operand });
    }
}

// linux/bpf_common.h
const LOAD: u16 = 0x00;
const LOAD_INDEX: u16 = 0x01;
const ARITHMETIC: u16 = 0x04;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const WORD: u16 = 0x00;
const HALF: u16 = 0x08;
const BYTE: u16 = 0x10;
const ABSOLUTE: u16 = 0x20;
const INDEXED: u16 = 0x40;
const HEADER_LENGTH: u16 = 0xa0;
const AND: u16 = 0x50;
const MULTIPLY: u16 = 0x20;
const ADD_INDEX: u16 = 0x08;
const TO_INDEX: u16 = 0x07;
const SHIFT_RIGHT: u16 = 0x70;
const RETURN_COMPUTED: u16 = 0x16;
const EQUAL: u16 = 0x10;
const GREATER: u16 = 0x20;
const GREATER_OR_EQUAL: u16 = 0x30;
const ANY_BIT: u16 = 0x40;
const MAX_INSTRUCTIONS: usize = 4096;

/// What the kernel would make of a packet: an interpreter for tests.
#[cfg(test)]
pub(crate) mod interpret {
    use super::*;

    /// Runs `program` over `packet`; returns how many bytes are kept, or what was computed.
    pub(crate) fn run(program: &Program, packet: &[u8]) -> u32 {
        let load = |offset: usize, code: u16| -> Option<u32> {
            let length = match code & 0x18 {
                WORD => 4,
                HALF => 2,
                _ => 1,
            };
            let bytes = packet.get(offset..offset.checked_add(length)?)?;
            Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
        };
        let (mut accumulator, mut index, mut at) = (0u32, 0u32, 0usize);
        loop {
            let instruction = program.instructions[at];
            let Instruction { code, operand, .. } = instruction;
            at += 1;
            let loaded = match (code & 0x07, code & 0xe0) {
                (LOAD, ABSOLUTE) => load(operand as usize, code),
                (LOAD, INDEXED) => load(operand as usize + index as usize, code),
                (LOAD_INDEX, HEADER_LENGTH) => {
                    let Some(byte) = load(operand as usize, BYTE) else { return 0 };
                    index = (byte & 0xf) * 4;
                    continue;
                }
                (ARITHMETIC, _) => Some(match code & 0xf8 {
                    MULTIPLY => accumulator.wrapping_mul(operand),
                    SHIFT_RIGHT => accumulator >> operand,
                    ADD_INDEX => accumulator.wrapping_add(index),
                    _ => accumulator & operand,
                }),
                (TO_INDEX, _) => {
                    index = accumulator;
                    continue;
                }
                (RETURN, _) => return if code == RETURN_COMPUTED { accumulator } else { operand },
                _ => {
                    let holds = match code & 0xf0 {
                        EQUAL => accumulator == operand,
                        GREATER => operand < accumulator,
                        GREATER_OR_EQUAL => operand <= accumulator,
                        _ => accumulator & operand != 0,
                    };
                    at += usize::from(if holds { instruction.jump_true } else { instruction.jump_false });
                    continue;
                }
            };
            let Some(value) = loaded else { return 0 };
            accumulator = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_leads_to_the_instruction_it_is_bound_to() {
        let mut assembler = Assembler::new();
        let found = assembler.label();
        assembler.load_half(12);
        assembler.jump(Test::Equal, 0x0800, To::Label(found), To::Next);
        assembler.accept(0);
        assembler.bind(found);
        assembler.accept(96);
        let program = assembler.finish().expect("assembles");
        let mut packet = [0; 14];
        assert_eq!(interpret::run(&program, &packet), 0);
        packet[12] = 8;
        assert_eq!(interpret::run(&program, &packet), 96);
        assert_eq!(interpret::run(&program, &packet[..13]), 0, "a load outside of the packet drops it");
        let codes: Vec<u16> = program.instructions().iter().map(|instruction| instruction.code).collect();
        assert_eq!(codes, [0x28, 0x15, 0x06, 0x06], "as tcpdump -dd prints 'ether proto 0x0800'");
    }

    #[test]
    fn programs_the_kernel_would_refuse_are_not_made() {
        let mut assembler = Assembler::new();
        let nowhere = assembler.label();
        assembler.jump(Test::Equal, 1, To::Label(nowhere), To::Next);
        assembler.accept(0);
        assert_eq!(assembler.finish(), Err(AssembleError::Unbound(0)));

        let mut assembler = Assembler::new();
        let far = assembler.label();
        assembler.jump(Test::Equal, 1, To::Label(far), To::Next);
        for _ in 0..256 {
            assembler.accept(0);
        }
        assembler.bind(far);
        assembler.accept(0);
        assert_eq!(assembler.finish(), Err(AssembleError::TooFar(0)));

        let mut assembler = Assembler::new();
        for _ in 0..4097 {
            assembler.accept(0);
        }
        assert_eq!(assembler.finish(), Err(AssembleError::TooLong(4097)));
    }
}
