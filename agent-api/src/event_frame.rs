//! How [`Event`]s travel on their connection: each behind its length, 4 bytes little-endian.
//!
//! The reader owns the socket; it feeds what arrived to a [`Decoder`] and takes whole events out. Nothing
//! here reads or writes, so that both ends may use the kind of I/O they like.

use protobuf::Message;

use crate::agent::Event;

/// The longest encoded event either side accepts, in bytes, without its length prefix.
pub const MAX_EVENT_LEN: usize = 64 * 1024;

const PREFIX_LEN: usize = 4;

/// Why bytes are not an event, or an event cannot become bytes. The connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("an event of {0} bytes is longer than the {MAX_EVENT_LEN} allowed")]
    TooLong(usize),
    #[error("not an event of the agent's contract")]
    Malformed(#[from] protobuf::Error),
}

/// The bytes of one event, length prefix included.
pub fn encode(event: &Event) -> Result<Vec<u8>, FrameError> {
    let body = event.write_to_bytes()?;
    if body.len() > MAX_EVENT_LEN {
        return Err(FrameError::TooLong(body.len()));
    }
    let len = u32::try_from(body.len()).map_err(|_| FrameError::TooLong(body.len()))?;
    let mut frame = Vec::with_capacity(PREFIX_LEN + body.len());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Cuts a byte stream into events. Holds at most one unfinished event beyond what it was last fed.
#[derive(Default)]
pub struct Decoder {
    buffered: Vec<u8>,
}

impl Decoder {
    /// Takes in the next bytes of the connection. Call [`Decoder::next_event`] until it gives `None` before
    /// feeding more, so that the buffer stays bounded.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffered.extend_from_slice(bytes);
    }

    /// The next whole event, or `None` until more bytes are fed.
    pub fn next_event(&mut self) -> Result<Option<Event>, FrameError> {
        let Some(prefix) = self.buffered.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > MAX_EVENT_LEN {
            return Err(FrameError::TooLong(len));
        }
        let Some(body) = self.buffered.get(PREFIX_LEN..PREFIX_LEN + len) else { return Ok(None) };
        let event = Event::parse_from_bytes(body)?;
        self.buffered.drain(..PREFIX_LEN + len);
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::{Exit, Ready};

    fn exit(container_id: &str, code: u32) -> Event {
        let mut event = Event::new();
        event.set_exit(Exit { container_id: container_id.to_owned(), code, ..Default::default() });
        event
    }

    proptest! {
        #[test]
        fn events_survive_any_cutting(
            codes in prop::collection::vec(any::<u32>(), 0..20),
            chunk in 1_usize..40,
        ) {
            let sent: Vec<_> = codes.iter().map(|code| exit("c", *code)).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|event| encode(event).unwrap()).collect();
            let mut decoder = Decoder::default();
            let mut received = Vec::new();
            for piece in bytes.chunks(chunk) {
                decoder.feed(piece);
                while let Some(event) = decoder.next_event().unwrap() {
                    received.push(event);
                }
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_event() {}
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_its_body_arrives() {
        let mut decoder = Decoder::default();
        decoder.feed(&(MAX_EVENT_LEN as u32 + 1).to_le_bytes());
        assert!(matches!(decoder.next_event(), Err(FrameError::TooLong(_))));
        assert!(matches!(encode(&exit(&"x".repeat(MAX_EVENT_LEN), 0)), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn the_frame_on_the_wire_is_length_then_message() {
        let mut event = Event::new();
        event.set_ready(Ready { since_boot_ns: 1, ..Default::default() });
        assert_eq!(encode(&event).unwrap(), [4, 0, 0, 0, 0x0a, 2, 0x08, 1]);
    }
}
