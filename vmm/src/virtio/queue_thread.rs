//! The thread of a device that answers requests from its queues.
//!
//! It starts before the guest does and waits for its queues; a vCPU only hands them over, or asks for
//! them back. One thread a device, so that a slow disk holds up nobody else.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vmm_api::EndReason;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::ending::Ending;
use crate::hold::hold;
use crate::memory::Memory;
use crate::virtio::device::{ActivateError, Activation, ActiveQueue, Standing, VirtioInterrupt};

/// What a device does with a request.
pub trait RequestHandler: Send + 'static {
    /// Carries out a request of the queue; says how many bytes of its writable part were written, from the start.
    fn handle(&mut self, queue: u16, chain: DescriptorChain<&Memory>, memory: &Memory) -> u32;
}

/// How a device's thread starts and ends.
pub struct ThreadPlan {
    /// What `ps -L` shows; at most 15 bytes.
    pub name: String,
    /// The thread's first act.
    pub confine: fn() -> Result<(), EndReason>,
    /// Where it says that it can't go on.
    pub ending: Arc<Ending>,
}

pub struct QueueThread {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Serve(Box<Served>),
    /// Lets go of the queues and of guest memory, then answers.
    Release(Sender<()>),
    Hold(Sender<Standing>),
    Quit,
}

struct Served {
    memory: Memory,
    /// By index.
    queues: Vec<Option<ActiveQueue>>,
    interrupt: Arc<dyn VirtioInterrupt>,
}

impl QueueThread {
    pub fn start(plan: ThreadPlan, handler: impl RequestHandler) -> io::Result<Self> {
        let (commands, received) = channel();
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let server = Server::new(handler, received, Arc::clone(&wake))?;
        let ThreadPlan { name, confine, ending } = plan;
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let outcome = confine().and_then(|()| {
                server.run().map_err(|error| EndReason::Internal { message: format!("{name}: {error}") })
            });
            if let Err(reason) = outcome {
                ending.end(reason);
            }
        })?;
        Ok(Self { commands, wake, thread: Some(thread) })
    }

    /// Hands over the queues there are, of which the first has to be one.
    pub fn activate(&self, activation: Activation) -> Result<(), ActivateError> {
        let Activation { memory, queues, interrupt, .. } = activation;
        if !matches!(queues.first(), Some(Some(_))) {
            return Err(ActivateError::MissingQueue(0));
        }
        let served = Served { memory, queues, interrupt };
        if self.send(Command::Serve(Box::new(served))) { Ok(()) } else { Err(ActivateError::ThreadGone) }
    }

    /// Returns once the thread has let go of the queues and of guest memory.
    pub fn release(&self) {
        let (done, wait) = channel();
        // An error means that the thread is gone, and its hold on guest memory with it.
        if self.send(Command::Release(done)) {
            let _ = wait.recv();
        }
    }

    /// Has the thread stand still between two requests.
    pub fn hold(&self) -> Option<Standing> {
        let (standing, wait) = channel();
        if self.send(Command::Hold(standing)) { wait.recv().ok() } else { None }
    }

    fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.wake.write(1).is_ok()
    }
}

