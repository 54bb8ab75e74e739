//! The device's thread: waits for sockets, doorbells and commands, and moves packets between the virtqueues
//! and the muxer.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use virtio_queue::QueueT;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::muxer::{Muxer, StreamId};
use super::packet::Packet;
use super::streams::{AnnouncedPorts, Command, ConnectError, StreamSink};
use super::{QUEUE_EVENT, QUEUE_RX, QUEUE_TX};
use crate::hold::hold;
use crate::memory::Memory;
use crate::virtio::chain::{Buffers, next_chain};
use crate::virtio::device::{Activation, ActiveQueue, Standing, VirtioInterrupt};

/// epoll tokens of what is no stream; a stream's number never gets there.
const COMMANDS: StreamId = StreamId::MAX;
const DOORBELL_RX: StreamId = StreamId::MAX - 1;
const DOORBELL_TX: StreamId = StreamId::MAX - 2;

/// How many packets one queue may move before the other has its turn and the guest is told.
const BATCH: usize = 64;

/// How many events one wait takes in.
const EVENTS: usize = 64;

pub(super) struct Worker {
    epoll: Arc<Epoll>,
    commands: Receiver<Command>,
    command_event: Arc<EventFd>,
    sink: Arc<dyn StreamSink>,
    muxer: Muxer,
    driver: Option<Driver>,
}

/// What there is to work with while the guest's driver is ready.
struct Driver {
    memory: Memory,
    receive: ActiveQueue,
    transmit: ActiveQueue,
    /// A driver may do without.
    event: Option<ActiveQueue>,
    interrupt: Arc<dyn VirtioInterrupt>,
}

impl Worker {
    pub(super) fn new(
        commands: Receiver<Command>,
        command_event: Arc<EventFd>,
        sink: Arc<dyn StreamSink>,
        announced: AnnouncedPorts,
    ) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        watch(&epoll, &command_event, COMMANDS)?;
        let muxer = Muxer::new(Arc::clone(&epoll), Arc::clone(&sink), announced)?;
        Ok(Self { epoll, commands, command_event, sink, muxer, driver: None })
    }

    /// Works until the device is dropped.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut more = false;
        loop {
            self.wait(more)?;
            if !self.obey()? {
                return Ok(());
            }
            self.muxer.expire(Instant::now());
            more = self.serve_queues()?;
        }
    }

    /// Takes in what has happened; waits for it unless there is `more` to do anyway.
    fn wait(&mut self, more: bool) -> io::Result<()> {
        let mut events = [EpollEvent::default(); EVENTS];
        let count = match self.epoll.wait(self.timeout(more), &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            outcome => outcome?,
        };
        for event in events.iter().take(count) {
            match event.data() {
                COMMANDS => drain(&self.command_event),
                DOORBELL_RX => self.driver.iter().for_each(|driver| drain(&driver.receive.doorbell)),
                DOORBELL_TX => self.driver.iter().for_each(|driver| drain(&driver.transmit.doorbell)),
                stream => self.muxer.socket_event(stream, event.event_set()),
            }
        }
        Ok(())
    }

    /// In milliseconds, rounded up; -1 is for ever.
    fn timeout(&self, more: bool) -> i32 {
        match self.muxer.next_deadline() {
            _ if more => 0,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
                i32::try_from(left).unwrap_or(i32::MAX)
            }
            None => -1,
        }
    }

    /// Carries out the commands that wait; tells whether to go on.
    fn obey(&mut self) -> io::Result<bool> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Activate(activation)) => self.activate(*activation)?,
                Ok(Command::Reset(done)) => {
                    self.deactivate()?;
                    // Whoever asked may have given up waiting.
                    let _ = done.send(());
                }
                Ok(Command::Hold(standing)) => {
                    let (hold, held) = hold();
                    let since = Instant::now();
                    // Whoever asked may have given up waiting, and the hold goes.
                    let _ = standing.send(Standing { progress: self.progress(), hold });
                    if !held.stand() {
                        self.deactivate()?;
                    }
                    self.muxer.stood_still(since.elapsed());
                }
                Ok(Command::Connect { request, port }) if self.driver.is_some() => {
                    self.muxer.connect(request, port);
                }
                Ok(Command::Connect { request, port }) => {
                    self.sink.connected(request, Err(ConnectError::NoDriver { port }));
                }
                Err(TryRecvError::Empty) => return Ok(true),
                Ok(Command::Quit) | Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        let mut take = |index: usize| activation.queues.get_mut(index).and_then(Option::take);
        let (Some(receive), Some(transmit), event) = (take(QUEUE_RX), take(QUEUE_TX), take(QUEUE_EVENT))
        else {
            return Ok(());
        };
        watch(&self.epoll, &receive.doorbell, DOORBELL_RX)?;
        watch(&self.epoll, &transmit.doorbell, DOORBELL_TX)?;
        let Activation { memory, interrupt, resumed, .. } = activation;
        let mut driver = Driver { memory, receive, transmit, event, interrupt };
        // What cannot be told by an event shows when the guest next uses a stream, which is refused.
        if resumed {
            self.muxer.driver_resumed();
            if driver.tell_streams_are_gone().is_err() {
                driver.interrupt.needs_reset();
            }
        }
        self.driver = Some(driver);
        Ok(())
    }

    /// By index.
    fn progress(&self) -> Vec<Option<(u16, u16)>> {
        let Some(Driver { receive, transmit, event, .. }) = &self.driver else { return Vec::new() };
        let event = event.as_ref().map(ActiveQueue::progress);
        vec![Some(receive.progress()), Some(transmit.progress()), event]
    }

    fn deactivate(&mut self) -> io::Result<()> {
        let Some(Driver { receive, transmit, .. }) = self.driver.take() else { return Ok(()) };
        for queue in [&receive, &transmit] {
            let doorbell = queue.doorbell.as_raw_fd();
            self.epoll.ctl(ControlOperation::Delete, doorbell, EpollEvent::default())?;
        }
        self.muxer.driver_gone();
        Ok(())
    }

    /// Serves both queues once; tells whether there is more to do.
    fn serve_queues(&mut self) -> io::Result<bool> {
        let Some(driver) = &mut self.driver else { return Ok(false) };
        match driver.serve(&mut self.muxer) {
            Ok(more) => Ok(more),
            Err(_) => {
                // The rings make no sense (virtio 1.3 §2.1.2).
                driver.interrupt.needs_reset();
                self.deactivate()?;
                Ok(false)
            }
        }
    }
}

