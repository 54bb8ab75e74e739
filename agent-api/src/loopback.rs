//! What opens a connection to [`crate::ports::LOOPBACK_PORT`]: the host names a TCP port, the agent answers how connecting to
//! it on the guest's loopback went, and where it is connected, the bytes behind that are the connection's.

/// Length of what the host writes first, in bytes.
pub const REQUEST_LEN: usize = 2;

/// Length of what the agent answers, in bytes.
pub const ANSWER_LEN: usize = 4;

/// The request for TCP port `port`.
pub fn encode_request(port: u16) -> [u8; REQUEST_LEN] {
    port.to_le_bytes()
}

/// The TCP port of a request.
pub fn decode_request(request: [u8; REQUEST_LEN]) -> u16 {
    u16::from_le_bytes(request)
}

/// The answer: connected, or the error number of Linux that tells why not.
pub fn encode_answer(connected: Result<(), i32>) -> [u8; ANSWER_LEN] {
    connected.err().unwrap_or_default().to_le_bytes()
}

/// What an answer says.
pub fn decode_answer(answer: [u8; ANSWER_LEN]) -> Result<(), i32> {
    match i32::from_le_bytes(answer) {
        0 => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_what_was_asked_for() {
        for port in [0, 1, 80, 0x1234, u16::MAX] {
            assert_eq!(decode_request(encode_request(port)), port);
        }
        assert_eq!(encode_request(0x1234), [0x34, 0x12]);
    }

    #[test]
    fn an_answer_is_success_or_an_error_number() {
        for answer in [Ok(()), Err(111), Err(i32::MAX), Err(-1)] {
            assert_eq!(decode_answer(encode_answer(answer)), answer);
        }
        assert_eq!(encode_answer(Ok(())), [0; ANSWER_LEN]);
    }
}
