//! A hypervisor for tests: doorbells are rung and interrupts are collected by hand.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::interrupt::{Doorbells, MsiMessage, MsiRouter, MsiVector};

/// A device that does not answer for so long never will.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(crate) struct MockHypervisor {
    doorbells: Mutex<BTreeMap<u64, EventFd>>,
    interrupts: Arc<Interrupts>,
}

#[derive(Default)]
struct Interrupts {
    delivered: Mutex<Vec<MsiMessage>>,
    changed: Condvar,
}

impl MockHypervisor {
    /// What a guest's write to an address does; whether a doorbell was there.
    pub(crate) fn ring(&self, address: u64) -> bool {
        self.doorbells.lock().unwrap().get(&address).map(|event| event.write(1).unwrap()).is_some()
    }

    pub(crate) fn doorbell_addresses(&self) -> Vec<u64> {
        self.doorbells.lock().unwrap().keys().copied().collect()
    }

    /// Takes the interrupts delivered since the last time.
    pub(crate) fn take_interrupts(&self) -> Vec<MsiMessage> {
        std::mem::take(&mut self.interrupts.delivered.lock().unwrap())
    }

    /// Takes interrupts as `take_interrupts`, once there is one.
    pub(crate) fn wait_interrupts(&self) -> Vec<MsiMessage> {
        let delivered = self.interrupts.delivered.lock().unwrap();
        let (mut delivered, timeout) = self
            .interrupts
            .changed
            .wait_timeout_while(delivered, PATIENCE, |delivered| delivered.is_empty())
            .unwrap();
        assert!(!timeout.timed_out(), "no interrupt");
        std::mem::take(&mut delivered)
    }

    /// Looks for something after each interrupt, until there is something.
    pub(crate) fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut delivered = self.interrupts.delivered.lock().unwrap();
        loop {
            if let Some(found) = look() {
                return found;
            }
            let (guard, timeout) = self.interrupts.changed.wait_timeout(delivered, PATIENCE).unwrap();
            assert!(!timeout.timed_out(), "no interrupt");
            delivered = guard;
        }
    }
}

impl Doorbells for MockHypervisor {
    fn attach(&self, address: u64, event: &EventFd) -> io::Result<()> {
        assert!(self.doorbells.lock().unwrap().insert(address, event.try_clone()?).is_none());
        Ok(())
    }

    fn detach(&self, address: u64, _event: &EventFd) -> io::Result<()> {
        assert!(self.doorbells.lock().unwrap().remove(&address).is_some());
        Ok(())
    }
}

impl MsiRouter for MockHypervisor {
    fn allocate(&self) -> io::Result<Box<dyn MsiVector>> {
        Ok(Box::new(Vector { route: Mutex::new(None), interrupts: Arc::clone(&self.interrupts) }))
    }
}

struct Vector {
    route: Mutex<Option<MsiMessage>>,
    interrupts: Arc<Interrupts>,
}

impl MsiVector for Vector {
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()> {
        *self.route.lock().unwrap() = message;
        Ok(())
    }

    fn raise(&self) -> io::Result<()> {
        if let Some(message) = *self.route.lock().unwrap() {
            self.interrupts.delivered.lock().unwrap().push(message);
            self.interrupts.changed.notify_all();
        }
        Ok(())
    }
}
