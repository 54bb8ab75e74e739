//! Packets in guest memory (virtio 1.3 §5.10.6).
//!
//! Read by hand: the virtio-vsock crate takes a payload in one descriptor only, while a driver may cut a
//! packet as it likes (§2.7.4).

use crate::virtio::chain::Run;

/// The host's address (§5.10.4).
pub(super) const HOST_CID: u64 = 2;

/// VIRTIO_VSOCK_TYPE_STREAM.
pub(super) const TYPE_STREAM: u16 = 1;

/// The place of a packet in a descriptor chain.
pub(super) struct Packet<'m> {
    header: Run<'m>,
    /// All the room behind the header, of which a packet need not fill all.
    pub(super) payload: Run<'m>,
}

impl<'m> Packet<'m> {
    /// `None` where there is no room for a header.
    pub(super) fn of(buffers: &Run<'m>) -> Option<Self> {
        let (header, payload) = buffers.split_at(Header::SIZE as u64)?;
        Some(Self { header, payload })
    }

    /// A copy of the header: the guest may change the original.
    pub(super) fn header(&self) -> Option<Header> {
        Some(Header::from_bytes(&self.header.copy_out()?))
    }

    /// Writes the header. Says how long the packet is.
    pub(super) fn set_header(&self, header: Header) -> u32 {
        self.header.copy_in(&header.to_bytes());
        header.len.saturating_add(Header::LENGTH)
    }
}

/// What a packet is for (§5.10.6). Other numbers come from a guest too.
pub(super) mod op {
    pub(in super::super) const REQUEST: u16 = 1;
    pub(in super::super) const RESPONSE: u16 = 2;
    pub(in super::super) const RST: u16 = 3;
    pub(in super::super) const SHUTDOWN: u16 = 4;
    pub(in super::super) const RW: u16 = 5;
    pub(in super::super) const CREDIT_UPDATE: u16 = 6;
    pub(in super::super) const CREDIT_REQUEST: u16 = 7;
}

/// The directions a SHUTDOWN packet ends, as its sender sees them (§5.10.6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shutdown {
    /// The sender receives no more.
    pub(super) receive: bool,
    /// The sender sends no more.
    pub(super) send: bool,
}

impl Shutdown {
    pub(super) const BOTH: Self = Self { receive: true, send: true };

    pub(super) fn from_flags(flags: u32) -> Self {
        Self { receive: flags & 1 != 0, send: flags & 2 != 0 }
    }

    pub(super) fn flags(self) -> u32 {
        u32::from(self.receive) | u32::from(self.send) << 1
    }

    /// What either of the two ends.
    pub(super) fn and(self, other: Self) -> Self {
        Self { receive: self.receive || other.receive, send: self.send || other.send }
    }
}

/// The ports that name a connection; there is one host and one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// Of the payload, in bytes.
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Header {
    const SIZE: usize = 44;
    const LENGTH: u32 = 44;

    pub(super) fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let mut rest = bytes.as_slice();
        Self {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, self.src_cid.to_le_bytes());
        put(&mut rest, self.dst_cid.to_le_bytes());
        put(&mut rest, self.src_port.to_le_bytes());
        put(&mut rest, self.dst_port.to_le_bytes());
        put(&mut rest, self.len.to_le_bytes());
        put(&mut rest, self.kind.to_le_bytes());
        put(&mut rest, self.op.to_le_bytes());
        put(&mut rest, self.flags.to_le_bytes());
        put(&mut rest, self.buf_alloc.to_le_bytes());
        put(&mut rest, self.fwd_cnt.to_le_bytes());
        bytes
    }

    /// The connection a packet from the guest belongs to.
    pub(super) fn ports(&self) -> Ports {
        Ports { host: self.dst_port, guest: self.src_port }
    }

    /// The reset that answers this packet, from the address it was sent to.
    pub(super) fn refusal(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            len: 0,
            kind: self.kind,
            op: op::RST,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        }
    }
}

/// The next field; zeroes where there is none, which a header of full length never shows.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk() {
        Some((field, after)) => {
            *rest = after;
            *field
        }
        None => [0; N],
    }
}

fn put<const N: usize>(rest: &mut &mut [u8], field: [u8; N]) {
    if let Some((place, after)) = std::mem::take(rest).split_first_chunk_mut() {
        *place = field;
        *rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let header = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: 0x1111_2222,
            dst_port: 1024,
            len: 5,
            kind: TYPE_STREAM,
            op: op::RW,
            flags: 3,
            buf_alloc: 0x4_0000,
            fwd_cnt: 7,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[8..16], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..20], [0x22, 0x22, 0x11, 0x11]);
        assert_eq!(bytes[20..28], [0, 4, 0, 0, 5, 0, 0, 0]);
        assert_eq!(bytes[28..32], [1, 0, 5, 0]);
        assert_eq!(bytes[32..44], [3, 0, 0, 0, 0, 0, 4, 0, 7, 0, 0, 0]);
        assert_eq!(Header::from_bytes(&bytes), header);
    }
}
