//! A hypervisor for tests: doorbells are rung and interrupts are collected by hand.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::interrupt::{Doorbells, MsiMessage, MsiRouter, MsiVector};

/// A device that does not answer for so long never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often is looked for what others than this process have raised.
const GLANCE: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(crate) struct MockHypervisor {
    doorbells: Mutex<BTreeMap<u64, EventFd>>,
    interrupts: Arc<Interrupts>,
}

#[derive(Default)]
struct Interrupts {
    delivered: Mutex<Vec<MsiMessage>>,
    changed: Condvar,
    /// Others than this process may write to them, and nobody says when.
    vectors: Mutex<Vec<Arc<Wire>>>,
}

/// What raises one vector.
struct Wire {
    event: Arc<EventFd>,
    route: Mutex<Option<MsiMessage>>,
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
        self.wait(|| Some(self.take_interrupts()).filter(|interrupts| !interrupts.is_empty()))
    }

    /// Looks for something after each interrupt, until there is something.
    pub(crate) fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.interrupts.collect();
            if let Some(found) = look() {
                return found;
            }
            let delivered = self.interrupts.delivered.lock().unwrap();
            drop(self.interrupts.changed.wait_timeout(delivered, GLANCE).unwrap());
            assert!(Instant::now() < deadline, "no interrupt");
        }
    }
}

impl Interrupts {
    fn deliver(&self, route: Option<MsiMessage>) {
        if let Some(message) = route {
            self.delivered.lock().unwrap().push(message);
            self.changed.notify_all();
        }
    }

    fn collect(&self) {
        for wire in self.vectors.lock().unwrap().iter() {
            if wire.event.read().is_ok() {
                self.deliver(*wire.route.lock().unwrap());
            }
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
        let event = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let wire = Arc::new(Wire { event, route: Mutex::new(None) });
        self.interrupts.vectors.lock().unwrap().push(Arc::clone(&wire));
        Ok(Box::new(Vector { wire, interrupts: Arc::clone(&self.interrupts) }))
    }
}

struct Vector {
    wire: Arc<Wire>,
    interrupts: Arc<Interrupts>,
}

impl MsiVector for Vector {
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()> {
        *self.wire.route.lock().unwrap() = message;
        Ok(())
    }

    fn raise(&self) -> io::Result<()> {
        self.interrupts.deliver(*self.wire.route.lock().unwrap());
        Ok(())
    }

    fn event(&self) -> io::Result<Arc<EventFd>> {
        Ok(Arc::clone(&self.wire.event))
    }
}
