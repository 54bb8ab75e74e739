//! Lists of the system calls a thread may make, as seccomp filters.
//!
//! Calls of one number are alternatives. Arguments count from 0; where they are descriptors or plain numbers
//! the kernel looks at 32 bits, and so do the filters.

#![forbid(unsafe_code)]

mod program;

pub use seccompiler::Error;

/// The type of system calls' numbers, as the C library has it.
pub type Number = std::ffi::c_long;

/// A system call, with what its arguments have to be.
pub struct Call {
    number: Number,
    /// All of these hold.
    arguments: &'static [Argument],
    answer: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    Allow,
    /// ENOSYS, as from a kernel without this call.
    NotThere,
}

pub enum Argument {
    /// The argument's lower half has this value.
    Is(u8, u32),
    /// The argument has none of these bits.
    Lacks(u8, u32),
    /// The argument is a null pointer.
    Null(u8),
}

pub const fn call(number: Number) -> Call {
    Call { number, arguments: &[], answer: Answer::Allow }
}

pub const fn when(number: Number, arguments: &'static [Argument]) -> Call {
    Call { number, arguments, answer: Answer::Allow }
}

pub const fn not_there(number: Number) -> Call {
    Call { number, arguments: &[], answer: Answer::NotThere }
}

/// Confines the calling thread, and those it starts from now on, to these calls: any other raises SIGSYS, which ends the
/// process unless it is caught.
pub fn confine<'c>(calls: impl Iterator<Item = &'c Call>) -> Result<(), Error> {
    seccompiler::apply_filter(&program::compile(calls))
}
