//! Finds a sequence of keys in what is typed.

/// What has been typed of the sequence so far is withheld until it is something else.
#[derive(Debug)]
pub(crate) struct KeySequence {
    keys: Vec<u8>,
    matched: usize,
}

impl KeySequence {
    /// One that never comes, if it is empty.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Passes on what is not of the sequence; whether that is complete, which ends the input.
    pub(crate) fn filter(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            passed.extend_from_slice(typed);
            return false;
        }
        for key in typed {
            if self.keys.get(self.matched) == Some(key) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            passed.extend_from_slice(self.keys.get(..self.matched).unwrap_or_default());
            // It may be the first key again.
            self.matched = usize::from(self.keys.first() == Some(key));
            if self.matched == 0 {
                passed.push(*key);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = KeySequence::new(b"pq".to_vec());
        let mut passed = Vec::new();
        let complete = pieces.iter().any(|piece| keys.filter(piece, &mut passed));
        (passed, complete)
    }

    #[test]
    fn the_sequence_is_found_in_pieces_and_not_passed_on() {
        assert_eq!(filter(&[b"abpq", b"x"]), (b"ab".to_vec(), true));
        assert_eq!(filter(&[b"ap", b"q"]), (b"a".to_vec(), true));
        assert_eq!(filter(&[b"ppq"]), (b"p".to_vec(), true));
    }

    #[test]
    fn what_only_begins_like_it_is_passed_on_whole() {
        assert_eq!(filter(&[b"apb", b"p", b"c"]), (b"apbpc".to_vec(), false));
        let mut none = KeySequence::new(Vec::new());
        let mut passed = Vec::new();
        assert!(!none.filter(b"pq", &mut passed));
        assert_eq!(passed, b"pq");
    }
}
