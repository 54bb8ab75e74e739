//! Where the guest's vsock streams go: to the supervisor, over the control socket.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use vmm_api::{ControlSocket, Event, Message, Reply, RequestId};

use crate::control::{failure, reply};
use crate::error_chain::in_words;
use crate::virtio::vsock::{ConnectError, StreamSink};

/// A supervisor that is gone is noticed by the control loop, so that what cannot be sent is dropped here.
pub struct ToSupervisor {
    control: Arc<ControlSocket>,
}

impl ToSupervisor {
    pub fn new(control: Arc<ControlSocket>) -> Self {
        Self { control }
    }
}

impl StreamSink for ToSupervisor {
    fn incoming(&self, port: u32, stream: OwnedFd) {
        let _ = self.control.send(&Message::Event(Event::Incoming { port }), &[stream.as_fd()]);
    }

    fn connected(&self, request: RequestId, result: Result<OwnedFd, ConnectError>) {
        let _ = match result {
            Ok(stream) => self
                .control
                .send(&Message::Reply { request, result: Ok(Reply::Connected) }, &[stream.as_fd()]),
            Err(error) => reply(&self.control, request, Err(failure(in_words(&error)))),
        };
    }
}
