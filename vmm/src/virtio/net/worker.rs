//! The device's thread: waits for the tap, doorbells, time and commands, and lets the queues take turns.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Commands, TryRecvError};
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::driver::Driver;
use super::handle::{Command, FarSide, FillError};
use super::limit::Limiter;
use super::pair::{Limits, Turn};
use super::port::Port;
use crate::hold::hold;
use crate::virtio::device::{Activation, Standing};

/// How many events one wait takes in.
const EVENTS: usize = 32;

/// What an epoll event's data says of its source: the kind, and behind it which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Commands,
    Timer,
    /// By index, as the rest.
    Port(u16),
    Doorbell(u16),
}

pub(super) struct Worker {
    epoll: Epoll,
    commands: Commands<Command>,
    wake: Arc<EventFd>,
    timer: OwnedFd,
    /// When the timer goes off.
    alarm: Option<Instant>,
    /// The queues of the tap; a place has none.
    ports: Vec<Port>,
    limits: Limits,
    driver: Option<Driver>,
}

impl Worker {
    pub(super) fn new(commands: Commands<Command>, wake: Arc<EventFd>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        for (descriptor, source) in [(wake.as_raw_fd(), Source::Commands), (timer.as_raw_fd(), Source::Timer)]
        {
            epoll.ctl(ControlOperation::Add, descriptor, EpollEvent::new(EventSet::IN, source.token()))?;
        }
        let (ports, limits) = (Vec::new(), Limits::default());
        Ok(Self { epoll, commands, wake, timer, alarm: None, ports, limits, driver: None })
    }