impl Drop for QueueThread {
    fn drop(&mut self) {
        self.send(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server<H> {
    handler: H,
    received: Receiver<Command>,
    wake: Arc<EventFd>,
    epoll: Epoll,
    served: Option<Box<Served>>,
}

/// What an epoll event's data says of its source.
const WAKE: u64 = 0;
/// The first queue's doorbell; those of the others follow.
const DOORBELLS: u64 = 1;

impl<H: RequestHandler> Server<H> {
    fn new(handler: H, received: Receiver<Command>, wake: Arc<EventFd>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.ctl(ControlOperation::Add, wake.as_raw_fd(), EpollEvent::new(EventSet::IN, WAKE))?;
        Ok(Self { handler, received, wake, epoll, served: None })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = [EpollEvent::default(); 4];
        loop {
            let ready = match self.epoll.wait(-1, &mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            for event in events.iter().take(ready) {
                match event.data() {
                    WAKE if self.obey()? == Obeyed::Quit => return Ok(()),
                    WAKE => {}
                    doorbell => self.answer(doorbell - DOORBELLS),
                }
            }
        }
    }

    fn obey(&mut self) -> io::Result<Obeyed> {
        // A counter that was drained already is no error.
        let _ = self.wake.read();
        while let Ok(command) = self.received.try_recv() {
            match command {
                Command::Serve(served) => {
                    for (number, queue) in (DOORBELLS..).zip(&served.queues) {
                        let event = EpollEvent::new(EventSet::IN, number);
                        self.watch(ControlOperation::Add, queue.as_ref(), event)?;
                    }
                    self.served = Some(served);
                }
                Command::Release(done) => {
                    self.release()?;
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                }
                Command::Hold(standing) => {
                    let queues = self.served.as_ref().map(|served| served.queues.as_slice());
                    let progress = queues.unwrap_or_default().iter();
                    let progress = progress.map(|queue| queue.as_ref().map(ActiveQueue::progress)).collect();
                    let (hold, held) = hold();
                    // Whoever asked may have stopped waiting, and the hold goes.
                    let _ = standing.send(Standing { progress, hold });
                    if !held.stand() {
                        self.release()?;
                    }
                }
                Command::Quit => return Ok(Obeyed::Quit),
            }
        }
        Ok(Obeyed::GoOn)
    }

    fn release(&mut self) -> io::Result<()> {
        let queues = self.served.take().map(|served| served.queues).unwrap_or_default();
        queues
            .iter()
            .try_for_each(|queue| self.watch(ControlOperation::Delete, queue.as_ref(), EpollEvent::default()))
    }

    fn watch(&self, how: ControlOperation, queue: Option<&ActiveQueue>, event: EpollEvent) -> io::Result<()> {
        queue.map_or(Ok(()), |queue| self.epoll.ctl(how, queue.doorbell.as_raw_fd(), event))
    }

    fn answer(&mut self, queue: u64) {
        if let (Some(served), Ok(index)) = (&mut self.served, u16::try_from(queue)) {
            served.drain(index, &mut self.handler);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Obeyed {
    GoOn,
    Quit,
}

impl Served {
    /// Answers the requests there are. A queue the guest has spoilt is left until the guest resets it.
    fn drain(&mut self, index: u16, handler: &mut impl RequestHandler) {
        let Self { memory, queues, interrupt } = self;
        // None where the doorbell was that of queues released since.
        let Some(Some(ActiveQueue { queue, doorbell })) = queues.get_mut(usize::from(index)) else { return };
        let _ = doorbell.read();
        let answer = |chain: DescriptorChain<&_>| handler.handle(index, chain, memory);
        match try_drain(queue, memory, answer, || interrupt.used(index)) {
            Ok(Drained::Empty) => {}
            // Should this fail, the counter is full, and the doorbell rung all the same.
            Ok(Drained::Enough) => drop(doorbell.write(1)),
            Err(_) => interrupt.needs_reset(),
        }
    }
}

/// Answers as many requests as the queue holds: a guest that adds them faster than they are answered
/// must not keep the thread from its commands, or from the other queues.
fn try_drain<'m>(
    queue: &mut Queue,
    memory: &'m Memory,
    mut answer: impl FnMut(DescriptorChain<&'m Memory>) -> u32,
    interrupt: impl Fn(),
) -> Result<Drained, virtio_queue::Error> {
    queue.disable_notification(memory)?;
    for _ in 0..queue.size() {
        let Some(chain) = queue.iter(memory)?.next() else {
            return Ok(if queue.enable_notification(memory)? { Drained::Enough } else { Drained::Empty });
        };
        let head = chain.head_index();
        let written = answer(chain);
        queue.add_used(memory, head, written)?;
        if queue.needs_notification(memory)? {
            interrupt();
        }
    }
    Ok(Drained::Enough)
}

#[derive(PartialEq, Eq)]
enum Drained {
    Empty,
    /// There may be more.
    Enough,
}
