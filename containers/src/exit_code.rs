//! What Bulkhead's exit code says, as with Docker.

use sandbox::{Cause, CreateError};

/// Bulkhead itself failed, or was asked for what cannot be.
pub const FAILED: u8 = 125;

/// The command was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;

/// The command was not found.
pub const NOT_FOUND: u8 = 127;

/// For a process that could not be made.
pub fn of_create_error(error: &CreateError) -> u8 {
    match error.cause() {
        Cause::CAUSE_COMMAND_NOT_FOUND => NOT_FOUND,
        Cause::CAUSE_COMMAND_NOT_EXECUTABLE => NOT_EXECUTABLE,
        Cause::CAUSE_OTHER | Cause::CAUSE_UNKNOWN_USER => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use sandbox::Phase;

    use super::*;

    #[test]
    fn a_command_that_cannot_run_has_codes_of_its_own() {
        for (cause, code) in [
            (Cause::CAUSE_COMMAND_NOT_FOUND, 127),
            (Cause::CAUSE_COMMAND_NOT_EXECUTABLE, 126),
            (Cause::CAUSE_UNKNOWN_USER, 125),
            (Cause::CAUSE_OTHER, 125),
        ] {
            let error = CreateError::Refused { phase: Phase::PHASE_START, cause, message: String::new() };
            assert_eq!(of_create_error(&error), code);
        }
    }
}
