//! The supervisor's requests to the running VM, and its end: the main thread's loop.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use vmm_api::{ControlSocket, EndReason, Failure, Message, ReceiveError, Reply, Request, RequestId};

use crate::ending::Ending;
use crate::error_chain::in_words;
use crate::launch::{DiskPart, only_descriptor};
use crate::save::save;
use crate::start::Running;

/// Serves the supervisor until the VM has to end.
pub fn serve(control: &Arc<ControlSocket>, running: &mut Running) -> EndReason {
    let ending = Arc::clone(&running.machine.ending);
    loop {
        if let Some(reason) = ending.reason() {
            return reason.clone();
        }
        match wait(control, &ending) {
            Ok(true) => {
                if let Err(reason) = serve_one(control, running) {
                    ending.end(reason);
                }
            }
            Ok(false) => {}
            Err(error) => {
                let message = format!("cannot wait for the supervisor: {error}");
                ending.end(EndReason::Internal { message });
            }
        }
    }
}

/// Whether there is a request; if not, the VM ends, or a signal came.
fn wait(control: &ControlSocket, ending: &Ending) -> std::io::Result<bool> {
    let mut sources =
        [PollFd::new(ending, PollFlags::IN), PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)];
    match poll(&mut sources, None) {
        Err(rustix::io::Errno::INTR) => return Ok(false),
        outcome => outcome?,
    };
    let [ended, request] = sources.map(|source| !source.revents().is_empty());
    Ok(request && !ended)
}

fn serve_one(control: &Arc<ControlSocket>, running: &mut Running) -> Result<(), EndReason> {
    let ((id, request), descriptors) = control.receive::<(RequestId, Request)>().map_err(hangup)?;
    match answer(id, request, descriptors, running) {
        Answer::Now(result) => reply(control, id, result).map_err(|error| lost(&error))?,
        Answer::Later => {}
        Answer::Stop => {
            reply(control, id, Ok(Reply::Stopping)).map_err(|error| lost(&error))?;
            return Err(EndReason::Stopped);
        }
    }
    Ok(())
}

enum Answer {
    Now(Result<Reply, Failure>),
    /// The vsock device answers once the guest has.
    Later,
    Stop,
}

fn answer(id: RequestId, request: Request, descriptors: Vec<OwnedFd>, running: &mut Running) -> Answer {
    let Running { machine, devices, .. } = &mut *running;
    Answer::Now(match request {
        Request::Launch(_) | Request::Resume(_) => Err(failure("the VM runs already")),
        Request::Save { state } => only_descriptor(state, descriptors, "the VM's state")
            .map_err(|error| failure(in_words(&error)))
            .and_then(|file| save(running, &file).map_err(|error| failure(in_words(&error))))
            .map(|()| Reply::Saved),
        Request::AddDisk(disk) => DiskPart::new(disk, descriptors)
            .map_err(|error| failure(in_words(&error)))
            .and_then(|disk| devices.add_disk(machine, disk).map_err(|error| failure(in_words(&error))))
            .map(|()| Reply::DiskAdded),
        Request::RemoveDisk { serial } => devices
            .remove_disk(machine, &serial)
            .map(|()| Reply::DiskRemoved)
            .map_err(|error| failure(in_words(&error))),
        Request::Connect { port } => {
            devices.vsock.connect(id, port);
            return Answer::Later;
        }
        Request::Listen { port } => {
            devices.vsock.listen(port);
            Ok(Reply::Listening)
        }
        Request::Console => Ok(Reply::Console { tail: machine.console.tail() }),
        Request::Stop => return Answer::Stop,
    })
}

/// Sends a reply that carries no descriptor.
pub fn reply(
    control: &ControlSocket,
    request: RequestId,
    result: Result<Reply, Failure>,
) -> Result<(), vmm_api::SendError> {
    control.send(&Message::Reply { request, result }, &[])
}

pub fn failure(message: impl Into<String>) -> Failure {
    Failure { message: message.into() }
}

/// Why the VM ends when the supervisor cannot be heard any more.
pub fn hangup(error: ReceiveError) -> EndReason {
    match error {
        ReceiveError::Closed => EndReason::Stopped,
        // A supervisor that died with messages unread resets the connection.
        ReceiveError::Socket(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            EndReason::Stopped
        }
        error => EndReason::Internal { message: in_words(&error) },
    }
}

/// Why the VM ends when the supervisor cannot be told any more.
fn lost(error: &vmm_api::SendError) -> EndReason {
    match error {
        vmm_api::SendError::Socket(_) => EndReason::Stopped,
        other => EndReason::Internal { message: in_words(other) },
    }
}
