//! The supervisor's requests to the running VM, and its end: the main thread's loop.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use vmm_api::{ControlSocket, EndReason, Failure, Message, ReceiveError, Reply, Request, RequestId, Share};

use crate::add_vcpus::add_vcpus;
use crate::error_chain::in_words;
use crate::launch::{DiskPart, NetPart, check_place, check_tag, only_descriptor, two_descriptors};
use crate::resize;
use crate::save;
use crate::start::Running;
use crate::working_set;

/// Serves the supervisor until the VM has to end.
pub fn serve(control: &Arc<ControlSocket>, running: &mut Running) -> EndReason {
    let ending = Arc::clone(&running.machine.ending);
    loop {
        if let Some(reason) = ending.reason() {
            return reason.clone();
        }
        let served = match wait(control, running) {
            Ok(Next::Request) => serve_one(control, running),
            Ok(Next::Copied) => tell_copied(control, running),
            Ok(Next::Resized) => tell_resized(control, running),
            Ok(Next::Nothing) => Ok(()),
            Err(error) => {
                let message = format!("cannot wait for the supervisor: {error}");
                Err(EndReason::Internal { message })
            }
        };
        if let Err(reason) = served {
            ending.end(reason);
        }
    }
}

#[derive(Clone, Copy)]
enum Next {
    Request,
    /// A copy of memory has come to its end.
    Copied,
    /// The guest has as much memory as it was to have.
    Resized,
    /// The VM ends, or a signal came.
    Nothing,
}

fn wait(control: &ControlSocket, running: &Running) -> std::io::Result<Next> {
    let copying = running.copying.as_ref().map(|(_, copy)| (copy.as_fd(), Next::Copied));
    let resizing = running.resizing.map(|_| (running.devices.mem.as_fd(), Next::Resized));
    // In the order in which they are served.
    let first = [(running.machine.ending.as_fd(), Next::Nothing), (control.as_fd(), Next::Request)];
    let sources: Vec<_> = first.into_iter().chain(copying).chain(resizing).collect();
    let watch = |(source, _): &(_, _)| PollFd::from_borrowed_fd(*source, PollFlags::IN);
    let mut watched: Vec<_> = sources.iter().map(watch).collect();
    match poll(&mut watched, None) {
        Err(rustix::io::Errno::INTR) => return Ok(Next::Nothing),
        outcome => outcome?,
    };
    let mut ready = sources.iter().zip(&watched).filter(|(_, watched)| !watched.revents().is_empty());
    Ok(ready.next().map_or(Next::Nothing, |((_, next), _)| *next))
}

fn tell_copied(control: &ControlSocket, running: &mut Running) -> Result<(), EndReason> {
    let Some((id, copy)) = running.copying.take() else { return Ok(()) };
    let result = match copy.finish() {
        Ok(()) => Ok(Reply::Saved),
        Err(error) => Err(failure(format!("cannot write the VM's memory: {error}"))),
    };
    reply(control, id, result).map_err(|error| lost(&error))
}

/// Answers the request the guest has followed. What it may have followed is one before.
fn tell_resized(control: &ControlSocket, running: &mut Running) -> Result<(), EndReason> {
    let mem = &running.devices.mem;
    if !mem.has_followed() {
        return Ok(());
    }
    tell_plugged(control, running.resizing.take(), mem.plugged())
}

fn tell_plugged(control: &ControlSocket, to: Option<RequestId>, bytes: u64) -> Result<(), EndReason> {
    let Some(id) = to else { return Ok(()) };
    reply(control, id, Ok(Reply::Plugged { bytes })).map_err(|error| lost(&error))
}

fn serve_one(control: &Arc<ControlSocket>, running: &mut Running) -> Result<(), EndReason> {
    let ((id, request), descriptors) = control.receive::<(RequestId, Request)>().map_err(hangup)?;
    match answer(id, request, descriptors, running) {
        Answer::Now(result) => reply(control, id, result).map_err(|error| lost(&error))?,
        Answer::Later => {}
        Answer::Resizing => {
            let before = running.resizing.replace(id);
            tell_plugged(control, before, running.devices.mem.plugged())?;
        }
        Answer::Stop => {
            reply(control, id, Ok(Reply::Stopping)).map_err(|error| lost(&error))?;
            return Err(EndReason::Stopped);
        }
    }
    Ok(())
}

