//! XDP programs that see received frames.

use crate::sys::ebpf::{AssembleError, Assembler, Program, Register::R0};

/// Passes every frame on to the network stack.
///
/// # Errors
/// Never in practice: its size is fixed.
pub(super) fn pass() -> Result<Program, AssembleError> {
    let mut program = Assembler::new();
    program.set(R0, XDP_PASS);
    program.exit();
    program.finish()
}

// linux/bpf.h, enum xdp_action
const XDP_PASS: i32 = 2;
