//! A VM's start, from its description to running vCPUs, as one recipe.

use std::error::Error;
use std::sync::Arc;

use kvm_ioctls::{Kvm, VmFd};
use vmm_api::{ControlSocket, EndReason};

use crate::arch::boot::{self, BootError};
use crate::arch::cpuid::{Cpuid, CpuidError};
use crate::arch::layout;
use crate::devices::{DeviceError, Devices};
use crate::ending::Ending;
use crate::error_chain::in_words;
use crate::file_memory::{FileMemory, FileMemoryError};
use crate::jail::{self, JailError, seccomp};
use crate::launch::Parts;
use crate::machine::{Machine, MachineError};
use crate::memory::{self, MemoryError};
use crate::stamps::Stamps;
use crate::vcpu::{self, RunningVcpus, VcpuError};
use crate::vm::{self, VmError};

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
    Vcpu(#[from] VcpuError),
    #[error("the main thread's system calls cannot be confined: {0}")]
    Confine(EndReason),
    #[error("cannot make an event")]
    Ending(#[source] std::io::Error),
}

/// A VM that runs.
pub struct Running {
    pub machine: Machine,
    pub devices: Devices,
    pub vcpus: RunningVcpus,
    _vm: Arc<VmFd>,
    _file_memory: Option<FileMemory>,
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

    let memory = memory::allocate(parts.memory)?;
    vm::set_memory(&vm, &memory)?;
    let file_memory = parts.persistent_memory.take().map(FileMemory::map).transpose()?;
    let file_memory_at = layout::persistent_memory(parts.memory);
    if let Some(files) = &file_memory {
        vm::set_file_memory(&vm, &memory, files, file_memory_at)?;
    }
    stamps.mark("memory");

    let entry = boot::load(&memory, parts.memory, parts.vcpus, &mut parts.boot)?;
    stamps.mark("kernel");

    let ending = Arc::new(Ending::new().map_err(StartError::Ending)?);
    let machine = Machine::new(&vm, memory, ending)?;
    let mut devices = Devices::attach(&machine, parts.disks, Arc::clone(control))?;
    if let Some(files) = &file_memory {
        devices.add_persistent_memory(&machine, file_memory_at..file_memory_at + files.length())?;
    }
    stamps.mark("devices");

    let cpuid = Cpuid::new(&kvm, parts.vcpus)?;
    let vcpus = vcpu::create(&vm, &cpuid, parts.vcpus, entry)?;
    let vcpus = machine.run(vcpus)?;
    seccomp::confine(seccomp::Thread::Main).map_err(StartError::Confine)?;
    stamps.mark("vcpus");
    Ok(Running { machine, devices, vcpus, _vm: vm, _file_memory: file_memory })
}

impl Running {
    /// Takes the vCPUs out of the guest; nothing of it runs any more.
    pub fn stop(self) -> Machine {
        self.vcpus.stop();
        self.machine
    }
}

impl From<&StartError> for EndReason {
    fn from(error: &StartError) -> Self {
        Self::Launch { message: in_words(error as &dyn Error) }
    }
}