enum Answer {
    Now(Result<Reply, Failure>),
    /// The vsock device answers once the guest has, or this module once memory is copied.
    Later,
    /// This module answers once the guest has as much memory as it is to have.
    Resizing,
    Stop,
}

fn answer(id: RequestId, request: Request, descriptors: Vec<OwnedFd>, running: &mut Running) -> Answer {
    Answer::Now(match request {
        Request::Launch(_) | Request::Resume(_) => Err(failure("the VM runs already")),
        Request::Save { state } => only_descriptor(state, descriptors, "the VM's state")
            .map_err(|error| failure(in_words(&error)))
            .and_then(|file| save::save(running, &file).map_err(|error| failure(in_words(&error))))
            .map(|()| Reply::Saved),
        Request::Hold => save::hold(running).map(|()| Reply::Held).map_err(|error| failure(in_words(&error))),
        Request::Release => {
            save::release(running);
            Ok(Reply::Released)
        }
        Request::Snapshot { state, memory } => {
            let files = two_descriptors([state, memory], descriptors, ["the VM's state", "its memory"]);
            let begun = files.map_err(|error| failure(in_words(&error))).and_then(|[state, memory]| {
                save::snapshot(running, &state, &memory).map_err(|error| failure(in_words(&error)))
            });
            match begun {
                Ok(copy) => {
                    running.copying = Some((id, copy));
                    return Answer::Later;
                }
                Err(failure) => {
                    save::release(running);
                    Err(failure)
                }
            }
        }
        Request::Written => working_set::written(running)
            .map(|pages| Reply::Written { pages })
            .map_err(|error| failure(in_words(&error))),
        // Its devices' threads would not answer.
        Request::AddDisk(_)
        | Request::AddPlace(_)
        | Request::RemoveDisk { .. }
        | Request::AddNet(_)
        | Request::RemoveNet { .. }
        | Request::AddShare(_)
        | Request::Resize { .. }
        | Request::AddVcpus { .. }
            if running.standing.is_some() =>
        {
            Err(failure("the VM is being saved"))
        }
        Request::AddDisk(disk) => DiskPart::new(disk, descriptors)
            .map_err(|error| failure(in_words(&error)))
            .and_then(|disk| {
                running.devices.add_disk(&running.machine, disk).map_err(|error| failure(in_words(&error)))
            })
            .map(|_| Reply::DiskAdded),
        Request::AddPlace(place) => check_place(&place)
            .map_err(|error| failure(in_words(&error)))
            .and_then(|()| running.add_place(place).map_err(|error| failure(in_words(&error))))
            .map(|()| Reply::DiskAdded),
        Request::AddNet(net) => NetPart::new(net, descriptors)
            .map_err(|error| failure(in_words(&error)))
            .and_then(|net| {
                running.devices.nets.add(&running.machine, net).map_err(|error| failure(in_words(&error)))
            })
            .map(|()| Reply::NetAdded),
        Request::RemoveNet { name } => running
            .devices
            .nets
            .remove(&running.machine, &name)
            .map(|()| Reply::NetRemoved)
            .map_err(|error| failure(in_words(&error))),
        Request::AddShare(Share { tag, server }) => check_tag(&tag)
            .and_then(|()| only_descriptor(server, descriptors, "the file server"))
            .map_err(|error| failure(in_words(&error)))
            .and_then(|server| {
                let added = running.devices.add_share(&running.machine, tag, server);
                added.map_err(|error| failure(in_words(&error)))
            })
            .map(|()| Reply::ShareAdded),
        Request::RemoveDisk { serial } => running
            .devices
            .remove_disk(&running.machine, &serial)
            .map(|()| Reply::DiskRemoved)
            .map_err(|error| failure(in_words(&error))),
        Request::Connect { port } => {
            running.devices.vsock.connect(id, port);
            return Answer::Later;
        }
        Request::Listen { port } => {
            running.devices.vsock.listen(port);
            Ok(Reply::Listening)
        }
        Request::Resize { plugged } => match resize::resize(running, plugged) {
            Ok(()) => return Answer::Resizing,
            Err(error) => Err(failure(in_words(&error))),
        },
        Request::Plugged => Ok(Reply::Plugged { bytes: running.devices.mem.plugged() }),
        Request::AddVcpus { total } => {
            add_vcpus(running, total).map(|()| Reply::VcpusAdded).map_err(|error| failure(in_words(&error)))
        }
        Request::Console => Ok(Reply::Console { tail: running.machine.console.tail() }),
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