impl Driver {
    /// virtio 1.3 §5.10.6.7: the guest is to end its streams, its listeners stay.
    fn tell_streams_are_gone(&mut self) -> Result<(), virtio_queue::Error> {
        const TRANSPORT_RESET: [u8; 4] = [0; 4];
        let Some(ActiveQueue { queue, .. }) = &mut self.event else { return Ok(()) };
        let Some(chain) = next_chain(queue, &self.memory)? else { return Ok(()) };
        let head = chain.head_index();
        let written = match Buffers::of(chain, &self.memory) {
            Ok(buffers) => buffers.writable.copy_in(&TRANSPORT_RESET),
            Err(_) => 0,
        };
        queue.add_used(&self.memory, head, u32::try_from(written).unwrap_or(0))?;
        self.interrupt.used(u16::try_from(QUEUE_EVENT).unwrap_or(u16::MAX));
        Ok(())
    }

    /// Serves both queues; tells whether either has more to do.
    fn serve(&mut self, muxer: &mut Muxer) -> Result<bool, virtio_queue::Error> {
        let transmit = self.serve_transmit(muxer)?;
        let receive = self.serve_receive(muxer)?;
        Ok(transmit || receive)
    }

    /// Takes packets from the guest.
    fn serve_transmit(&mut self, muxer: &mut Muxer) -> Result<bool, virtio_queue::Error> {
        let queue = &mut self.transmit.queue;
        for moved in 0..BATCH {
            let Some(chain) = next_chain(queue, &self.memory)? else {
                self.notify(QUEUE_TX, moved)?;
                return Ok(false);
            };
            let head = chain.head_index();
            // What is no packet has no sender to be told of it.
            if let Some(packet) =
                Buffers::of(chain, &self.memory).ok().and_then(|buffers| Packet::of(&buffers.readable))
            {
                muxer.packet(&packet);
            }
            queue.add_used(&self.memory, head, 0)?;
        }
        self.notify(QUEUE_TX, BATCH)?;
        Ok(true)
    }

    /// Gives packets to the guest as far as it has buffers. What finds none waits where it is until the
    /// doorbell tells of new ones.
    fn serve_receive(&mut self, muxer: &mut Muxer) -> Result<bool, virtio_queue::Error> {
        let queue = &mut self.receive.queue;
        let mut moved = 0;
        while moved < BATCH && muxer.has_packet() {
            let Some(chain) = next_chain(queue, &self.memory)? else { break };
            let head = chain.head_index();
            let written =
                match Buffers::of(chain, &self.memory).ok().and_then(|buffers| Packet::of(&buffers.writable))
                {
                    Some(packet) => muxer.next_packet(&packet),
                    // A buffer that holds no header goes back as it came.
                    None => Some(0),
                };
            let Some(length) = written else {
                queue.set_next_avail(queue.next_avail().wrapping_sub(1));
                continue;
            };
            queue.add_used(&self.memory, head, length)?;
            moved += 1;
        }
        self.notify(QUEUE_RX, moved)?;
        Ok(moved == BATCH)
    }

    /// Tells the driver of used buffers, if it wants to know.
    fn notify(&mut self, index: usize, moved: usize) -> Result<(), virtio_queue::Error> {
        let queue = if index == QUEUE_RX { &mut self.receive.queue } else { &mut self.transmit.queue };
        if moved > 0 && queue.needs_notification(&self.memory)? {
            self.interrupt.used(u16::try_from(index).unwrap_or(u16::MAX));
        }
        Ok(())
    }
}

fn watch(epoll: &Epoll, event: &EventFd, token: StreamId) -> io::Result<()> {
    epoll.ctl(ControlOperation::Add, event.as_raw_fd(), EpollEvent::new(EventSet::IN, token))
}

fn drain(event: &EventFd) {
    // Fails only where there is nothing to take.
    let _ = event.read();
}
