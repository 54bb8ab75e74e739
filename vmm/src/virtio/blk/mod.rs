//! virtio-blk (virtio 1.3 §5.2) over raw files.
//!
//! `request` reads what the driver asks for, `disk` is what it is asked of, `vectored` moves the bytes.

mod disk;
mod request;
#[cfg(test)]
mod tests;
mod vectored;

use std::io;

pub use disk::{Access, Disk, DiskError, disk_file};
use request::Requests;

use crate::virtio::device::{ActivateError, Activation, Standing, VirtioDevice};
use crate::virtio::queue_thread::{QueueThread, ThreadPlan};

/// virtio 1.3 §5.
const DEVICE_TYPE: u32 = 2;

const QUEUE_SIZE: u16 = 128;

/// Feature bits (virtio 1.3 §5.2.3).
const F_SEG_MAX: u64 = 1 << 2;
const F_RO: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

/// The unit of every number of the protocol, in bytes (virtio 1.3 §5.2.4).
const SECTOR: u64 = 512;

/// The disk's logical block, in bytes: with a larger one the end of a disk that is no multiple of it is lost.
const BLOCK: u32 = 512;

/// Host file systems give space back in pages.
const DISCARD_ALIGNMENT_SECTORS: u32 = 8;

/// The most sectors one discard or write-zeroes request may name: 1 GiB.
const MAX_RANGE_SECTORS: u32 = 1 << 21;

pub struct Blk {
    config: [u8; CONFIG_LENGTH],
    features: u64,
    thread: QueueThread,
}

impl Blk {
    /// The device of a disk; `serial` is what GET_ID answers, cut at 20 bytes.
    pub fn new(disk: Disk, serial: &str, plan: ThreadPlan) -> io::Result<Self> {
        let changes = match disk.access() {
            Access::ReadOnly => F_RO,
            Access::Writable => F_FLUSH | F_DISCARD | F_WRITE_ZEROES,
        };
        let config = config(&disk);
        let thread = QueueThread::start(plan, Requests::new(disk, serial))?;
        Ok(Self { config, features: F_SEG_MAX | F_BLK_SIZE | changes, thread })
    }
}

impl VirtioDevice for Blk {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in data.iter_mut().zip(self.config.iter().skip(from)) {
            *byte = *value;
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.thread.activate(activation)
    }

    fn reset(&mut self) {
        self.thread.release();
    }

    fn hold(&mut self) -> Option<Standing> {
        self.thread.hold()
    }
}

/// Up to and with `write_zeroes_may_unmap` of virtio 1.3 §5.2.4.
const CONFIG_LENGTH: usize = 60;

fn config(disk: &Disk) -> [u8; CONFIG_LENGTH] {
    let mut config = [0; CONFIG_LENGTH];
    let mut put = |offset: usize, value: &[u8]| {
        for (byte, value) in config.iter_mut().skip(offset).zip(value) {
            *byte = *value;
        }
    };
    put(0, &disk.sectors().to_le_bytes());
    // seg_max: header and status take a descriptor each.
    put(12, &u32::from(QUEUE_SIZE - 2).to_le_bytes());
    put(20, &BLOCK.to_le_bytes());
    put(36, &MAX_RANGE_SECTORS.to_le_bytes()); // max_discard_sectors
    put(40, &1u32.to_le_bytes()); // max_discard_seg
    put(44, &DISCARD_ALIGNMENT_SECTORS.to_le_bytes()); // discard_sector_alignment
    put(48, &MAX_RANGE_SECTORS.to_le_bytes()); // max_write_zeroes_sectors
    put(52, &1u32.to_le_bytes()); // max_write_zeroes_seg
    put(56, &[1]); // write_zeroes_may_unmap
    config
}
