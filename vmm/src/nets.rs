//! The network interfaces of a machine, which come and go: as devices, or as taps in devices that are there already.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::devices::seat;
use crate::jail::seccomp;
use crate::launch::NetPart;
use crate::machine::Machine;
use crate::pci::{AddError, Slot};
use crate::saved::{SavedDevice, SavedSeat};
use crate::virtio::net::{FarSide, FillError, Net, NetHandle};
use crate::virtio::queue_thread::ThreadPlan;

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("there is a network interface {0} already")]
    Exists(String),
    #[error("there is no network interface {0}")]
    None(String),
    #[error("the place of network interface {name} has {has} pairs of queues, and the tap more")]
    Queues { name: String, has: u8 },
    #[error("cannot start the device of network interface {0}")]
    Start(String, #[source] io::Error),
    #[error("cannot use the tap of network interface {0}")]
    Fill(String, #[source] FillError),
    #[error("cannot place a network device on the PCI bus")]
    Pci(#[from] AddError),
}

#[derive(Default)]
pub struct Nets(BTreeMap<String, Seat>);

struct Seat {
    slot: Slot,
    shape: NetShape,
    handle: NetHandle,
    /// Stays when its tap goes.
    is_place: bool,
    is_filled: bool,
}

/// What the guest sees of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetShape {
    /// Pairs of queues.
    pub pairs: u8,
    pub mac: [u8; 6],
}

impl Nets {
    /// A device without a tap.
    pub fn add_place(&mut self, machine: &Machine, name: String, shape: NetShape) -> Result<Slot, NetError> {
        self.seat(machine, name, shape, true).map(|seat| seat.slot)
    }

    /// Fills the place of this name, or adds a device, which the guest sees when it rescans its bus.
    pub fn add(&mut self, machine: &Machine, net: NetPart) -> Result<(), NetError> {
        let NetPart { name, shape, far_side } = net;
        match self.0.get_mut(&name) {
            Some(seat) if seat.is_filled => Err(NetError::Exists(name)),
            Some(seat) if seat.shape.pairs < shape.pairs => {
                Err(NetError::Queues { name, has: seat.shape.pairs })
            }
            Some(seat) => seat.fill(&name, far_side),
            None => {
                let filled = self.seat(machine, name.clone(), shape, false)?.fill(&name, far_side);
                if filled.is_err() {
                    self.take_off(machine, &name);
                }
                filled
            }
        }
    }

    pub fn remove(&mut self, machine: &Machine, name: &str) -> Result<(), NetError> {
        match self.0.get_mut(name) {
            Some(seat) if seat.is_place => seat.empty(),
            Some(_) => self.take_off(machine, name),
            None => return Err(NetError::None(name.to_owned())),
        }
        Ok(())
    }

    pub fn saved_seats(&self) -> impl Iterator<Item = SavedSeat> {
        self.0.iter().map(|(name, seat)| SavedSeat {
            slot: seat.slot.number(),
            device: SavedDevice::Net { name: name.clone(), pairs: seat.shape.pairs, mac: seat.shape.mac },
        })
    }

    fn seat(
        &mut self,
        machine: &Machine,
        name: String,
        shape: NetShape,
        is_place: bool,
    ) -> Result<&mut Seat, NetError> {
        if self.0.contains_key(&name) {
            return Err(NetError::Exists(name));
        }
        let plan = ThreadPlan {
            name: "net".to_owned(),
            confine: || seccomp::confine(seccomp::Thread::Net),
            ending: Arc::clone(&machine.ending),
        };
        let (net, handle) =
            Net::new(shape.mac, shape.pairs, plan).map_err(|error| NetError::Start(name.clone(), error))?;
        let slot = seat(machine, Box::new(net))?;
        Ok(self.0.entry(name).or_insert(Seat { slot, shape, handle, is_place, is_filled: false }))
    }

    fn take_off(&mut self, machine: &Machine, name: &str) {
        if let Some(seat) = self.0.remove(name) {
            machine.pci.remove(seat.slot);
        }
    }
}

impl Seat {
    fn fill(&mut self, name: &str, far_side: FarSide) -> Result<(), NetError> {
        self.handle.fill(far_side).map_err(|error| NetError::Fill(name.to_owned(), error))?;
        self.is_filled = true;
        Ok(())
    }

    fn empty(&mut self) {
        self.handle.empty();
        self.is_filled = false;
    }
}
