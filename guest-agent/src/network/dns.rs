//! As much of DNS messages (RFC 1035 §4) as is needed to carry them from streams, which they may fill, to datagrams, which
//! they may not.

/// A message's id, flags and counts (RFC 1035 §4.1.1).
const HEADER_LEN: usize = 12;

/// What a datagram has room for when nothing is said of it (RFC 1035 §4.2.1).
const PLAIN_LIMIT: usize = 512;

/// The answer was cut (RFC 1035 §4.1.1).
const TC: u8 = 0x02;

/// RFC 6891 §6.1.1.
const OPT: u16 = 41;

/// The message behind its length (RFC 1035 §4.2.2); `None` if it is longer than that can say.
pub(super) fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes(), message].concat())
}

/// The answer as it fits a datagram for who asked: if need be with the question alone, and word that there is more.
pub(super) fn fit(query: &[u8], mut answer: Vec<u8>) -> Vec<u8> {
    if answer.len() <= limit(query) {
        return answer;
    }
    let questions = end_of_questions(&answer).filter(|end| *end <= PLAIN_LIMIT);
    let Some(header) = answer.first_chunk_mut::<HEADER_LEN>() else { return answer };
    let [_, _, flags, _, _, _, counts @ ..] = header;
    *flags |= TC;
    *counts = [0; 6];
    if questions.is_none() {
        let [_, _, _, _, question_count @ .., _, _, _, _, _, _] = header;
        *question_count = [0; 2];
    }
    answer.truncate(questions.unwrap_or(HEADER_LEN));
    answer
}

/// The longest datagram that who asks takes.
fn limit(query: &[u8]) -> usize {
    announced_limit(query).map_or(PLAIN_LIMIT, |announced| usize::from(announced).max(PLAIN_LIMIT))
}

/// Of a query, which has no records but the one that says so: of the root, of type OPT, with the limit as its class.
fn announced_limit(query: &[u8]) -> Option<u16> {
    let rest = query.get(end_of_questions(query)?..)?;
    match *rest.first_chunk::<5>()? {
        [0, kind @ .., high, low] if u16::from_be_bytes(kind) == OPT => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

fn end_of_questions(message: &[u8]) -> Option<usize> {
    let [_, _, _, _, count @ .., _, _, _, _, _, _] = *message.first_chunk::<HEADER_LEN>()?;
    let mut at = HEADER_LEN;
    for _ in 0..u16::from_be_bytes(count) {
        at = end_of_name(message, at)?.checked_add(4)?;
    }
    (at <= message.len()).then_some(at)
}

fn end_of_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        at = match length {
            0 => return Some(at + 1),
            // A pointer ends it (RFC 1035 §4.1.4).
            0xc0.. => return Some(at + 2),
            length => at + 1 + usize::from(length),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(additional: &[u8]) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!additional.is_empty())];
        query.extend(b"\x07example\x03org\x00\x00\x01\x00\x01");
        query.extend(additional);
        query
    }

    fn answer(length: usize) -> Vec<u8> {
        let mut answer = query(&[]);
        answer[2] |= 0x80;
        answer[7] = 40;
        answer.resize(length, 0xaa);
        answer
    }

    #[test]
    fn a_long_answer_is_cut_for_who_does_not_take_it() {
        let cut = fit(&query(&[]), answer(513));
        let mut expected = query(&[]);
        expected[2] |= 0x80 | TC;
        assert_eq!(cut, expected);
        assert_eq!(fit(&query(&[]), answer(512)), answer(512));
        let large = query(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(fit(&large, answer(1232)), answer(1232));
        assert_eq!(fit(&large, answer(1233)).len(), query(&[]).len());
    }

    #[test]
    fn a_message_is_behind_its_length() {
        assert_eq!(frame(b"abc").unwrap(), b"\x00\x03abc");
        assert_eq!(frame(&[0; 65536]), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_made_to_fit(
            query in prop::collection::vec(any::<u8>(), 0..64),
            answer in prop::collection::vec(any::<u8>(), 0..2048),
        ) {
            let limit = limit(&query);
            prop_assert!(fit(&query, answer).len() <= limit);
        }
    }
}
