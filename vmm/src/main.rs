//! `bulkhead-vmm`: one virtual machine, for the supervisor at the other end of its control socket.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use vmm::stamps::Stamps;
use vmm::{control, jail, launch::Parts, start};
use vmm_api::{CONTROL_FD, ControlSocket, End, EndReason, Event, Message, Reply, Request, RequestId};

fn main() -> ExitCode {
    let mut stamps = Stamps::default();
    stamps.mark("process");
    let control = match take_control_socket() {
        Ok(control) => Arc::new(control),
        Err(error) => {
            eprintln!("bulkhead-vmm: descriptor {CONTROL_FD} has to be the control socket: {error}");
            return exit_code(&EndReason::Launch { message: String::new() });
        }
    };
    let end = run(&control, &mut stamps);
    let code = exit_code(&end.reason);
    // A supervisor that is gone reads the exit code, or nothing.
    let _ = control.send(&Message::Event(Event::Ended(end)), &[]);
    code
}

/// From the launch description to the end of the VM.
fn run(control: &Arc<ControlSocket>, stamps: &mut Stamps) -> End {
    let started = receive_launch(control).and_then(|(id, parts)| {
        Ok((id, start::start(parts, control, stamps).map_err(|error| EndReason::from(&error))?))
    });
    let (id, mut running) = match started {
        Ok(started) => started,
        Err(reason) => return End { reason, console: String::new(), exits: BTreeMap::new() },
    };
    let launched = Reply::Launched { stamps: stamps.take() };
    let reason = match control::reply(control, id, Ok(launched)) {
        Ok(()) => control::serve(control, &running.machine, &mut running.devices),
        Err(_) => EndReason::Stopped,
    };
    running.stop().end(reason)
}

fn receive_launch(control: &ControlSocket) -> Result<(RequestId, Parts), EndReason> {
    let ((id, request), descriptors) = control.receive::<(RequestId, Request)>().map_err(control::hangup)?;
    let Request::Launch(launch) = request else {
        return Err(EndReason::Launch { message: "the first request has to be the launch".to_owned() });
    };
    let parts =
        Parts::new(launch, descriptors).map_err(|error| EndReason::Launch { message: error.to_string() })?;
    Ok((id, parts))
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
