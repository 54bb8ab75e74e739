//! What is left of the VMM process once it is set up: nothing but its descriptors.
//!
//! In order: [`open_no_files`] and [`close_inherited`] at the start of main; [`enter`] while the process still has one
//! thread; then each thread calls [`seccomp::confine`] before it looks at anything a guest can write.

mod allocator;
mod enter;
mod forbidden;
mod inherited;
pub mod seccomp;

pub use allocator::open_no_files;
pub use enter::{JailError, enter};
pub use inherited::close_inherited;

#[cfg(test)]
mod tests;
