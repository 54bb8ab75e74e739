//! Hands a program to the kernel.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use crate::call::make;
use crate::instruction::Instruction;

/// What a program calls itself to the kernel: the licence of this one.
const LICENSE: &CStr = c"Apache-2.0";

// As in linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
struct Encoded {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What a program is for, and where it is to be attached: numbers of linux/bpf.h.
pub(crate) struct Purpose {
    pub(crate) program_type: u32,
    pub(crate) attach_type: u32,
}

pub(crate) fn load(program: &[Instruction], purpose: &Purpose) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: *const Encoded,
        license: *const libc::c_char,
        log: [u64; 2],
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
    }
    let instructions: Vec<_> = program.iter().map(encode).collect();
    let load = Load {
        prog_type: purpose.program_type,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr(),
        license: LICENSE.as_ptr(),
        log: [0; 2],
        kern_version: 0,
        prog_flags: 0,
        prog_name: [0; 16],
        prog_ifindex: 0,
        expected_attach_type: purpose.attach_type,
    };
    // SAFETY: the instructions are as many as is said, the licence ends with a NUL, and the call copies both. The command
    // makes a descriptor.
    unsafe { make(PROG_LOAD, &load) }
}

fn encode(instruction: &Instruction) -> Encoded {
    let Instruction { code, destination, source, offset, immediate } = *instruction;
    // Bit fields, in the machine's order.
    let (low, high) =
        if cfg!(target_endian = "little") { (destination, source) } else { (source, destination) };
    Encoded { code, registers: high << 4 | (low & 0xf), offset, immediate }
}
