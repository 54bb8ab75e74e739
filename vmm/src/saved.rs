//! A VM besides its memory, as it lies in the file of its state: the sections of a
//! [`StateFile`](vmm_api::StateFile).

use std::os::fd::OwnedFd;

use rustix::fs::fstat;
use rustix::io::{pread, pwrite};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vmm_api::{MAX_STATE_FILE, StateFile, StateFileError};

use crate::arch::mp_table::MAX_CPUS;
use crate::arch::state::{ChipState, VcpuState};
use crate::pci::BusState;
use crate::platform::console::ConsoleState;

#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    #[error("cannot read or write the file of a saved VM's state")]
    File(#[source] std::io::Error),
    #[error("the file of a saved VM's state cannot be used")]
    Format(#[from] StateFileError),
    #[error("the section {0:?} of a saved VM's state makes no sense")]
    Section(&'static str, #[source] postcard::Error),
    #[error("a saved VM has 1 to {MAX_CPUS} vCPUs, not {vcpus}, or {most} at most")]
    Vcpus { vcpus: usize, most: u8 },
}

pub struct SavedVm {
    pub shape: Shape,
    pub chips: ChipState,
    pub vcpus: Vec<VcpuState>,
    pub console: ConsoleState,
    /// In the order of the slots.
    pub seats: Vec<SavedSeat>,
    pub pci: BusState,
}

/// A slot of the PCI bus, and what was in it beside the devices every VM has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSeat {
    pub slot: u8,
    pub device: SavedDevice,
}

/// What whoever lets the VM go on brings along again; or the place of one, where that may be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SavedDevice {
    Disk {
        serial: String,
        is_place: bool,
    },
    PersistentMemory {
        /// In bytes.
        length: u64,
        /// What of it was files, in bytes; of an empty place, 0.
        filled: u64,
    },
    /// A place, whether it had a tap or not: of another VM's network the copy is to have nothing.
    Net {
        name: String,
        /// Of queues.
        pairs: u8,
        mac: [u8; 6],
    },
    /// A place: a VM that shares files is not saved.
    Share {
        tag: String,
    },
}

/// What has to be there before the rest can be put in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Of guest memory, in bytes.
    pub memory: u64,
    /// How many vCPUs its guest's kernel was told of.
    pub most_vcpus: u8,
    /// When the guest's clocks stopped, in ns of CLOCK_REALTIME.
    pub taken: u64,
}

impl SavedVm {
    /// Writes to an empty file.
    pub fn write(&self, to: &OwnedFd) -> Result<(), SavedError> {
        let mut file = StateFile::default();
        add(&mut file, "shape", &self.shape)?;
        add(&mut file, "chips", &self.chips)?;
        add(&mut file, "vcpus", &self.vcpus)?;
        add(&mut file, "console", &self.console)?;
        add(&mut file, "seats", &self.seats)?;
        add(&mut file, "pci", &self.pci)?;
        write_all(to, &file.encode()?).map_err(SavedError::File)
    }

    pub fn read(from: &OwnedFd) -> Result<Self, SavedError> {
        let file = StateFile::decode(&read_all(from)?)?;
        let shape: Shape = section(&file, "shape")?;
        let vcpus: Vec<VcpuState> = section(&file, "vcpus")?;
        let most = shape.most_vcpus;
        if most > MAX_CPUS || !(1..=usize::from(most)).contains(&vcpus.len()) {
            return Err(SavedError::Vcpus { vcpus: vcpus.len(), most });
        }
        Ok(Self {
            shape,
            chips: section(&file, "chips")?,
            vcpus,
            console: section(&file, "console")?,
            seats: section(&file, "seats")?,
            pci: section(&file, "pci")?,
        })
    }
}

fn add(file: &mut StateFile, name: &'static str, value: &impl Serialize) -> Result<(), SavedError> {
    let bytes = postcard::to_allocvec(value).map_err(|error| SavedError::Section(name, error))?;
    file.add(name, bytes);
    Ok(())
}

fn section<T: DeserializeOwned>(file: &StateFile, name: &'static str) -> Result<T, SavedError> {
    postcard::from_bytes(file.section(name)?).map_err(|error| SavedError::Section(name, error))
}

fn read_all(file: &OwnedFd) -> Result<Vec<u8>, SavedError> {
    let size = fstat(file).map_err(|error| SavedError::File(error.into()))?.st_size;
    let size =
        usize::try_from(size).ok().filter(|size| *size <= MAX_STATE_FILE).ok_or(StateFileError::TooMuch)?;
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match pread(file, rest, filled as u64).map_err(|error| SavedError::File(error.into()))? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> std::io::Result<()> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        written += pwrite(file, rest, written as u64)?;
    }
    Ok(())
}
