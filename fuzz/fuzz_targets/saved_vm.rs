//! The file of a saved VM, as a stranger may have written it: whatever it holds is taken or refused.
//!
//!     cargo +nightly fuzz run saved_vm

#![no_main]

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use vmm::saved::SavedVm;
use vmm_api::StateFile;

/// Those a VM has (vmm/src/saved.rs).
const SECTIONS: [&str; 7] = ["shape", "chips", "vcpus", "console", "disks", "pmem", "pci"];

fuzz_target!(|input: (&[u8], [&[u8]; SECTIONS.len()])| {
    let (file, sections) = input;
    let _ = StateFile::decode(file);
    // Sections of any content, whose sums are right.
    let mut state = StateFile::default();
    for (name, bytes) in SECTIONS.into_iter().zip(sections) {
        state.add(name, bytes.to_vec());
    }
    let Ok(bytes) = state.encode() else { return };
    let file = memfd_create("state", MemfdFlags::empty()).expect("a file in memory");
    rustix::io::pwrite(&file, &bytes, 0).expect("room for it");
    let _ = SavedVm::read(&file);
});
