//! Tells the user what went wrong.

use std::error::Error;

use containers::error_chain::describe;

/// Prints an error and what caused it on stderr, as one message.
pub(crate) fn error(error: &dyn Error) {
    eprintln!("bulkhead: {}", describe(error));
}
