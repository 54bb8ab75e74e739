//! The vCPUs: a thread each that enters the guest and serves what makes it leave.

mod exits;
mod immediate_exit;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use kvm_bindings::{CpuId, KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use vmm_api::EndReason;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::arch::cpuid::Cpuid;
use crate::arch::registers::{self, RegistersError};
use crate::arch::state::{StateError, VcpuState, put_out_of_step};
use crate::bus::Bus;
use crate::ending::Ending;
pub use exits::ExitCounts;
use immediate_exit::ImmediateExit;

#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    #[error("KVM cannot create vCPU {0}")]
    Create(u8, #[source] kvm_ioctls::Error),
    #[error("KVM does not take vCPU {0}'s CPUID")]
    Cpuid(u8, #[source] kvm_ioctls::Error),
    #[error("vCPU {0} cannot be prepared for the kernel's entry")]
    Registers(u8, #[source] RegistersError),
    #[error("KVM does not take vCPU {0}'s local APIC")]
    LocalApic(u8, #[source] kvm_ioctls::Error),
    #[error("vCPU {0} cannot go on from its saved state")]
    Restore(u8, #[source] StateError),
    #[error("vCPU {0}'s thread cannot be set up")]
    Thread(u8, #[source] io::Error),
}

/// What a vCPU reaches on its way out of the guest.
#[derive(Clone)]
pub struct Surroundings {
    pub ports: Arc<Bus>,
    pub mmio: Arc<Bus>,
    pub ending: Arc<Ending>,
    pub exits: Arc<ExitCounts>,
}

/// A vCPU that is ready and does not run yet.
pub struct Vcpu {
    index: u8,
    fd: VcpuFd,
}

/// Creates the vCPUs of a VM that boots. The first enters the kernel at `entry`.
pub fn create(vm: &VmFd, cpuid: &Cpuid, count: u8, entry: u64) -> Result<Vec<Vcpu>, VcpuError> {
    (0..count).map(|index| create_one(vm, cpuid, index, (index == 0).then_some(entry))).collect()
}

/// Creates a vCPU for a VM that runs.
pub fn create_late(vm: &VmFd, cpuid: &Cpuid, index: u8) -> Result<Vcpu, VcpuError> {
    let vcpu = create_one(vm, cpuid, index, None)?;
    // KVM looks interrupts' targets up in a map that it made before this vCPU was one of the VM's. A write of the local
    // APIC's state has it made anew (arch/x86/kvm/lapic.c, kvm_apic_set_state); at a boot the guest's own writes do.
    let found = vcpu.fd.get_lapic().and_then(|apic| vcpu.fd.set_lapic(&apic));
    found.map_err(|error| VcpuError::LocalApic(index, error))?;
    Ok(vcpu)
}

/// Creates a vCPU; without an `entry` it waits for another one's INIT and SIPI. Its time-stamp counter is that of those that run:
/// KVM sees to that (arch/x86/kvm/x86.c, kvm_synchronize_tsc).
fn create_one(vm: &VmFd, cpuid: &Cpuid, index: u8, entry: Option<u64>) -> Result<Vcpu, VcpuError> {
    let fd = vm.create_vcpu(index.into()).map_err(|error| VcpuError::Create(index, error))?;
    let cpuid = cpuid.of_vcpu(index);
    fd.set_cpuid2(&cpuid).map_err(|error| VcpuError::Cpuid(index, error))?;
    prepare(&fd, &cpuid, entry).map_err(|error| VcpuError::Registers(index, error))?;
    Ok(Vcpu { index, fd })
}

/// Creates vCPUs that are to go on from where saved ones were.
pub fn create_to_restore(vm: &VmFd, count: usize) -> Result<Vec<Vcpu>, VcpuError> {
    let create = |index: u8| {
        let fd = vm.create_vcpu(index.into()).map_err(|error| VcpuError::Create(index, error))?;
        Ok(Vcpu { index, fd })
    };
    (0u8..=u8::MAX).take(count).map(create).collect()
}

/// Puts the saved states into them.
pub fn restore(vcpus: &[Vcpu], states: &[VcpuState]) -> Result<(), VcpuError> {
    let of_vcpu = |index: u8| move |error| VcpuError::Restore(index, error);
    if let Some((Vcpu { index, fd }, state)) = vcpus.iter().zip(states).next() {
        put_out_of_step(fd, state).map_err(of_vcpu(*index))?;
    }
    for (Vcpu { index, fd }, state) in vcpus.iter().zip(states) {
        state.put_into(fd).map_err(of_vcpu(*index))?;
    }
    Ok(())
}

impl Vcpu {
    pub fn descriptor(&self) -> &VcpuFd {
        &self.fd
    }

    /// Of one that has been taken out of the guest.
    pub fn state(&self, msrs: &[u32]) -> Result<VcpuState, StateError> {
        VcpuState::of(&self.fd, msrs)
    }
}

fn prepare(fd: &VcpuFd, cpuid: &CpuId, entry: Option<u64>) -> Result<(), RegistersError> {
    registers::enable_states(fd, cpuid)?;
    registers::set_msrs(fd)?;
    entry.map_or(Ok(()), |entry| registers::enter_pvh(fd, entry))
}

/// The vCPUs' threads. They end when told to, not when this is dropped.
pub struct RunningVcpus {
    threads: Vec<Thread>,
    stopping: Arc<AtomicBool>,
}

struct Thread {
    thread: JoinHandle<()>,
    immediate_exit: ImmediateExit,
    /// The vCPU, whenever it is out of the guest to stay there until it is given back.
    taken_out: Receiver<Vcpu>,
    give_back: Sender<Vcpu>,
}

impl RunningVcpus {
    /// Runs the vCPUs. `confine` is the first thing each thread does; if it fails the VM ends.
    pub fn start(
        vcpus: Vec<Vcpu>,
        surroundings: &Surroundings,
        confine: fn() -> Result<(), EndReason>,
    ) -> Result<Self, VcpuError> {
        ignore_kicks().map_err(|error| VcpuError::Thread(0, error))?;
        let mut running = Self { threads: Vec::new(), stopping: Arc::default() };
        for vcpu in vcpus {
            if let Err(error) = running.add(vcpu, surroundings.clone(), confine) {
                running.stop();
                return Err(error);
            }
        }
        Ok(running)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Runs one more, which has the next index, as [`start`](Self::start) does.
    pub fn add(
        &mut self,
        vcpu: Vcpu,
        surroundings: Surroundings,
        confine: fn() -> Result<(), EndReason>,
    ) -> Result<(), VcpuError> {
        let index = vcpu.index;
        self.start_one(vcpu, surroundings, confine).map_err(|error| VcpuError::Thread(index, error))
    }

    fn start_one(
        &mut self,
        mut vcpu: Vcpu,
        surroundings: Surroundings,
        confine: fn() -> Result<(), EndReason>,
    ) -> io::Result<()> {
        let immediate_exit = ImmediateExit::of(&vcpu.fd)?;
        let stopping = Arc::clone(&self.stopping);
        let (take_out, taken_out) = channel();
        let (give_back, given_back) = channel();
        let thread = std::thread::Builder::new().name(format!("vcpu{}", vcpu.index)).spawn(move || {
            if let Err(reason) = confine() {
                return surroundings.ending.end(reason);
            }
            loop {
                run(&mut vcpu.fd, &surroundings, &stopping);
                // Either fails where the vCPU is to run no more.
                let Ok(()) = take_out.send(vcpu) else { return };
                let Ok(back) = given_back.recv() else { return };
                vcpu = back;
            }
        })?;
        self.threads.push(Thread { thread, immediate_exit, taken_out, give_back });
        Ok(())
    }

    /// Takes every vCPU out of the guest, its last exit completed. One whose thread could not run it is missing.
    pub fn hold(&self) -> Vec<Vcpu> {
        self.stopping.store(true, Ordering::SeqCst);
        for Thread { thread, immediate_exit, .. } in &self.threads {
            // A thread before KVM_RUN sees the flag, one within it gets the signal.
            immediate_exit.set();
            // Fails only for a thread that is gone.
            let _ = thread.kill(SIGRTMIN());
        }
        self.threads.iter().filter_map(|thread| thread.taken_out.recv().ok()).collect()
    }

    /// Lets vCPUs that were held run again.
    pub fn go_on(&self, vcpus: Vec<Vcpu>) {
        self.stopping.store(false, Ordering::SeqCst);
        for vcpu in vcpus {
            if let Some(thread) = self.threads.get(usize::from(vcpu.index)) {
                // A thread that is gone has ended the VM.
                let _ = thread.give_back.send(vcpu);
            }
        }
    }

    /// Takes every vCPU out of the guest, and waits until its thread is gone.
    pub fn stop(self) {
        // A vCPU that is held already is not waited for.
        self.stopping.store(true, Ordering::SeqCst);
        for Thread { thread, immediate_exit, taken_out, give_back } in self.threads {
            immediate_exit.set();
            let _ = thread.kill(SIGRTMIN());
            drop((taken_out, give_back));
            let _ = thread.join();
        }
    }
}

/// The signal's only work is to interrupt KVM_RUN.
fn ignore_kicks() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    Ok(register_signal_handler(SIGRTMIN(), nothing)?)
}

fn run(fd: &mut VcpuFd, surroundings: &Surroundings, stopping: &AtomicBool) {
    fd.set_kvm_immediate_exit(0);
    // Whoever wants the vCPU out sets `stopping` first, and then what was cleared here.
    fence(Ordering::SeqCst);
    while !stopping.load(Ordering::SeqCst) {
        if run_once(fd, surroundings) == Left::ForGood {
            return;
        }
    }
    // What the guest reads by an exit gets into its registers when it is next entered, which `immediate_exit` makes a
    // matter of that alone (Linux Documentation/virt/kvm/api.rst §5, KVM_EXIT_MMIO). An access in several parts has an
    // exit for each.
    fd.set_kvm_immediate_exit(1);
    while run_once(fd, surroundings) == Left::ForAMoment {}
}

/// How a vCPU left the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    ForAMoment,
    /// It did not get there.
    Interrupted,
    /// A guest that switched itself off, for one, runs no further.
    ForGood,
}

/// Enters the guest and serves one exit.
fn run_once(fd: &mut VcpuFd, to: &Surroundings) -> Left {
    let left = match serve_exit(fd, to) {
        Ok(left) => left,
        Err(reason) => {
            to.ending.end(reason);
            Left::ForGood
        }
    };
    if to.ending.reason().is_some() { Left::ForGood } else { left }
}

/// An error is why the VM ends. A string instruction's exit comes as one access longer than 8 bytes, which finds no
/// device.
fn serve_exit(fd: &mut VcpuFd, to: &Surroundings) -> Result<Left, EndReason> {
    match fd.run() {
        Ok(VcpuExit::IoIn(port, data)) => {
            to.exits.io();
            to.ports.read(port.into(), data);
        }
        Ok(VcpuExit::IoOut(port, data)) => {
            to.exits.io();
            to.ports.write(port.into(), data);
        }
        Ok(VcpuExit::MmioRead(address, data)) => {
            to.exits.mmio();
            to.mmio.read(address, data);
        }
        Ok(VcpuExit::MmioWrite(address, data)) => {
            to.exits.mmio();
            to.mmio.write(address, data);
        }
        Ok(VcpuExit::Shutdown) => return Err(EndReason::TripleFault),
        Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => return Err(EndReason::PowerOff),
        Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => return Err(EndReason::Reboot),
        Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _)) => return Err(EndReason::Panic),
        Ok(VcpuExit::FailEntry(reason, cpu)) => {
            let detail = format!("the CPU refused to enter the guest, reason {reason:#x}, on host CPU {cpu}");
            return Err(EndReason::KvmInternalError { detail });
        }
        Ok(VcpuExit::InternalError) => {
            return Err(EndReason::KvmInternalError { detail: internal_error(fd) });
        }
        // With KVM's own local APIC nothing of user space is needed to halt or to deliver an interrupt.
        Ok(VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::Hlt) => to.exits.other(),
        Ok(exit) => {
            let detail = format!("an exit to user space it should not make: {exit:?}");
            return Err(EndReason::KvmInternalError { detail });
        }
        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
            to.exits.interrupted();
            return Ok(Left::Interrupted);
        }
        Err(error) => {
            return Err(EndReason::KvmInternalError { detail: format!("KVM_RUN failed: {error}") });
        }
    }
    Ok(Left::ForAMoment)
}

/// KVM's sub-error, and where the guest was: with an emulation error that is most of the story.
fn internal_error(fd: &mut VcpuFd) -> String {
    let rip = fd.get_regs().map(|registers| registers.rip).unwrap_or_default();
    // SAFETY: KVM_EXIT_INTERNAL_ERROR is the exit that fills this member of the union.
    let suberror = unsafe { fd.get_kvm_run().__bindgen_anon_1.internal.suberror };
    let kind = match suberror {
        1 => "an instruction it cannot emulate",
        2 => "an unexpected simultaneous exception",
        3 => "an exit during event delivery",
        4 => "an exit of unknown reason",
        _ => "an error of unknown kind",
    };
    format!("{kind} (suberror {suberror}) at rip {rip:#x}")
}
