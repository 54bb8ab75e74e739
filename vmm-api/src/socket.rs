//! The socket the messages travel on.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The most descriptors beside one message: as many as Linux takes (`SCM_MAX_FD`). An image's disk alone may be of
/// more than a hundred files.
pub const MAX_DESCRIPTORS: usize = 253;

/// One end of the control connection. Blocks or not as its descriptor is set.
#[derive(Debug)]
pub struct ControlSocket {
    socket: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("a control message of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    #[error("a control message carries {0} descriptors, more than {MAX_DESCRIPTORS}")]
    TooManyDescriptors(usize),
    #[error("cannot encode a control message")]
    Encode(#[from] serde_json::Error),
    #[error("cannot send on the control socket")]
    Socket(#[source] std::io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("the other end closed the control socket")]
    Closed,
    #[error("a control message was longer than {MAX_MESSAGE} bytes or carried too many descriptors")]
    Truncated,
    #[error("cannot decode a control message")]
    Decode(#[from] serde_json::Error),
    #[error("cannot receive on the control socket")]
    Socket(#[source] std::io::Error),
}

impl ControlSocket {
    /// Both ends of a new connection, closed on exec.
    pub fn pair() -> std::io::Result<(Self, Self)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: ours }, Self { socket: theirs }))
    }

    /// Sends one message with its descriptors.
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(SendError::TooLong(bytes.len()));
        }
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(SendError::TooManyDescriptors(descriptors.len()));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
        })
        .map_err(|error| SendError::Socket(error.into()))?;
        Ok(())
    }

    /// Receives one message with its descriptors, which are closed on exec.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<(M, Vec<OwnedFd>), ReceiveError> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })
        .map_err(|error| ReceiveError::Socket(error.into()))?;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(ReceiveError::Truncated);
        }
        // A sequenced-packet socket reads nothing once its peer is gone; no message is empty.
        if received.bytes == 0 {
            return Err(ReceiveError::Closed);
        }
        bytes.truncate(received.bytes);
        Ok((serde_json::from_slice(&bytes)?, descriptors))
    }
}

impl From<OwnedFd> for ControlSocket {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl From<ControlSocket> for OwnedFd {
    fn from(control: ControlSocket) -> Self {
        control.socket
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Message, Reply, Request};

    #[test]
    fn messages_arrive_whole_and_in_order_with_their_descriptors() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let first = (1u64, Request::Connect { port: 1024 });
        let second = (2u64, Request::Stop);
        ours.send(&first, &[ours.as_fd(), theirs.as_fd()]).unwrap();
        ours.send(&second, &[]).unwrap();
        let (got, descriptors) = theirs.receive::<(u64, Request)>().unwrap();
        assert_eq!((got, descriptors.len()), (first, 2));
        let (got, descriptors) = theirs.receive::<(u64, Request)>().unwrap();
        assert_eq!((got, descriptors.len()), (second, 0));
    }

    #[test]
    fn a_closed_peer_is_told_apart_from_an_error() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        drop(ours);
        assert!(matches!(theirs.receive::<Message>(), Err(ReceiveError::Closed)));
    }

    #[test]
    fn a_message_that_would_not_fit_is_refused_before_it_is_sent() {
        let (ours, _theirs) = ControlSocket::pair().unwrap();
        let long =
            Message::Reply { request: 1, result: Ok(Reply::Console { tail: "x".repeat(MAX_MESSAGE) }) };
        assert!(matches!(ours.send(&long, &[]), Err(SendError::TooLong(_))));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        ours.send(&"nonsense", &[]).unwrap();
        assert!(matches!(theirs.receive::<Event>(), Err(ReceiveError::Decode(_))));
    }
}
