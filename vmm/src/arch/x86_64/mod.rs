//! x86_64: a PVH boot on a machine described by an MP table, without ACPI or firmware.

pub mod boot;
pub mod cpuid;
pub mod layout;
pub mod mp_table;
pub mod pvh;
pub mod registers;
pub mod state;
