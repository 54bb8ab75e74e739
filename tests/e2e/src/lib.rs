//! What the end-to-end suites share: the binaries under test, the images they run, and a look at what is left.

// What cannot be set up fails the test that needs it.
#![allow(clippy::expect_used, clippy::panic)]

pub mod cri;
pub mod engines;
pub mod images;
pub mod machine;
pub mod shell;
pub mod terminal;
pub mod vm;
