//! What is left of the process once it is set up: its descriptors, the capabilities of one who keeps files for others, and a
//! root in which there is nothing but the way to its own descriptors.

mod enter;
mod filter;

pub(crate) use enter::{close_inherited, enter};
