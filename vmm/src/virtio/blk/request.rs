//! A request of the driver (virtio 1.3 §5.2.6): a header of 16 bytes, data, and a status byte at the very end.

use std::io::ErrorKind;

use virtio_queue::DescriptorChain;

use super::disk::{Access, Disk};
use super::{MAX_RANGE_SECTORS, SECTOR};
use crate::memory::Memory;
use crate::virtio::chain::{Buffers, Run};
use crate::virtio::queue_thread::RequestHandler;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;

/// In `flags` of a write-zeroes request: the space may go too.
const F_UNMAP: u32 = 1;

const SERIAL_LENGTH: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Io,
    Unsupported,
}

/// Answers requests from a disk.
pub(super) struct Requests {
    disk: Disk,
    serial: [u8; SERIAL_LENGTH],
}

impl Requests {
    pub(super) fn new(disk: Disk, serial: &str) -> Self {
        let mut padded = [0; SERIAL_LENGTH];
        for (byte, value) in padded.iter_mut().zip(serial.bytes()) {
            *byte = value;
        }
        Self { disk, serial: padded }
    }

    /// Carries a request out, status aside; says how many bytes of `data_in` were written.
    fn carry_out(&self, header: Header, data_out: &Run<'_>, data_in: &Run<'_>) -> Result<u64, Failed> {
        match header.request {
            T_IN => {
                let offset = self.range(header.sector, data_in.len())?;
                self.disk.read(data_in, offset).map_err(|_| Failed::Io)?;
                Ok(data_in.len())
            }
            T_OUT => {
                self.writable()?;
                let offset = self.range(header.sector, data_out.len())?;
                self.disk.write(data_out, offset).map_err(|_| Failed::Io).map(|()| 0)
            }
            T_FLUSH => match self.disk.access() {
                Access::ReadOnly => Ok(0),
                Access::Writable => self.disk.flush().map_err(|_| Failed::Io).map(|()| 0),
            },
            T_GET_ID => Ok(data_in.copy_in(&self.serial)),
            T_DISCARD => {
                self.change_range(data_out, |offset, length, _| self.disk.punch_hole(offset, length))
            }
            T_WRITE_ZEROES => self.change_range(data_out, |offset, length, flags| match flags & F_UNMAP {
                0 => self.disk.zero(offset, length),
                _ => self.disk.punch_hole(offset, length),
            }),
            _ => Err(Failed::Unsupported),
        }
    }

    fn writable(&self) -> Result<(), Failed> {
        match self.disk.access() {
            Access::Writable => Ok(()),
            Access::ReadOnly => Err(Failed::Io),
        }
    }

    /// Discard and write-zeroes name their one range in the data.
    fn change_range(
        &self,
        data: &Run<'_>,
        change: impl Fn(u64, u64, u32) -> std::io::Result<()>,
    ) -> Result<u64, Failed> {
        self.writable()?;
        let segment: [u8; 16] = data.copy_out().ok_or(Failed::Io)?;
        if data.len() != 16 {
            return Err(Failed::Unsupported);
        }
        let (sector, sectors, flags) = (long(&segment, 0), word(&segment, 8), word(&segment, 12));
        if sectors > MAX_RANGE_SECTORS || flags & !F_UNMAP != 0 {
            return Err(Failed::Unsupported);
        }
        let length = u64::from(sectors) * SECTOR;
        let offset = self.range(sector, length)?;
        match length {
            0 => Ok(0),
            _ => change(offset, length, flags).map(|()| 0).map_err(|error| match error.kind() {
                ErrorKind::Unsupported => Failed::Unsupported,
                _ => Failed::Io,
            }),
        }
    }

    /// Where a range of whole sectors begins on the disk, in bytes.
    fn range(&self, sector: u64, length: u64) -> Result<u64, Failed> {
        let end = sector.checked_add(length.div_ceil(SECTOR)).ok_or(Failed::Io)?;
        if !length.is_multiple_of(SECTOR) || end > self.disk.sectors() {
            return Err(Failed::Io);
        }
        Ok(sector * SECTOR)
    }
}

impl RequestHandler for Requests {
    fn handle(&mut self, _: u16, chain: DescriptorChain<&Memory>, memory: &Memory) -> u32 {
        let Ok(Buffers { readable, writable }) = Buffers::of(chain, memory) else { return 0 };
        // Without a place for the status the driver can't be told anything.
        let Some((data_in, status)) =
            writable.len().checked_sub(1).and_then(|length| writable.split_at(length))
        else {
            return 0;
        };
        let outcome = Header::split(&readable)
            .ok_or(Failed::Io)
            .and_then(|(header, data_out)| self.carry_out(header, &data_out, &data_in));
        let (code, written) = match outcome {
            Ok(written) => (0, written),
            Err(Failed::Io) => (1, 0),
            Err(Failed::Unsupported) => (2, 0),
        };
        status.copy_in(&[code]);
        // The used length counts from the start of the writable part; the status is behind the data, so it
        // is only within when the data is whole.
        let used = if written == data_in.len() { written + 1 } else { written };
        u32::try_from(used).unwrap_or(u32::MAX)
    }
}

#[derive(Clone, Copy)]
struct Header {
    request: u32,
    sector: u64,
}

impl Header {
    /// Takes the header off what the device may read.
    fn split<'m>(readable: &Run<'m>) -> Option<(Self, Run<'m>)> {
        let (header, data) = readable.split_at(16)?;
        let bytes: [u8; 16] = header.copy_out()?;
        Some((Self { request: word(&bytes, 0), sector: long(&bytes, 8) }, data))
    }
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    bytes.get(at..).and_then(|tail| tail.first_chunk()).copied().map_or(0, u32::from_le_bytes)
}

fn long(bytes: &[u8; 16], at: usize) -> u64 {
    bytes.get(at..).and_then(|tail| tail.first_chunk()).copied().map_or(0, u64::from_le_bytes)
}
