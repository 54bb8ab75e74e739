//! The machine, put together: buses, platform devices, PCI and virtio devices, and the vCPUs that run on it.

use std::sync::Arc;

use kvm_ioctls::VmFd;
use vmm_api::{End, EndReason};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::arch::{layout, mp_table};
use crate::bus::{Bus, Overlap};
use crate::ending::Ending;
use crate::jail::seccomp;
use crate::memory::Memory;
use crate::pci::{AddError, PciBus};
use crate::platform::console::{COM1, COM1_PORTS, Console, ConsoleState};
use crate::platform::pvpanic::Pvpanic;
use crate::platform::reset::{
    CONFIG_PORTS, CONFIG_PORTS_LENGTH, KEYBOARD_CONTROLLER, KeyboardController, ResetControl,
};
use crate::vcpu::{ExitCounts, RunningVcpus, Surroundings, Vcpu, VcpuError};
use crate::vm::KvmMsiRouter;

#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("cannot place a platform device")]
    Place(#[from] Overlap),
    #[error("cannot set up the serial port's interrupt")]
    SerialInterrupt(#[source] std::io::Error),
    #[error("a saved serial port makes no sense")]
    Console(#[source] std::io::Error),
    #[error("cannot set up the PCI bus")]
    Pci(#[from] AddError),
}

/// A machine without vCPUs.
pub struct Machine {
    pub pci: Arc<PciBus>,
    pub console: Arc<Console>,
    pub ending: Arc<Ending>,
    exits: Arc<ExitCounts>,
    ports: Arc<Bus>,
    mmio: Arc<Bus>,
    /// Mapped for as long as the vCPUs run.
    pub memory: Memory,
}

impl Machine {
    /// Every machine's own devices: console, reset, PCI bus with pvpanic. The console goes on from a saved one's state.
    pub fn new(
        vm: &Arc<VmFd>,
        memory: Memory,
        ending: Arc<Ending>,
        console: Option<&ConsoleState>,
    ) -> Result<Self, MachineError> {
        let (ports, mmio) = (Arc::new(Bus::default()), Arc::new(Bus::default()));
        let msi = Arc::new(KvmMsiRouter::new(Arc::clone(vm)));
        let pci = PciBus::new(Arc::clone(&mmio), Arc::clone(vm) as _, msi, layout::PCI_WINDOW)?;
        pci.add(Box::new(Pvpanic::new(Arc::clone(&ending))))?;
        let interrupt = serial_interrupt(vm).map_err(MachineError::SerialInterrupt)?;
        let console = Arc::new(match console {
            Some(state) => Console::restored(interrupt, state).map_err(MachineError::Console)?,
            None => Console::new(interrupt),
        });

        ports.insert(COM1, COM1_PORTS, Arc::clone(&console) as _)?;
        ports.insert(KEYBOARD_CONTROLLER, 1, Arc::new(KeyboardController::new(Arc::clone(&ending))))?;
        let config_ports = ResetControl::new(pci.config_ports(), Arc::clone(&ending));
        ports.insert(CONFIG_PORTS, CONFIG_PORTS_LENGTH, Arc::new(config_ports))?;
        Ok(Self { pci, console, ending, exits: Arc::default(), ports, mmio, memory })
    }

    /// Lets the guest run.
    pub fn run(&self, vcpus: Vec<Vcpu>) -> Result<RunningVcpus, VcpuError> {
        RunningVcpus::start(vcpus, &self.surroundings(), confine_vcpu)
    }

    /// Lets it run on one more vCPU.
    pub fn run_also(&self, vcpu: Vcpu, beside: &mut RunningVcpus) -> Result<(), VcpuError> {
        beside.add(vcpu, self.surroundings(), confine_vcpu)
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            ports: Arc::clone(&self.ports),
            mmio: Arc::clone(&self.mmio),
            ending: Arc::clone(&self.ending),
            exits: Arc::clone(&self.exits),
        }
    }

    /// What there is to say when it has ended.
    pub fn end(&self, reason: EndReason) -> End {
        End { reason, console: self.console.tail(), exits: self.exits.by_kind() }
    }
}

fn confine_vcpu() -> Result<(), EndReason> {
    seccomp::confine(seccomp::Thread::Vcpu)
}

fn serial_interrupt(vm: &VmFd) -> std::io::Result<EventFd> {
    let interrupt = EventFd::new(EFD_NONBLOCK)?;
    vm.register_irqfd(&interrupt, mp_table::SERIAL_INTERRUPT.into())?;
    Ok(interrupt)
}
