//! Requests to the kernel and its answers, as bytes (netlink(7)). The little of rtnetlink(7) that the agent needs is a fraction
//! of the libraries for it, and each guest carries the agent.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::descriptor::Descriptor;

/// Linux include/uapi/linux/netlink.h.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const REPLACE: u16 = 0x100;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;

/// The kernel puts no more of an answer into one message of the socket (Linux net/netlink/af_netlink.c, netlink_dump).
const MAX_ANSWER_LEN: usize = 32 * 1024;

/// Flags and such of an attribute's type.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// A message to the kernel.
pub(super) struct Request {
    kind: u16,
    body: Vec<u8>,
}

impl Request {
    /// With what is ahead of the attributes.
    pub(super) fn new(kind: u16, fixed: &[u8]) -> Self {
        Self { kind, body: fixed.to_vec() }
    }

    /// Values are of a few bytes, all of them.
    pub(super) fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER_LEN + value.len()).unwrap_or(u16::MAX);
        self.body.extend(length.to_ne_bytes());
        self.body.extend(attribute.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(aligned(self.body.len()), 0);
        self
    }

    fn message(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER_LEN + self.body.len()).unwrap_or(u32::MAX);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(self.kind.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        // The sender: the kernel knows.
        message.extend([0; 4]);
        message.extend(&self.body);
        message
    }
}

/// In the calling thread's network namespace.
pub(super) fn open() -> io::Result<OwnedFd> {
    // Of netlink's protocols, the first: NETLINK_ROUTE.
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

/// One request at a time.
pub(super) struct Socket {
    socket: Descriptor,
    sequence: u32,
}

impl Socket {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: Descriptor::new(socket)?, sequence: 0 })
    }

    /// Changes or removes what is there.
    pub(super) async fn change(&mut self, request: &Request) -> io::Result<()> {
        self.ask(request, ACK, |_| {}).await
    }

    /// Adds something, or puts it in the place of what is there.
    pub(super) async fn put(&mut self, request: &Request) -> io::Result<()> {
        self.ask(request, ACK | CREATE | REPLACE, |_| {}).await
    }

    /// All there is of a kind.
    pub(super) async fn list<T>(
        &mut self,
        request: &Request,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        self.ask(request, DUMP, |body| found.extend(read(body))).await?;
        Ok(found)
    }

    async fn ask(
        &mut self,
        request: &Request,
        flags: u16,
        mut answered: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.write_all(&request.message(flags, self.sequence)).await?;
        let mut buffer = vec![0; MAX_ANSWER_LEN];
        loop {
            let length = self.socket.read(&mut buffer).await?;
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                match message {
                    // Of a request before this one that was given up.
                    Message { sequence, .. } if sequence != self.sequence => {}
                    Message { kind: ERROR | DONE, body, .. } => return outcome(body),
                    Message { body, .. } => answered(body),
                }
            }
        }
    }
}

/// Both ends of an answer begin with an error number, which is 0 or less.
fn outcome(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        None | Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
        let (header, body) = bytes.get(..length)?.split_at_checked(HEADER_LEN)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(Message { kind: u16_at(header, 4)?, sequence: u32_at(header, 8)?, body })
    })
}

/// The attributes of a body, behind what is ahead of them.
pub(super) fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut bytes = body.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & ATTRIBUTE_TYPE;
        let value = bytes.get(ATTRIBUTE_HEADER_LEN..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let request = Request::new(16, &[1, 2, 3, 4]).with(3, b"eth0\0").with(4, &1500_u32.to_ne_bytes());
        let bytes = [request.message(ACK, 7), request.message(ACK, 8)].concat();
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(
            read.iter().map(|message| (message.kind, message.sequence)).collect::<Vec<_>>(),
            [(16, 7), (16, 8)]
        );
        let attributes: Vec<_> = attributes(read[1].body, 4).collect();
        assert_eq!(attributes, [(3, &b"eth0\0"[..]), (4, &1500_u32.to_ne_bytes()[..])]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..256), fixed in 0..300_usize) {
            messages(&bytes).for_each(drop);
            attributes(&bytes, fixed).for_each(drop);
        }
    }
}
