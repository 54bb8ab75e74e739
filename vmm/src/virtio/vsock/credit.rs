//! Credit-based flow control (virtio 1.3 §5.10.6.3): each side sends no more than the other has room for.

use std::num::Wrapping;

use super::packet::Header;

/// How much of a guest's data one connection holds while its host reader is slow, in bytes.
pub(super) const BUF_ALLOC: u32 = 128 * 1024;

/// The guest learns of freed room at the latest when this much of it is news.
const NEWS: u32 = BUF_ALLOC / 2;

/// The guest sent more than it was told there is room for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// Both directions of one connection. Counters are free-running, as in the packets.
#[derive(Debug, Default)]
pub(super) struct Credit {
    guest_alloc: u32,
    guest_forwarded: Wrapping<u32>,
    sent: Wrapping<u32>,
    received: Wrapping<u32>,
    forwarded: Wrapping<u32>,
    told: Wrapping<u32>,
}

impl Credit {
    /// Takes over what each of the guest's packets tells of its room.
    pub(super) fn hear(&mut self, header: &Header) {
        self.guest_alloc = header.buf_alloc;
        self.guest_forwarded = Wrapping(header.fwd_cnt);
    }

    /// How much the guest has room for. A guest whose counters contradict ours has none.
    pub(super) fn room(&self) -> u32 {
        self.guest_alloc.saturating_sub((self.sent - self.guest_forwarded).0)
    }

    /// `length` bytes went to the guest.
    pub(super) fn send(&mut self, length: u32) {
        self.sent += length;
    }

    /// `length` bytes came from the guest.
    pub(super) fn receive(&mut self, length: u32) -> Result<(), Overrun> {
        let held = (self.received - self.forwarded).0;
        if length > BUF_ALLOC.saturating_sub(held) {
            return Err(Overrun);
        }
        self.received += length;
        Ok(())
    }

    /// `length` of the bytes received need room no more.
    pub(super) fn forward(&mut self, length: u32) {
        self.forwarded += length;
    }

    /// Whether the guest should be told of room even if there is nothing else to tell it.
    pub(super) fn has_news(&self) -> bool {
        (self.forwarded - self.told).0 >= NEWS
    }

    /// The `fwd_cnt` of a packet that goes to the guest now.
    pub(super) fn tell(&mut self) -> u32 {
        self.told = self.forwarded;
        self.forwarded.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::vsock::packet::Header;

    fn from_guest(buf_alloc: u32, fwd_cnt: u32) -> Header {
        Header { buf_alloc, fwd_cnt, ..Header::from_bytes(&[0; 44]) }
    }

    #[test]
    fn room_shrinks_with_what_is_sent_and_returns_with_what_is_read() {
        let mut credit = Credit::default();
        assert_eq!(credit.room(), 0);
        credit.hear(&from_guest(100, 0));
        credit.send(70);
        assert_eq!(credit.room(), 30);
        credit.hear(&from_guest(100, 70));
        assert_eq!(credit.room(), 100);
    }

    #[test]
    fn a_guest_that_claims_to_have_read_what_was_not_sent_gets_nothing() {
        let mut credit = Credit::default();
        credit.hear(&from_guest(u32::MAX - 1, 1));
        assert_eq!(credit.room(), 0);
    }

    #[test]
    fn counters_wrap() {
        let mut credit = Credit { sent: Wrapping(u32::MAX - 9), ..Credit::default() };
        credit.hear(&from_guest(100, u32::MAX - 9));
        credit.send(20);
        assert_eq!(credit.room(), 80);
        credit.hear(&from_guest(100, 10));
        assert_eq!(credit.room(), 100);
    }

    #[test]
    fn more_than_the_room_told_is_an_overrun() {
        let mut credit = Credit::default();
        assert_eq!(credit.receive(BUF_ALLOC), Ok(()));
        assert_eq!(credit.receive(1), Err(Overrun));
        credit.forward(1);
        assert_eq!(credit.receive(1), Ok(()));
    }

    #[test]
    fn freed_room_becomes_news_and_telling_ends_it() {
        let mut credit = Credit::default();
        credit.receive(NEWS).unwrap();
        credit.forward(NEWS - 1);
        assert!(!credit.has_news());
        credit.forward(1);
        assert!(credit.has_news());
        assert_eq!(credit.tell(), NEWS);
        assert!(!credit.has_news());
    }
}
