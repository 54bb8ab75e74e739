//! A VM's start, from its description to running vCPUs, as one recipe; and another for a VM that was saved.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use kvm_ioctls::{Kvm, VmFd};
use vmm_api::{ControlSocket, EndReason, Place, RequestId};

use crate::arch::boot::{self, BootError};
use crate::arch::cpuid::{Cpuid, CpuidError};
use crate::arch::layout;
use crate::arch::state::{StateError, VcpuState, msrs_of_state};
use crate::devices::{DeviceError, Devices};
use crate::ending::Ending;
use crate::error_chain::in_words;
use crate::file_memory::{FileMemory, FileMemoryError};
use crate::jail::{self, JailError, seccomp};
use crate::launch::{DiskParts, Parts, SavedParts};
use crate::machine::{Machine, MachineError};
use crate::memory::{self, MemoryError};
use crate::memory_copy::MemoryCopy;
use crate::nets::{NetError, NetShape};
use crate::pci::{RestoreError, Slot};
use crate::save::Standing;
use crate::saved::{SavedDevice, SavedError, SavedSeat, SavedVm};
use crate::stamps::{self, Stamps};
use crate::vcpu::{self, RunningVcpus, VcpuError};
use crate::virtio::net::PLACE_MAC;
use crate::vm::{self, VmError, Writes};
use crate::working_set;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot enter the jail")]
    Jail(#[from] JailError),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("cannot use the disk that is persistent memory")]
    FileMemory(#[from] FileMemoryError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error("cannot learn what the guest's CPUs can be")]
    Cpuid(#[from] CpuidError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error("KVM does not take a saved VM's state")]
    State(#[from] StateError),
    #[error("a saved VM's devices are not those of this program")]
    Restore(#[from] RestoreError),
    #[error("the saved VM has {vcpus} vCPUs and {memory} bytes of memory, and is said to have others")]
    OtherShape { vcpus: usize, memory: u64 },
    #[error("the disk that is persistent memory is not the saved VM's")]
    OtherImage,
    #[error("what the saved VM had in slot {0} of its PCI bus finds that taken")]
    OtherSlot(u8),
    #[error("the main thread's system calls cannot be confined: {0}")]
    Confine(EndReason),
    #[error("cannot make an event")]
    Ending(#[source] std::io::Error),
}

/// A VM that runs.
pub struct Running {
    pub machine: Machine,
    pub devices: Devices,
    /// None once it is saved.
    pub vcpus: Option<RunningVcpus>,
    pub vm: Arc<VmFd>,
    /// Also of vCPUs that are still to come.
    pub cpuid: Cpuid,
    pub saving: Saving,
    /// While it is held.
    pub standing: Option<Standing>,
    /// A copy of its memory on the way, and the request for it.
    pub copying: Option<(RequestId, MemoryCopy)>,
    /// The request that the guest has not followed yet.
    pub resizing: Option<RequestId>,
    pub file_memory: Option<FileMemory>,
    /// Logged until somebody has asked for them.
    pub writes: Writes,
    /// As of [`Reply::Launched`](vmm_api::Reply::Launched).
    pub clock_behind: u64,
}

/// What has to be known of a VM that may be saved.
pub struct Saving {
    /// With how many vCPUs it was launched.
    pub vcpus: usize,
    /// Guest memory, in bytes.
    pub memory: u64,
    /// Which is all there is to save of it, then.
    pub memory_is_file: bool,
    /// The model-specific registers that are a vCPU's state.
    pub msrs: Vec<u32>,
}

pub fn start(
    mut parts: Parts,
    control: &Arc<ControlSocket>,
    stamps: &mut Stamps,
) -> Result<Running, StartError> {
    jail::enter(parts.identity)?;
    stamps.mark("jail");

    let kvm: Kvm = vm::open(parts.kvm)?;
    let vm = vm::create(&kvm)?;
    stamps.mark("kvm");

    let saving = Saving {
        vcpus: parts.vcpus.into(),
        memory: parts.memory,
        memory_is_file: parts.memory_file.is_some(),
        msrs: msrs_of_state(&kvm)?,
    };
    let memory = match parts.memory_file.take() {
        Some(file) => memory::in_file(parts.memory, file)?,
        None => memory::allocate(parts.memory)?,
    };
    vm::set_memory(&vm, &memory, Writes::NotLogged)?;
    stamps.mark("memory");

    let entry = boot::load(&memory, parts.memory, parts.most_vcpus, &mut parts.boot)?;
    stamps.mark("kernel");

    let ending = Arc::new(Ending::new().map_err(StartError::Ending)?);
    let machine = Machine::new(&vm, memory, ending, None)?;
    let mut devices = Devices::attach(&machine, Arc::clone(control))?;
    let file_memory = add_disks(parts.disks, parts.memory, &vm, &machine, &mut devices)?;
    stamps.mark("devices");

    let cpuid = Cpuid::new(&kvm, parts.most_vcpus)?;
    let vcpus = vcpu::create(&vm, &cpuid, parts.vcpus, entry)?;
    let vcpus = machine.run(vcpus)?;
    seccomp::confine(seccomp::Thread::Main).map_err(StartError::Confine)?;
    stamps.mark("vcpus");
    Ok(Running::new(machine, devices, vcpus, vm, cpuid, saving, file_memory))
}

/// Lets a saved VM go on. Nothing of it runs before all of it is there.
pub fn resume(
    mut parts: SavedParts,
    control: &Arc<ControlSocket>,
    stamps: &mut Stamps,
) -> Result<Running, StartError> {
    jail::enter(parts.identity)?;
    stamps.mark("jail");

    let kvm: Kvm = vm::open(parts.kvm)?;
    let vm = vm::create(&kvm)?;
    stamps.mark("kvm");

    let saved = SavedVm::read(&parts.state)?;
    if saved.vcpus.len() != usize::from(parts.vcpus) || saved.shape.memory != parts.memory_size {
        let (vcpus, memory) = (saved.vcpus.len(), saved.shape.memory);
        return Err(StartError::OtherShape { vcpus, memory });
    }
    let saving = Saving {
        vcpus: saved.vcpus.len(),
        memory: saved.shape.memory,
        memory_is_file: false,
        msrs: msrs_of_state(&kvm)?,
    };
    let leaves = saved.vcpus.first().map_or(&[][..], VcpuState::cpuid);
    let cpuid = Cpuid::again(leaves, saved.shape.most_vcpus)?;
    let memory = memory::from_file(saved.shape.memory, parts.memory)?;
    let writes = if parts.log_writes { Writes::Logged } else { Writes::NotLogged };
    vm::set_memory(&vm, &memory, writes)?;
    stamps.mark("memory");

    let ending = Arc::new(Ending::new().map_err(StartError::Ending)?);
    let machine = Machine::new(&vm, memory, ending, Some(&saved.console))?;
    let mut devices = Devices::attach(&machine, Arc::clone(control))?;
    parts.listen.into_iter().for_each(|port| devices.vsock.listen(port));
    let put_back = put_back(&saved, &mut parts.disks, &vm, &machine, &mut devices)?;
    stamps.mark("devices");

    let vcpus = vcpu::create_to_restore(&vm, saved.vcpus.len())?;
    let clock_behind = stamps::at_one_moment(|moment| {
        vcpu::restore(&vcpus, &saved.vcpus)?;
        saved.chips.put_into(&vm)?;
        Ok::<_, StartError>(moment.saturating_sub(saved.shape.taken))
    })?;
    // Last: a device may interrupt at once.
    machine.pci.restore(&saved.pci)?;
    let added = add_disks(parts.disks, saved.shape.memory, &vm, &machine, &mut devices)?;
    let file_memory = put_back.or(added);
    stamps.mark("state");
    vcpus.first().into_iter().for_each(|vcpu| working_set::map_ahead(&machine.memory, vcpu, &parts.ahead));
    stamps.mark("pages ahead");
    let vcpus = machine.run(vcpus)?;
    seccomp::confine(seccomp::Thread::Main).map_err(StartError::Confine)?;
    stamps.mark("vcpus");
    Ok(Running {
        clock_behind,
        writes,
        ..Running::new(machine, devices, vcpus, vm, cpuid, saving, file_memory)
    })
}

/// Adds the disks a VM with so many bytes of memory has from the start.
fn add_disks(
    disks: DiskParts,
    memory: u64,
    vm: &VmFd,
    machine: &Machine,
    devices: &mut Devices,
) -> Result<Option<FileMemory>, StartError> {
    for disk in disks.block {
        devices.add_disk(machine, disk)?;
    }
    let Some(files) = disks.persistent_memory.map(FileMemory::map).transpose()? else { return Ok(None) };
    add_persistent_memory(files, memory, vm, machine, devices).map(|(files, _)| Some(files))
}

/// Puts back what a saved VM had beside the devices every VM has: in the order of the slots, by which each gets its own
/// again.
fn put_back(
    saved: &SavedVm,
    disks: &mut DiskParts,
    vm: &VmFd,
    machine: &Machine,
    devices: &mut Devices,
) -> Result<Option<FileMemory>, StartError> {
    let mut file_memory = None;
    for SavedSeat { slot, device } in &saved.seats {
        let put = match device {
            SavedDevice::Disk { serial, is_place } => {
                devices.put_back_disk(machine, serial, *is_place, &mut disks.block)?
            }
            SavedDevice::PersistentMemory { length, filled } => {
                let files = files_again(*length, *filled, disks.persistent_memory.take())?;
                let (files, put) = add_persistent_memory(files, saved.shape.memory, vm, machine, devices)?;
                file_memory = Some(files);
                put
            }
            SavedDevice::Net { name, pairs, mac } => {
                let shape = NetShape { pairs: *pairs, mac: *mac };
                devices.nets.add_place(machine, name.clone(), shape)?
            }
            SavedDevice::Share { tag } => devices.add_share_place(machine, tag.clone())?,
        };
        if put.number() != *slot {
            return Err(StartError::OtherSlot(*slot));
        }
    }
    Ok(file_memory)
}

/// The same files as before, or any where there was an empty place.
fn files_again(length: u64, filled: u64, files: Option<Vec<OwnedFd>>) -> Result<FileMemory, StartError> {
    let files = FileMemory::in_place(length, files.unwrap_or_default())?;
    if filled != 0 && filled != files.filled() { Err(StartError::OtherImage) } else { Ok(files) }
}

fn add_persistent_memory(
    files: FileMemory,
    memory: u64,
    vm: &VmFd,
    machine: &Machine,
    devices: &mut Devices,
) -> Result<(FileMemory, Slot), StartError> {
    let address = layout::persistent_memory(memory);
    vm::set_file_memory(vm, &files, address)?;
    let slot = devices.add_persistent_memory(machine, address..address + files.length())?;
    Ok((files, slot))
}

impl Running {
    /// Adds the place of something that comes later.
    pub fn add_place(&mut self, place: Place) -> Result<(), StartError> {
        let Self { machine, devices, vm, .. } = self;
        match place {
            Place::Block { serial } => drop(devices.add_place(machine, serial)?),
            Place::PersistentMemory { length } => {
                let empty = FileMemory::in_place(length, Vec::new())?;
                let (files, _) = add_persistent_memory(empty, self.saving.memory, vm, machine, devices)?;
                self.file_memory = Some(files);
            }
            Place::Net { name, queues } => {
                let shape = NetShape { pairs: queues, mac: PLACE_MAC };
                devices.nets.add_place(machine, name, shape)?;
            }
            Place::Share { tag } => drop(devices.add_share_place(machine, tag)?),
        }
        Ok(())
    }

    fn new(
        machine: Machine,
        devices: Devices,
        vcpus: RunningVcpus,
        vm: Arc<VmFd>,
        cpuid: Cpuid,
        saving: Saving,
        file_memory: Option<FileMemory>,
    ) -> Self {
        let (standing, copying, resizing) = (None, None, None);
        let vcpus = Some(vcpus);
        Self {
            machine,
            devices,
            vcpus,
            vm,
            cpuid,
            saving,
            standing,
            copying,
            resizing,
            file_memory,
            writes: Writes::NotLogged,
            clock_behind: 0,
        }
    }

    /// Takes the vCPUs out of the guest for good.
    pub fn stop_vcpus(&mut self) {
        if let Some(vcpus) = self.vcpus.take() {
            vcpus.stop();
        }
    }

    /// Nothing of the guest runs any more.
    pub fn stop(&mut self) {
        // A copy that is not done by now is none. Devices' threads end only when they are not held.
        drop((self.copying.take(), self.standing.take()));
        self.stop_vcpus();
    }
}

impl From<&StartError> for EndReason {
    fn from(error: &StartError) -> Self {
        Self::Launch { message: in_words(error as &dyn Error) }
    }
}
