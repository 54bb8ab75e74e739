//! `bulkhead-vmm`: one virtual machine, for the supervisor at the other end of its control socket.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use vmm::launch::{DescriptionError, Parts, SavedParts};
use vmm::stamps::Stamps;
use vmm::start::{self, Running};
use vmm::{control, jail};
use vmm_api::{CONTROL_FD, ControlSocket, End, EndReason, Event, Message, Reply, Request, RequestId};

fn main() -> ExitCode {
    let mut stamps = Stamps::default();
    stamps.mark("process");
    jail::open_no_files();
    let control = match take_control_socket() {
        Ok(control) => Arc::new(control),
        Err(error) => {
            eprintln!("bulkhead-vmm: descriptor {CONTROL_FD} has to be the control socket: {error}");
            return exit_code(&EndReason::Launch { message: String::new() });
        }
    };
    let (end, _remains) = run(&control, &mut stamps);
    let code = exit_code(&end.reason);
    // A supervisor that is gone reads the exit code, or nothing.
    let _ = control.send(&Message::Event(Event::Ended(end)), &[]);
    // What the VM has takes a while to give back, and the supervisor may have better to do first.
    while control.receive::<(RequestId, Request)>().is_ok() {}
    code
}

/// From the first request to the end of the VM; with what is left of it.
fn run(control: &Arc<ControlSocket>, stamps: &mut Stamps) -> (End, Option<Running>) {
    let (id, mut running) = match begin(control, stamps) {
        Ok(begun) => begun,
        Err(reason) => return (End { reason, console: String::new(), exits: BTreeMap::new() }, None),
    };
    let launched = Reply::Launched { stamps: stamps.take(), clock_behind: running.clock_behind };
    let reason = match control::reply(control, id, Ok(launched)) {
        Ok(()) => control::serve(control, &mut running),
        Err(_) => EndReason::Stopped,
    };
    running.stop();
    (running.machine.end(reason), Some(running))
}

fn begin(control: &Arc<ControlSocket>, stamps: &mut Stamps) -> Result<(RequestId, Running), EndReason> {
    let ((id, request), descriptors) = control.receive::<(RequestId, Request)>().map_err(control::hangup)?;
    let refused = |error: DescriptionError| EndReason::Launch { message: error.to_string() };
    let running = match request {
        Request::Launch(launch) => {
            start::start(Parts::new(launch, descriptors).map_err(refused)?, control, stamps)
        }
        Request::Resume(resume) => {
            start::resume(SavedParts::new(resume, descriptors).map_err(refused)?, control, stamps)
        }
        _ => {
            let message = "the first request has to be a launch or a resume".to_owned();
            return Err(EndReason::Launch { message });
        }
    };
    running.map(|running| (id, running)).map_err(|error| EndReason::from(&error))
}

/// Keeps of the inherited descriptors the control socket only, and makes room in the descriptor table
/// while there is one thread: growing it later waits for all of them.
fn take_control_socket() -> std::io::Result<ControlSocket> {
    const ROOM: i32 = 511;
    jail::close_inherited()?;
    // SAFETY: nothing else in this process owns the descriptor, which the supervisor put there; if it is
    // not open, the first use says so.
    let socket = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    rustix::net::sockopt::socket_type(&socket)?;
    drop(rustix::io::fcntl_dupfd_cloexec(&socket, ROOM)?);
    Ok(ControlSocket::from(socket))
}

fn exit_code(reason: &EndReason) -> ExitCode {
    ExitCode::from(reason.exit_code() as u8)
}
