//! The fake VMM: answers the control socket as vmm-api says, and passes streams to the fake agent.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use agent_api::ports;
use vmm_api::{
    CONTROL_FD, ControlSocket, End, EndReason, Event, Failure, Launch, Message, ReceiveError, Reply, Request,
    RequestId, Stamp,
};

use super::agent::FakeAgent;
use super::{BREAK_THEN_PANIC, KILLED_AT_LAUNCH, LINGER, NOT_READY, PANIC_AT_BOOT, REFUSE_LAUNCH};

struct FakeVmm {
    control: ControlSocket,
    command_line: String,
    most_vcpus: u8,
    agent: FakeAgent,
    /// Event streams on which nothing is said.
    silent: Vec<UnixStream>,
    /// What the guest has of memory beyond what it was launched with, in bytes.
    plugged: u64,
}

/// As much as the guest takes of that.
const MOST_PLUGGED: u64 = 1 << 30;

/// Runs until the supervisor says stop or is gone.
pub(crate) fn serve() {
    // SAFETY: the process was started with its control socket as this descriptor, and nothing else uses it.
    let control = ControlSocket::from(unsafe { OwnedFd::from_raw_fd(CONTROL_FD) });
    let (command_line, silent) = (String::new(), Vec::new());
    let mut vmm =
        FakeVmm { control, command_line, most_vcpus: 0, agent: FakeAgent::start(), silent, plugged: 0 };
    loop {
        match vmm.control.receive::<(RequestId, Request)>() {
            Ok(((id, request), descriptors)) => vmm.answer(id, request, descriptors),
            Err(ReceiveError::Closed) if vmm.is(LINGER) => loop {
                std::thread::park();
            },
            Err(_) => return,
        }
    }
}

impl FakeVmm {
    fn is(&self, behaviour: &str) -> bool {
        self.command_line.ends_with(behaviour)
    }

    fn answer(&mut self, id: RequestId, request: Request, descriptors: Vec<OwnedFd>) {
        match request {
            Request::Launch(launch) => self.launch(id, launch, descriptors),
            Request::Listen { port } if port != ports::EVENT_PORT => {
                self.reply(id, Ok(Reply::Listening), None)
            }
            Request::Listen { port } => {
                self.reply(id, Ok(Reply::Listening), None);
                self.boot(port);
            }
            Request::AddShare(share) => {
                let is_first = !std::mem::replace(&mut self.agent.devices().has_shares, true);
                self.reply_if(id, is_first, Reply::ShareAdded, &share.tag);
            }
            Request::AddNet(net) => {
                let is_new = descriptors.len() == 1 && self.agent.devices().nets.insert(net.name.clone());
                self.reply_if(id, is_new, Reply::NetAdded, &net.name);
            }
            Request::RemoveNet { name } => {
                let was_there = self.agent.devices().nets.remove(&name);
                self.reply_if(id, was_there, Reply::NetRemoved, &name);
            }
            Request::AddDisk(disk) => {
                let is_new = self.agent.devices().disks.insert(disk.serial.clone());
                self.reply_if(id, is_new, Reply::DiskAdded, &disk.serial);
            }
            Request::RemoveDisk { serial } => {
                let was_there = self.agent.devices().disks.remove(&serial);
                self.reply_if(id, was_there, Reply::DiskRemoved, &serial);
            }
            Request::Resize { plugged } => {
                eprintln!("fake guest of {plugged} bytes more");
                self.plugged = plugged.min(MOST_PLUGGED);
                self.reply(id, Ok(Reply::Plugged { bytes: self.plugged }), None);
            }
            Request::AddVcpus { total } => {
                eprintln!("fake VMM of {total} vCPUs");
                self.agent.devices().vcpus = total;
                self.reply_if(id, total <= self.most_vcpus, Reply::VcpusAdded, "vCPUs");
            }
            Request::Plugged => self.reply(id, Ok(Reply::Plugged { bytes: self.plugged }), None),
            Request::Connect { .. } if self.is(BREAK_THEN_PANIC) => self.end(EndReason::Panic),
            Request::Connect { port: ports::RPC_PORT } => {
                let stream = self.agent.rpc();
                self.reply(id, Ok(Reply::Connected), Some(stream));
            }
            Request::Connect { port: ports::STREAM_PORT } => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                self.agent.stream(ours);
                self.reply(id, Ok(Reply::Connected), Some(theirs));
            }
            Request::Connect { port } => {
                self.reply(id, Err(Failure { message: format!("nobody listens on port {port}") }), None);
            }
            Request::Stop => {
                self.reply(id, Ok(Reply::Stopping), None);
                self.end(EndReason::Stopped);
            }
            other => self.reply(id, Err(Failure { message: format!("no {other:?} here") }), None),
        }
    }

    fn launch(&mut self, id: RequestId, launch: Launch, descriptors: Vec<OwnedFd>) {
        self.command_line = launch.command_line;
        self.most_vcpus = launch.most_vcpus;
        eprintln!("fake VMM of {} disks", launch.disks.len());
        let writable = launch.disks.iter().filter(|disk| !disk.read_only).count();
        // /dev/kvm, kernel, initramfs, the image's two files, the scratch disk.
        if descriptors.len() != 6 || launch.disks.len() != 2 || writable != 1 || self.is(REFUSE_LAUNCH) {
            self.reply(id, Err(Failure { message: "the kernel is no ELF file".to_owned() }), None);
            return;
        }
        if self.is(KILLED_AT_LAUNCH) {
            std::process::abort();
        }
        let stamps = vec![Stamp { step: "fake memory mapped".to_owned(), at: 1 }];
        self.reply(id, Ok(Reply::Launched { stamps, clock_behind: 0 }), None);
    }

    fn boot(&mut self, port: u32) {
        if self.is(PANIC_AT_BOOT) {
            self.end(EndReason::Panic);
        }
        let (agents, hosts) = UnixStream::pair().unwrap();
        self.event(Event::Incoming { port }, Some(hosts));
        if self.is(NOT_READY) {
            self.silent.push(agents);
        } else if !self.is(BREAK_THEN_PANIC) {
            self.agent.tell_events_to(agents);
        }
    }

    fn reply_if(&self, request: RequestId, done: bool, reply: Reply, of: &str) {
        let refusal = Failure { message: format!("{of} cannot come or go") };
        self.reply(request, done.then_some(reply).ok_or(refusal), None);
    }

    fn reply(&self, request: RequestId, result: Result<Reply, Failure>, stream: Option<UnixStream>) {
        self.send(&Message::Reply { request, result }, stream);
    }

    fn event(&self, event: Event, stream: Option<UnixStream>) {
        self.send(&Message::Event(event), stream);
    }

    fn send(&self, message: &Message, stream: Option<UnixStream>) {
        let descriptors: Vec<_> = stream.iter().map(AsFd::as_fd).collect();
        // A supervisor that is gone shows at the next receive.
        let _ = self.control.send(message, &descriptors);
    }

    fn end(&self, reason: EndReason) -> ! {
        let code = reason.exit_code() as i32;
        let console = "Kernel panic - not syncing: fake\n".to_owned();
        let exits = BTreeMap::from([("io".to_owned(), 3)]);
        self.event(Event::Ended(End { reason, console, exits }), None);
        std::process::exit(code)
    }
}
