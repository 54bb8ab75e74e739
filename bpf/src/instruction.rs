//! The instructions of a program (Linux Documentation/bpf/standardization/instruction-set.rst), as far as they are used.

use std::os::fd::RawFd;

/// One instruction. Of the registers' numbers, four bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    pub destination: u8,
    pub source: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// Classes, sources and operations, together.
pub mod code {
    pub const ADD: u8 = 0x07;
    pub const JUMP_IF: u8 = 0x15;
    pub const LOAD_WIDE: u8 = 0x18;
    pub const OR_WITH: u8 = 0x4f;
    pub const JUMP_UNLESS: u8 = 0x55;
    pub const AND: u8 = 0x57;
    pub const JUMP_UNLESS_SAME: u8 = 0x5d;
    pub const AND_WITH: u8 = 0x5f;
    pub const LOAD_WORD: u8 = 0x61;
    pub const STORE_WORD: u8 = 0x62;
    pub const SHIFT_LEFT: u8 = 0x67;
    pub const SHIFT_RIGHT: u8 = 0x77;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
    pub const SET: u8 = 0xb7;
    pub const COPY: u8 = 0xbf;
}

/// Twice as long as others, as is [`set_wide`].
pub fn load_map(to: u8, map: RawFd) -> [Instruction; 2] {
    const PSEUDO_MAP_FD: u8 = 1;
    [instruction(code::LOAD_WIDE, to, PSEUDO_MAP_FD, 0, map), instruction(0, 0, 0, 0, 0)]
}

/// To a value by its upper and its lower half.
pub fn set_wide(to: u8, [upper, lower]: [i32; 2]) -> [Instruction; 2] {
    [instruction(code::LOAD_WIDE, to, 0, 0, lower), instruction(0, 0, 0, 0, upper)]
}

pub fn load_word(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(code::LOAD_WORD, to, from, offset, 0)
}

pub fn store_word(to: u8, offset: i16, value: i32) -> Instruction {
    instruction(code::STORE_WORD, to, 0, offset, value)
}

pub fn add(to: u8, value: i32) -> Instruction {
    instruction(code::ADD, to, 0, 0, value)
}

pub fn and(to: u8, value: i32) -> Instruction {
    instruction(code::AND, to, 0, 0, value)
}

/// With what another register has, as is [`or_with`].
pub fn and_with(to: u8, other: u8) -> Instruction {
    instruction(code::AND_WITH, to, other, 0, 0)
}

pub fn or_with(to: u8, other: u8) -> Instruction {
    instruction(code::OR_WITH, to, other, 0, 0)
}

pub fn shift_left(to: u8, bits: i32) -> Instruction {
    instruction(code::SHIFT_LEFT, to, 0, 0, bits)
}

pub fn shift_right(to: u8, bits: i32) -> Instruction {
    instruction(code::SHIFT_RIGHT, to, 0, 0, bits)
}

pub fn set(to: u8, value: i32) -> Instruction {
    instruction(code::SET, to, 0, 0, value)
}

pub fn copy(to: u8, from: u8) -> Instruction {
    instruction(code::COPY, to, from, 0, 0)
}

/// Over so many of the instructions behind it, as the jumps below.
pub fn jump_if(register: u8, value: i32, over: i16) -> Instruction {
    instruction(code::JUMP_IF, register, 0, over, value)
}

pub fn jump_unless(register: u8, value: i32, over: i16) -> Instruction {
    instruction(code::JUMP_UNLESS, register, 0, over, value)
}

pub fn jump_unless_same(register: u8, other: u8, over: i16) -> Instruction {
    instruction(code::JUMP_UNLESS_SAME, register, other, over, 0)
}

pub fn call(helper: i32) -> Instruction {
    instruction(code::CALL, 0, 0, 0, helper)
}

pub fn exit() -> Instruction {
    instruction(code::EXIT, 0, 0, 0, 0)
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, destination, source, offset, immediate }
}
