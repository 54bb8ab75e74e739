//! The virtio devices of a machine: those every VM has, and those that come and go.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmm_api::ControlSocket;

use crate::file_memory::FileMemory;
use crate::jail::seccomp;
use crate::launch::DiskPart;
use crate::machine::Machine;
use crate::memory;
use crate::nets::Nets;
use crate::pci::{AddError, Slot};
use crate::saved::{SavedDevice, SavedSeat};
use crate::streams::ToSupervisor;
use crate::virtio::balloon::Balloon;
use crate::virtio::blk::{Blk, Disk, DiskError};
use crate::virtio::device::VirtioDevice;
use crate::virtio::fs::{Fs, FsHandle};
use crate::virtio::mem::{Mem, MemHandle};
use crate::virtio::pci::VirtioPci;
use crate::virtio::pmem::Pmem;
use crate::virtio::queue_thread::ThreadPlan;
use crate::virtio::rng::Rng;
use crate::virtio::vsock::{Vsock, VsockHandle};

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("cannot start the entropy device")]
    Rng(#[source] io::Error),
    #[error("cannot start the vsock device")]
    Vsock(#[source] io::Error),
    #[error("cannot start the balloon device")]
    Balloon(#[source] io::Error),
    #[error("cannot start the device of memory to grow into")]
    Mem(#[source] io::Error),
    #[error("cannot use disk {0}")]
    Disk(String, #[source] DiskError),
    #[error("cannot start the device of disk {0}")]
    Blk(String, #[source] io::Error),
    #[error("cannot start the device of persistent memory")]
    Pmem(#[source] io::Error),
    #[error("there is a disk {0} already")]
    DiskExists(String),
    #[error("there is persistent memory already")]
    PersistentMemoryExists,
    #[error("cannot start the device of share {0}")]
    Fs(String, #[source] io::Error),
    #[error("there is a share {0} already")]
    ShareExists(String),
    #[error("there is no disk {0}")]
    NoDisk(String),
    #[error("the saved VM had a disk {0}, which does not come along")]
    NotAtHand(String),
    #[error("cannot place a device on the PCI bus")]
    Pci(#[from] AddError),
}

pub struct Devices {
    pub vsock: VsockHandle,
    pub mem: MemHandle,
    disks: BTreeMap<String, Seat>,
    /// The slot of the disk that is persistent memory, or of its place.
    persistent_memory: Option<Slot>,
    pub nets: Nets,
    shares: BTreeMap<String, ShareSeat>,
}

struct Seat {
    slot: Slot,
    /// Without a disk.
    is_place: bool,
}

struct ShareSeat {
    slot: Slot,
    device: FsHandle,
    /// Without a server.
    is_place: bool,
}

impl Devices {
    /// Adds the devices every VM has to the machine's bus; their threads run from here on. Always in this order, by which
    /// they get their slots: a saved VM finds its own again.
    pub fn attach(machine: &Machine, control: Arc<ControlSocket>) -> Result<Self, DeviceError> {
        let rng = Rng::new(ThreadPlan {
            name: "rng".to_owned(),
            confine: || seccomp::confine(seccomp::Thread::Rng),
            ending: Arc::clone(&machine.ending),
        });
        seat(machine, Box::new(rng.map_err(DeviceError::Rng)?))?;
        let sink = Arc::new(ToSupervisor::new(control));
        let (vsock, handle) =
            Vsock::new(sink, Arc::clone(&machine.ending), || seccomp::confine(seccomp::Thread::Vsock))
                .map_err(DeviceError::Vsock)?;
        seat(machine, Box::new(vsock))?;
        let balloon = Balloon::new(ThreadPlan {
            name: "balloon".to_owned(),
            confine: || seccomp::confine(seccomp::Thread::Balloon),
            ending: Arc::clone(&machine.ending),
        });
        seat(machine, Box::new(balloon.map_err(DeviceError::Balloon)?))?;
        let plan = ThreadPlan {
            name: "mem".to_owned(),
            confine: || seccomp::confine(seccomp::Thread::Mem),
            ending: Arc::clone(&machine.ending),
        };
        let (mem, mem_handle) =
            Mem::new(memory::room_addresses(&machine.memory), plan).map_err(DeviceError::Mem)?;
        seat(machine, Box::new(mem))?;
        Ok(Self {
            vsock: handle,
            mem: mem_handle,
            disks: BTreeMap::new(),
            persistent_memory: None,
            nets: Nets::default(),
            shares: BTreeMap::new(),
        })
    }

    pub fn has_disks(&self) -> bool {
        self.disks.values().any(|seat| !seat.is_place)
    }

    /// Whether the guest can reach files of the host.
    pub fn shares_files(&self) -> bool {
        self.shares.values().any(|seat| !seat.is_place)
    }

    /// In the order of the slots.
    pub fn saved_seats(&self, file_memory: Option<&FileMemory>) -> Vec<SavedSeat> {
        let disks = self.disks.iter().map(|(serial, Seat { slot, is_place })| SavedSeat {
            slot: slot.number(),
            device: SavedDevice::Disk { serial: serial.clone(), is_place: *is_place },
        });
        let persistent_memory = self.persistent_memory.zip(file_memory).map(|(slot, files)| SavedSeat {
            slot: slot.number(),
            device: SavedDevice::PersistentMemory { length: files.length(), filled: files.filled() },
        });
        let shares = self.shares.iter().map(|(tag, ShareSeat { slot, .. })| SavedSeat {
            slot: slot.number(),
            device: SavedDevice::Share { tag: tag.clone() },
        });
        let mut seats: Vec<_> =
            disks.chain(persistent_memory).chain(self.nets.saved_seats()).chain(shares).collect();
        seats.sort_by_key(|seat| seat.slot);
        seats
    }

    /// The disk of a saved VM, if it is at hand; a place may stay one.
    pub fn put_back_disk(
        &mut self,
        machine: &Machine,
        serial: &str,
        is_place: bool,
        at_hand: &mut Vec<DiskPart>,
    ) -> Result<Slot, DeviceError> {
        match at_hand.iter().position(|disk| disk.serial == serial) {
            Some(found) => self.add_disk(machine, at_hand.remove(found)),
            None if is_place => self.add_place(machine, serial.to_owned()),
            None => Err(DeviceError::NotAtHand(serial.to_owned())),
        }
    }

    /// The guest sees the disk when it rescans its bus.
    pub fn add_disk(&mut self, machine: &Machine, disk: DiskPart) -> Result<Slot, DeviceError> {
        let DiskPart { serial, files, access } = disk;
        let disk = Disk::new(files, access).map_err(|error| DeviceError::Disk(serial.clone(), error))?;
        self.seat_disk(machine, serial, disk, false)
    }

    /// A device without a disk.
    pub fn add_place(&mut self, machine: &Machine, serial: String) -> Result<Slot, DeviceError> {
        self.seat_disk(machine, serial, Disk::none(), true)
    }

    fn seat_disk(
        &mut self,
        machine: &Machine,
        serial: String,
        disk: Disk,
        is_place: bool,
    ) -> Result<Slot, DeviceError> {
        if self.disks.contains_key(&serial) {
            return Err(DeviceError::DiskExists(serial));
        }
        let plan = ThreadPlan {
            name: "blk".to_owned(),
            confine: || seccomp::confine(seccomp::Thread::Blk),
            ending: Arc::clone(&machine.ending),
        };
        let blk = Blk::new(disk, &serial, plan).map_err(|error| DeviceError::Blk(serial.clone(), error))?;
        let slot = seat(machine, Box::new(blk))?;
        self.disks.insert(serial, Seat { slot, is_place });
        Ok(slot)
    }

    /// Tells the guest of a disk in a range of its memory, or the place of one. It stays for as long as the VM runs.
    pub fn add_persistent_memory(
        &mut self,
        machine: &Machine,
        range: Range<u64>,
    ) -> Result<Slot, DeviceError> {
        if self.persistent_memory.is_some() {
            return Err(DeviceError::PersistentMemoryExists);
        }
        let pmem = Pmem::new(
            range,
            ThreadPlan {
                name: "pmem".to_owned(),
                confine: || seccomp::confine(seccomp::Thread::Pmem),
                ending: Arc::clone(&machine.ending),
            },
        );
        let slot = seat(machine, Box::new(pmem.map_err(DeviceError::Pmem)?))?;
        self.persistent_memory = Some(slot);
        Ok(slot)
    }

    /// A device without a file server.
    pub fn add_share_place(&mut self, machine: &Machine, tag: String) -> Result<Slot, DeviceError> {
        if self.shares.contains_key(&tag) {
            return Err(DeviceError::ShareExists(tag));
        }
        let plan = ThreadPlan {
            name: "fs".to_owned(),
            confine: || seccomp::confine(seccomp::Thread::Fs),
            ending: Arc::clone(&machine.ending),
        };
        let (fs, device) = Fs::new(&tag, plan).map_err(|error| DeviceError::Fs(tag.clone(), error))?;
        let slot = seat(machine, Box::new(fs))?;
        self.shares.insert(tag, ShareSeat { slot, device, is_place: true });
        Ok(slot)
    }

    /// In its place, or as a device that the guest sees when it rescans its bus. It stays for as long as the VM runs.
    pub fn add_share(&mut self, machine: &Machine, tag: String, server: OwnedFd) -> Result<(), DeviceError> {
        if !self.shares.contains_key(&tag) {
            self.add_share_place(machine, tag.clone())?;
        }
        match self.shares.get_mut(&tag) {
            Some(ShareSeat { device, is_place, .. }) if *is_place => {
                device.serve(server);
                *is_place = false;
                Ok(())
            }
            _ => Err(DeviceError::ShareExists(tag)),
        }
    }

    pub fn remove_disk(&mut self, machine: &Machine, serial: &str) -> Result<(), DeviceError> {
        let seat = self.disks.remove(serial).ok_or_else(|| DeviceError::NoDisk(serial.to_owned()))?;
        machine.pci.remove(seat.slot);
        Ok(())
    }
}

pub fn seat(machine: &Machine, device: Box<dyn VirtioDevice>) -> Result<Slot, AddError> {
    machine.pci.add(Box::new(VirtioPci::new(device, machine.memory.clone())))
}
