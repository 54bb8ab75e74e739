//! What there is to work with while the guest's driver is ready: its queues, in pairs, and the control queue.

use std::io;
use std::sync::Arc;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::handle::FillError;
use super::pair::{Limits, Pair, Turn};
use super::pieces::Pieces;
use super::port::{self, Port};
use super::receive::Receiver;
use super::ring::Ring;
use super::transmit::Transmitter;
use super::worker::Source;
use super::{control, features};
use crate::memory::Memory;
use crate::virtio::device::{Activation, ActiveQueue, VirtioInterrupt};

pub(super) struct Driver {
    memory: Memory,
    interrupt: Arc<dyn VirtioInterrupt>,
    features: u64,
    /// Without those the driver has not, or has spoilt.
    pairs: Vec<Option<Pair>>,
    /// How many of them it uses, from the first.
    in_use: usize,
    control: Option<Control>,
}

struct Control {
    ring: Ring,
    is_due: bool,
}

impl Driver {
    pub(super) fn new(activation: Activation) -> Self {
        let Activation { memory, features, queues, interrupt, resumed } = activation;
        let is_agreed = |feature: u64| features & feature != 0;
        // virtio 1.3 §5.1.2: without VIRTIO_NET_F_MQ there is one pair, whatever the device has.
        let pairs = if is_agreed(features::MQ) { queues.len() / 2 } else { 1 };
        let mut rings = (0u16..)
            .zip(queues)
            .map(|(index, queue): (u16, Option<ActiveQueue>)| Some(Ring::new(index, queue?, memory.clone())));
        let mut ring = || rings.next().flatten();
        let pairs: Vec<_> = (0..pairs)
            .map(|_| {
                let (receive, transmit) = (ring(), ring());
                let pieces = || Pieces::new(memory.clone());
                let receiver = Receiver::new(receive?, features, pieces());
                Some(Pair::new(receiver, Transmitter::new(transmit?, pieces())))
            })
            .collect();
        let control = if is_agreed(features::CTRL_VQ) { ring() } else { None };
        // What a saved VM's driver said shows in the queues it has filled.
        let filled = pairs.iter().flatten().take_while(|pair| pair.receiver.ring().is_in_use()).count();
        let in_use = if resumed { filled.max(1) } else { 1 };
        let control = control.map(|ring| Control { ring, is_due: true });
        Self { memory, interrupt, features, pairs, in_use, control }
    }

    pub(super) fn features(&self) -> u64 {
        self.features
    }

    pub(super) fn needs_reset(&self) {
        self.interrupt.needs_reset();
    }

    /// By index of the queues.
    pub(super) fn progress(&self) -> Vec<Option<(u16, u16)>> {
        let pairs = self.pairs.iter().flat_map(|pair| {
            [
                pair.as_ref().map(|pair| pair.receiver.progress()),
                pair.as_ref().map(|pair| pair.transmitter.progress()),
            ]
        });
        pairs.chain([self.control.as_ref().map(|control| control.ring.progress(0))]).collect()
    }

    pub(super) fn turns(&self) -> impl Iterator<Item = Turn> {
        let control = self.control.iter().filter(|control| control.is_due).map(|_| Turn::Now);
        self.pairs.iter().flatten().flat_map(|pair| [pair.receive, pair.transmit]).chain(control)
    }

    fn rings(&self) -> impl Iterator<Item = &Ring> {
        let pairs = self.pairs.iter().flatten().flat_map(Pair::rings);
        pairs.chain(self.control.as_ref().map(|control| &control.ring))
    }

    pub(super) fn watch(&self, epoll: &Epoll) -> io::Result<()> {
        self.rings().try_for_each(|ring| watch(ring, epoll))
    }

    /// When all was taken back.
    pub(super) fn unwatch(&self, epoll: &Epoll) -> io::Result<()> {
        self.rings().try_for_each(|ring| unwatch(ring, epoll))
    }

    pub(super) fn doorbell_rang(&mut self, queue: u16) {
        if let Some(control) = self.control.as_mut().filter(|control| control.ring.index == queue) {
            control.is_due = true;
        } else if let Some(Some(pair)) = self.pairs.get_mut(usize::from(queue / 2)) {
            let turn = if queue.is_multiple_of(2) { &mut pair.receive } else { &mut pair.transmit };
            turn.hasten(Turn::Doorbell);
        }
    }

    pub(super) fn tap_is_ready(&mut self, port: u16, events: EventSet, ports: usize) {
        let (port, in_use) = (usize::from(port), self.ports_in_use(ports));
        for (index, pair) in self.pairs.iter_mut().enumerate() {
            let Some(pair) = pair else { continue };
            if index == port && events.contains(EventSet::IN) {
                pair.receive.hasten(Turn::Tap);
            }
            if port::of_pair(index, in_use) == Some(port) && events.contains(EventSet::OUT) {
                pair.transmit.hasten(Turn::Tap);
            }
        }
    }

    pub(super) fn time_has_gone(&mut self) {
        self.pairs.iter_mut().flatten().for_each(Pair::ripen);
    }

    /// There is another tap, or none.
    pub(super) fn tap_changed(&mut self) {
        self.pairs.iter_mut().flatten().for_each(Pair::restart);
    }

