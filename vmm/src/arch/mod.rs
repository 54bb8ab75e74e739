//! What differs between processor architectures: where things lie in guest memory, what the CPUs say they
//! are, and the state in which they enter the kernel.

mod x86_64;

pub use x86_64::{boot, cpuid, layout, mp_table, pvh, registers, state};
