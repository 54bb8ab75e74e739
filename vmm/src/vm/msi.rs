//! Message-signalled interrupts: each vector is a GSI of its own, raised by an irqfd and led to its CPU by
//! KVM's routing table.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KvmIrqRouting, kvm_irq_routing_entry,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::interrupt::{MsiMessage, MsiRouter, MsiVector};

/// The I/O APIC's inputs are the first GSIs.
const IO_APIC_PINS: u32 = 24;
/// KVM routes so many GSIs (KVM_CAP_IRQ_ROUTING on x86).
const GSIS: u32 = 4096;

/// Gives out the GSIs behind the I/O APIC's and keeps their routes.
pub struct KvmMsiRouter {
    table: Arc<Table>,
}

struct Table {
    vm: Arc<VmFd>,
    /// Every GSI given out; the message once it has one.
    routes: Mutex<BTreeMap<u32, Option<MsiMessage>>>,
}

struct Vector {
    gsi: u32,
    event: Arc<EventFd>,
    masked: AtomicBool,
    /// Others write to the event, too.
    lent: AtomicBool,
    table: Arc<Table>,
}

impl KvmMsiRouter {
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self { table: Arc::new(Table { vm, routes: Mutex::default() }) }
    }
}

impl MsiRouter for KvmMsiRouter {
    fn allocate(&self) -> io::Result<Box<dyn MsiVector>> {
        let event = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let gsi = self.table.take_gsi()?;
        let (masked, lent) = (AtomicBool::new(true), AtomicBool::new(false));
        let vector = Vector { gsi, event, masked, lent, table: Arc::clone(&self.table) };
        // Without a route KVM drops what the irqfd raises.
        vector.connect()?;
        Ok(Box::new(vector))
    }
}

impl MsiVector for Vector {
    /// A masked vector keeps its route in KVM, for a driver masks and unmasks the same message often and
    /// each change of the table is dear.
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()> {
        if let Some(message) = message {
            self.table.route(self.gsi, message)?;
        }
        let is_masked = message.is_none();
        let was_masked = self.masked.swap(is_masked, Ordering::AcqRel);
        match self.lent.load(Ordering::Relaxed) && was_masked != is_masked {
            true if is_masked => self.disconnect(),
            true => self.connect(),
            false => Ok(()),
        }
    }

    fn raise(&self) -> io::Result<()> {
        if self.masked.load(Ordering::Acquire) { Ok(()) } else { self.event.write(1) }
    }

    fn event(&self) -> io::Result<Arc<EventFd>> {
        if !self.lent.swap(true, Ordering::Relaxed) && self.masked.load(Ordering::Acquire) {
            self.disconnect()?;
        }
        Ok(Arc::clone(&self.event))
    }
}

impl Vector {
    /// The event raises the interrupt, at once if it was written to meanwhile.
    fn connect(&self) -> io::Result<()> {
        Ok(self.table.vm.register_irqfd(&self.event, self.gsi)?)
    }

    /// The event counts what is written to it.
    fn disconnect(&self) -> io::Result<()> {
        Ok(self.table.vm.unregister_irqfd(&self.event, self.gsi)?)
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        // Fails only for a vector that is not registered. The stale route goes with the next change.
        let _ = self.disconnect();
        self.table.lock().remove(&self.gsi);
    }
}

impl Table {
    fn take_gsi(&self) -> io::Result<u32> {
        let mut routes = self.lock();
        let free = (IO_APIC_PINS..GSIS).find(|gsi| !routes.contains_key(gsi));
        let gsi = free.ok_or_else(|| io::Error::other("all interrupt vectors are in use"))?;
        routes.insert(gsi, None);
        Ok(gsi)
    }

    fn route(&self, gsi: u32, message: MsiMessage) -> io::Result<()> {
        let mut routes = self.lock();
        if routes.get(&gsi) == Some(&Some(message)) {
            return Ok(());
        }
        routes.insert(gsi, Some(message));
        let entries: Vec<_> = (0..IO_APIC_PINS)
            .map(io_apic_entry)
            .chain(routes.iter().filter_map(|(gsi, message)| Some(msi_entry(*gsi, (*message)?))))
            .collect();
        let table = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| io::Error::other("the interrupt routing table is full"))?;
        Ok(self.vm.set_gsi_routing(&table)?)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Option<MsiMessage>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn io_apic_entry(pin: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry { gsi: pin, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    entry.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
    entry.u.irqchip.pin = pin;
    entry
}

fn msi_entry(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let [a, b, c, d, e, f, g, h] = message.address.to_le_bytes();
    let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi.address_lo = u32::from_le_bytes([a, b, c, d]);
    entry.u.msi.address_hi = u32::from_le_bytes([e, f, g, h]);
    entry.u.msi.data = message.data;
    entry
}
