//! How often the vCPUs left the guest for user space, by kind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub struct ExitCounts {
    io: AtomicU64,
    mmio: AtomicU64,
    interrupted: AtomicU64,
    other: AtomicU64,
}

impl ExitCounts {
    pub(super) fn io(&self) {
        self.io.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn mmio(&self) {
        self.mmio.fetch_add(1, Ordering::Relaxed);
    }

    /// By a signal to the thread.
    pub(super) fn interrupted(&self) {
        self.interrupted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn other(&self) {
        self.other.fetch_add(1, Ordering::Relaxed);
    }

    /// By the names [`vmm_api::End`] gives them.
    pub fn by_kind(&self) -> BTreeMap<String, u64> {
        [("io", &self.io), ("mmio", &self.mmio), ("interrupted", &self.interrupted), ("other", &self.other)]
            .map(|(kind, count)| (kind.to_owned(), count.load(Ordering::Relaxed)))
            .into()
    }
}
