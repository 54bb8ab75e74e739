//! The device's thread: waits for doorbells, the server and commands.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::server::{Connection, Server};
use super::session::Session;
use crate::hold::hold;
use crate::virtio::device::{Activation, ActiveQueue, Standing};

/// What other threads tell the device's thread.
pub(super) enum Command {
    Activate(Box<Activation>),
    /// Let go of queues and guest memory, then answer.
    Reset(Sender<()>),
    Hold(Sender<Standing>),
    Serve(OwnedFd),
    Quit,
}

/// What an epoll event's data says of its source.
const COMMANDS: u64 = 0;
const SERVER: u64 = 1;
/// The first queue's doorbell; those of the others follow.
const DOORBELLS: u64 = 2;

pub(super) struct Worker {
    epoll: Epoll,
    commands: Receiver<Command>,
    command_event: Arc<EventFd>,
    server: Server,
    /// The number of the last request sent.
    last_number: u64,
}

/// Why a session ends.
enum Left {
    /// Whoever asked for it is to be told.
    Reset(Sender<()>),
    /// Nobody waits for it.
    GivenUp,
    Quit,
}

impl Worker {
    pub(super) fn new(commands: Receiver<Command>, command_event: Arc<EventFd>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.ctl(
            ControlOperation::Add,
            command_event.as_raw_fd(),
            EpollEvent::new(EventSet::IN, COMMANDS),
        )?;
        Ok(Self { epoll, commands, command_event, server: Server::NotYet, last_number: 0 })
    }

    /// Works until the device is dropped.
    pub(super) fn run(mut self) -> io::Result<()> {
        while let Ok(command) = self.commands.recv() {
            let left = match command {
                Command::Activate(activation) => self.attend(*activation)?,
                Command::Reset(done) => Left::Reset(done),
                Command::Hold(standing) => {
                    stand(standing, Vec::new());
                    Left::GivenUp
                }
                Command::Serve(socket) => {
                    self.server = Server::There(Connection::new(socket));
                    Left::GivenUp
                }
                Command::Quit => Left::Quit,
            };
            match left {
                // Whoever asked may have given up waiting.
                Left::Reset(done) => drop(done.send(())),
                Left::GivenUp => {}
                Left::Quit => break,
            }
        }
        Ok(())
    }

    /// Serves a driver until it goes; holds nothing of its guest's memory afterwards.
    fn attend(&mut self, activation: Activation) -> io::Result<Left> {
        let Activation { memory, queues, interrupt, .. } = activation;
        let mut session = Session::new(&memory, queues, interrupt);
        for (token, queue) in (DOORBELLS..).zip(session.queues()) {
            let event = EpollEvent::new(EventSet::IN, token);
            self.epoll.ctl(ControlOperation::Add, queue.doorbell.as_raw_fd(), event)?;
        }
        let left = self.converse(&mut session)?;
        for queue in session.queues() {
            let doorbell = queue.doorbell.as_raw_fd();
            self.epoll.ctl(ControlOperation::Delete, doorbell, EpollEvent::default())?;
        }
        if let Server::There(connection) = &mut self.server {
            connection.unwatch(&self.epoll)?;
        }
        if let Left::GivenUp = left {
            session.give_up();
        }
        Ok(left)
    }

    fn converse(&mut self, session: &mut Session<'_>) -> io::Result<Left> {
        let mut more = true;
        loop {
            self.wait(session, more)?;
            if let Some(left) = self.obey(session) {
                return Ok(left);
            }
            more = match session.serve(&mut self.server, &mut self.last_number) {
                Ok(more) => more,
                Err(_) => return Ok(Left::GivenUp),
            };
            if let Server::There(connection) = &mut self.server {
                connection.watch(&self.epoll, SERVER)?;
            }
        }
    }

    /// Takes in what has happened; waits for it unless there is `more` to do anyway.
    fn wait(&mut self, session: &Session<'_>, more: bool) -> io::Result<()> {
        let mut events = [EpollEvent::default(); 4];
        let count = match self.epoll.wait(if more { 0 } else { -1 }, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            outcome => outcome?,
        };
        for event in events.iter().take(count) {
            match event.data() {
                COMMANDS => drain(&self.command_event),
                SERVER => {
                    if let Server::There(connection) = &mut self.server
                        && event.event_set().intersects(EventSet::OUT | EventSet::ERROR | EventSet::HANG_UP)
                    {
                        connection.has_room();
                    }
                }
                token => {
                    let queue = usize::try_from(token - DOORBELLS).unwrap_or(usize::MAX);
                    session.queues().nth(queue).into_iter().for_each(ring_off);
                }
            }
        }
        Ok(())
    }

    /// Carries out the commands that wait; tells whether the session ends.
    fn obey(&mut self, session: &Session<'_>) -> Option<Left> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Serve(socket)) => self.server = Server::There(Connection::new(socket)),
                Ok(Command::Hold(standing)) => {
                    if !stand(standing, session.progress()) {
                        return Some(Left::GivenUp);
                    }
                }
                Ok(Command::Reset(done)) => return Some(Left::Reset(done)),
                // The transport activates once between resets.
                Ok(Command::Activate(_)) => return Some(Left::GivenUp),
                Ok(Command::Quit) | Err(TryRecvError::Disconnected) => return Some(Left::Quit),
                Err(TryRecvError::Empty) => return None,
            }
        }
    }
}

/// Tells whether to go on.
fn stand(standing: Sender<Standing>, progress: Vec<Option<(u16, u16)>>) -> bool {
    let (hold, held) = hold();
    // Whoever asked may have given up waiting, and the hold goes.
    let _ = standing.send(Standing { progress, hold });
    held.stand()
}

fn ring_off(queue: &ActiveQueue) {
    drain(&queue.doorbell);
}

fn drain(event: &EventFd) {
    // Fails only where there is nothing to take.
    let _ = event.read();
}