    /// What to wait for at a port.
    pub(super) fn interest(&self, port: usize, ports: usize) -> EventSet {
        let in_use = self.ports_in_use(ports);
        let mut interest = EventSet::empty();
        for (index, pair) in self.pairs.iter().enumerate() {
            let Some(pair) = pair else { continue };
            if index == port && index < in_use && matches!(pair.receive, Turn::Tap | Turn::Now) {
                interest |= EventSet::IN;
            }
            if port::of_pair(index, in_use) == Some(port) && pair.transmit == Turn::Tap {
                interest |= EventSet::OUT;
            }
        }
        interest
    }

    fn ports_in_use(&self, ports: usize) -> usize {
        ports.min(self.in_use)
    }

    /// The tap is to bring frames only by the queues somebody looks at.
    pub(super) fn attach_ports(&self, ports: &mut [Port], epoll: &Epoll) -> Result<(), FillError> {
        attach(ports, self.in_use, epoll)
    }

    /// Has the pairs in use go past this thread where their ports have a way for them.
    pub(super) fn bypass(&mut self, ports: &mut [Port], epoll: &Epoll) -> io::Result<()> {
        let in_use = self.ports_in_use(ports.len());
        for (pair, port) in self.pairs.iter_mut().zip(ports).take(in_use) {
            let Some(pair) = pair else { continue };
            if pair.bypass(port, &self.memory, self.features, &*self.interrupt) {
                pair.rings().into_iter().try_for_each(|ring| unwatch(ring, epoll))?;
            }
        }
        Ok(())
    }

    /// Serves all pairs again; tells whether one was not.
    pub(super) fn take_back(&mut self, ports: &mut [Port], epoll: &Epoll) -> io::Result<bool> {
        let mut any = false;
        for (seat, port) in self.pairs.iter_mut().zip(ports) {
            let Some(pair) = seat.as_mut().filter(|pair| pair.is_bypassed()) else { continue };
            any = true;
            match pair.take_back(port) {
                Ok(()) => pair.rings().into_iter().try_for_each(|ring| watch(ring, epoll))?,
                // Nobody knows how far it has got.
                Err(_) => {
                    *seat = None;
                    self.interrupt.needs_reset();
                }
            }
        }
        Ok(any)
    }

    /// For the device to stand still: of a call that waits at a masked vector, for the kernel alone to see, nothing is saved, so
    /// the driver is called once more.
    pub(super) fn stand(&mut self, ports: &mut [Port], epoll: &Epoll) -> io::Result<()> {
        if self.take_back(ports, epoll)? {
            self.rings().for_each(|ring| self.interrupt.used(ring.index));
        }
        Ok(())
    }

    /// Serves every queue whose turn it is once; tells whether the tap is there.
    pub(super) fn serve(
        &mut self,
        ports: &mut [Port],
        limits: &mut Limits,
        epoll: &Epoll,
    ) -> io::Result<bool> {
        self.serve_control(ports, epoll)?;
        let in_use = self.ports_in_use(ports.len());
        let mut is_there = true;
        for (index, seat) in self.pairs.iter_mut().enumerate() {
            let Some(pair) = seat else { continue };
            let of_port = |port: usize| ports.get(port).map(Port::carrier);
            let receive = of_port(index).filter(|_| index < in_use);
            let transmit = port::of_pair(index, in_use).and_then(of_port);
            match pair.serve(receive, transmit, limits, &*self.interrupt) {
                Ok(served) => is_there &= served,
                // The rings make no sense (virtio 1.3 §2.1.2). The other pairs go on.
                Err(_) => {
                    pair.rings().into_iter().try_for_each(|ring| unwatch(ring, epoll))?;
                    *seat = None;
                    self.interrupt.needs_reset();
                }
            }
        }
        Ok(is_there)
    }

    fn serve_control(&mut self, ports: &mut [Port], epoll: &Epoll) -> io::Result<()> {
        if !self.control.as_ref().is_some_and(|control| control.is_due) {
            return Ok(());
        }
        // The pairs in use may become others.
        self.take_back(ports, epoll)?;
        self.obey_control(ports, epoll)?;
        self.bypass(ports, epoll)
    }

    fn obey_control(&mut self, ports: &mut [Port], epoll: &Epoll) -> io::Result<()> {
        let Some(control) = &mut self.control else { return Ok(()) };
        let (pairs, in_use) = (&mut self.pairs, &mut self.in_use);
        let served = control::serve(&mut control.ring, &self.memory, &*self.interrupt, |wanted| {
            let wanted = usize::from(wanted);
            let is_done = (1..=pairs.len()).contains(&wanted) && attach(ports, wanted, epoll).is_ok();
            if is_done {
                *in_use = wanted;
                pairs.iter_mut().flatten().for_each(Pair::restart);
            }
            is_done
        });
        match served {
            Ok(more) => control.is_due = more,
            Err(_) => {
                unwatch(&control.ring, epoll)?;
                self.control = None;
                self.interrupt.needs_reset();
            }
        }
        Ok(())
    }
}

fn attach(ports: &mut [Port], in_use: usize, epoll: &Epoll) -> Result<(), FillError> {
    ports.iter_mut().enumerate().try_for_each(|(index, port)| port.set_attached(index < in_use, epoll))
}

fn watch(ring: &Ring, epoll: &Epoll) -> io::Result<()> {
    // Each ring of a bell is an event, so that nobody has to read its counter.
    let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
    let event = EpollEvent::new(events, Source::Doorbell(ring.index).token());
    epoll.ctl(ControlOperation::Add, ring.doorbell(), event)
}

fn unwatch(ring: &Ring, epoll: &Epoll) -> io::Result<()> {
    epoll.ctl(ControlOperation::Delete, ring.doorbell(), EpollEvent::default())
}
