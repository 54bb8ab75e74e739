//! Requests and replies on the control socket: one task owns it, so that nothing is locked.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

use tokio::sync::{mpsc, oneshot};
use vmm_api::{End, Event, Message, ReceiveError, Reply, Request, RequestId, SendError};

use super::{Incoming, VmmError};
use crate::control::AsyncControl;

/// Takes the reply and what descriptors came with it.
type Answer = oneshot::Sender<Result<(Reply, Vec<OwnedFd>), VmmError>>;

/// A request, and whom to tell the result.
pub(super) struct Ask {
    pub(super) request: Request,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) answer: Answer,
}

#[derive(Default)]
struct Pending {
    last: RequestId,
    answers: HashMap<RequestId, Answer>,
}

/// Carries requests and replies until the VMM says its last word (`Some`), goes without one, or nobody is
/// left to ask.
pub(super) async fn converse(
    control: &AsyncControl,
    mut asks: mpsc::Receiver<Ask>,
    incoming: mpsc::Sender<Incoming>,
) -> Result<Option<End>, ReceiveError> {
    let mut pending = Pending::default();
    loop {
        tokio::select! {
            ask = asks.recv() => match ask {
                Some(ask) => pending.send(control, ask).await,
                None => return Ok(None),
            },
            received = control.receive() => match received {
                Ok((Message::Reply { request, result }, descriptors)) => {
                    // Nobody may be waiting any more; the descriptors are closed then.
                    if let Some(answer) = pending.answers.remove(&request) {
                        let _ = answer.send(result.map(|reply| (reply, descriptors)).map_err(VmmError::from));
                    }
                }
                Ok((Message::Event(Event::Incoming { port }), descriptors)) => {
                    // A guest that opens more than is taken loses the stream, which it sees closed.
                    if let Some(stream) = descriptors.into_iter().next() {
                        let _ = incoming.try_send(Incoming { port, stream });
                    }
                }
                Ok((Message::Event(Event::Ended(end)), _)) => return Ok(Some(end)),
                // A peer that died with requests unread shows as a reset, once; its last messages follow.
                Err(ReceiveError::Socket(error)) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(ReceiveError::Closed) => return Ok(None),
                Err(error) => return Err(error),
            },
        }
    }
}

impl Pending {
    async fn send(&mut self, control: &AsyncControl, ask: Ask) {
        self.last += 1;
        let descriptors: Vec<_> = ask.descriptors.iter().map(AsFd::as_fd).collect();
        match control.send(&(self.last, &ask.request), &descriptors).await {
            Ok(()) => {
                self.answers.insert(self.last, ask.answer);
            }
            // The VMM is gone, and its end answers whoever asks: the asker learns of it when this is dropped.
            Err(SendError::Socket(_)) => {}
            Err(error) => {
                let _ = ask.answer.send(Err(error.into()));
            }
        }
    }
}