    /// Works until the device is dropped.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut more = false;
        loop {
            self.wait(more)?;
            if !self.obey()? {
                return Ok(());
            }
            more = self.serve()?;
        }
    }

    /// Takes in what has happened; waits for it unless there is `more` to do anyway.
    fn wait(&mut self, more: bool) -> io::Result<()> {
        let mut events = [EpollEvent::default(); EVENTS];
        let count = match self.epoll.wait(if more { 0 } else { -1 }, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            outcome => outcome?,
        };
        for event in events.iter().take(count) {
            match (Source::from_token(event.data()), &mut self.driver) {
                // A counter that was drained already is no error.
                (Source::Commands, _) => drop(self.wake.read()),
                (Source::Timer, driver) => {
                    // One that was set anew has nothing to read.
                    let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                    self.alarm = None;
                    driver.iter_mut().for_each(Driver::time_has_gone);
                }
                (Source::Port(_), _) if event.event_set().intersects(EventSet::ERROR | EventSet::HANG_UP) => {
                    self.empty()?;
                }
                (Source::Port(port), Some(driver)) => {
                    driver.tap_is_ready(port, event.event_set(), self.ports.len());
                }
                (Source::Doorbell(queue), Some(driver)) => driver.doorbell_rang(queue),
                (Source::Port(_) | Source::Doorbell(_), None) => {}
            }
        }
        Ok(())
    }

    /// Carries out the commands that wait; tells whether to go on.
    fn obey(&mut self) -> io::Result<bool> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Activate(activation)) => self.activate(*activation)?,
                // In all these whoever asked may have given up waiting.
                Ok(Command::Reset(done)) => {
                    self.deactivate()?;
                    let _ = done.send(());
                }
                Ok(Command::Hold(standing)) => {
                    let (hold, held) = hold();
                    self.stand()?;
                    let progress = self.driver.as_ref().map(Driver::progress).unwrap_or_default();
                    let _ = standing.send(Standing { progress, hold });
                    match held.stand() {
                        true => self.bypass()?,
                        false => self.deactivate()?,
                    }
                }
                Ok(Command::Fill(far_side, filled)) => {
                    let outcome = self.fill(far_side);
                    if outcome.is_err() {
                        self.empty()?;
                    }
                    let _ = filled.send(outcome);
                }
                Ok(Command::Empty(done)) => {
                    self.empty()?;
                    let _ = done.send(());
                }
                Err(TryRecvError::Empty) => return Ok(true),
                Ok(Command::Quit) | Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let driver = Driver::new(activation);
        driver.watch(&self.epoll)?;
        let prepared = self.ports.iter().try_for_each(|port| port.carrier().set_offload(driver.features()));
        if prepared.is_err() || driver.attach_ports(&mut self.ports, &self.epoll).is_err() {
            driver.needs_reset();
        }
        self.driver = Some(driver);
        self.bypass()
    }

    fn bypass(&mut self) -> io::Result<()> {
        let Self { driver, ports, epoll, .. } = self;
        driver.iter_mut().try_for_each(|driver| driver.bypass(ports, epoll))
    }

    fn take_back(&mut self) -> io::Result<()> {
        let Self { driver, ports, epoll, .. } = self;
        driver.iter_mut().try_for_each(|driver| driver.take_back(ports, epoll).map(drop))
    }

    fn stand(&mut self) -> io::Result<()> {
        let Self { driver, ports, epoll, .. } = self;
        driver.iter_mut().try_for_each(|driver| driver.stand(ports, epoll))
    }

    fn deactivate(&mut self) -> io::Result<()> {
        self.take_back()?;
        if let Some(driver) = self.driver.take() {
            driver.unwatch(&self.epoll)?;
        }
        self.watch_ports()
    }

    fn fill(&mut self, far_side: FarSide) -> Result<(), FillError> {
        let FarSide { carriers, bypasses, transmit, receive } = far_side;
        let is_limited = transmit.is_some() || receive.is_some();
        let mut bypasses = bypasses.into_iter().filter(|_| !is_limited);
        let features = self.driver.as_ref().map_or(0, Driver::features);
        for (index, carrier) in (0..).zip(carriers) {
            carrier.set_offload(features).map_err(FillError::Offload)?;
            let port = Port::watched(carrier, bypasses.next(), &self.epoll, Source::Port(index).token());
            self.ports.push(port.map_err(FillError::Wait)?);
        }
        let now = Instant::now();
        self.limits = Limits { receive: Limiter::new(receive, now), transmit: Limiter::new(transmit, now) };
        let Some(driver) = &mut self.driver else { return Ok(()) };
        driver.attach_ports(&mut self.ports, &self.epoll)?;
        driver.tap_changed();
        driver.bypass(&mut self.ports, &self.epoll).map_err(FillError::Wait)
    }

    /// The device is a place again.
    fn empty(&mut self) -> io::Result<()> {
        self.take_back()?;
        self.ports.drain(..).try_for_each(|port| port.unwatch(&self.epoll))?;
        self.limits = Limits::default();
        self.driver.iter_mut().for_each(Driver::tap_changed);
        Ok(())
    }

    /// Serves every queue whose turn it is once; tells whether one has more to do.
    fn serve(&mut self) -> io::Result<bool> {
        let Some(driver) = &mut self.driver else { return Ok(false) };
        if !driver.serve(&mut self.ports, &mut self.limits, &self.epoll)? {
            self.empty()?;
        }
        self.watch_ports()?;
        self.set_timer()?;
        Ok(self.turns().any(|turn| turn == Turn::Now))
    }

    fn watch_ports(&mut self) -> io::Result<()> {
        let ports = self.ports.len();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let driver = self.driver.as_ref();
            let interest = driver.map_or(EventSet::empty(), |driver| driver.interest(index, ports));
            port.set_interest(interest, &self.epoll)?;
        }
        Ok(())
    }

    /// For the queue that waits the shortest time, if one does.
    fn set_timer(&mut self) -> io::Result<()> {
        let alarms = self.turns().filter_map(|turn| match turn {
            Turn::Later(until) => Some(until),
            _ => None,
        });
        let Some(until) = alarms.min().filter(|until| self.alarm != Some(*until)) else { return Ok(()) };
        // A timer set to nothing never goes off.
        let wait = until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(wait) };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.alarm = Some(until);
        Ok(())
    }

    fn turns(&self) -> impl Iterator<Item = Turn> {
        self.driver.iter().flat_map(Driver::turns)
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

impl Source {
    pub(super) fn token(self) -> u64 {
        match self {
            Self::Commands => 0,
            Self::Timer => 1 << 16,
            Self::Port(index) => 2 << 16 | u64::from(index),
            Self::Doorbell(index) => 3 << 16 | u64::from(index),
        }
    }

    /// Of what `token` made.
    fn from_token(token: u64) -> Self {
        let index = u16::try_from(token & 0xffff).unwrap_or_default();
        match token >> 16 {
            0 => Self::Commands,
            1 => Self::Timer,
            2 => Self::Port(index),
            _ => Self::Doorbell(index),
        }
    }
}
