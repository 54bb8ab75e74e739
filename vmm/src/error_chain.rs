//! An error and what caused it, in one line for a person.

use std::error::Error;
use std::fmt::Write;

pub fn in_words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String does not fail.
        let _ = write!(words, ": {cause}");
        source = cause.source();
    }
    words
}
