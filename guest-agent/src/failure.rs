//! What stopped a container or a process from being made, as the contract tells it.

use std::error::Error;

use agent_api::agent;
use agent_api::agent::{Cause, Phase};

use crate::container::launch::LaunchError;
use crate::container::user::UserError;
use crate::error_chain;
use crate::helper::protocol::{ProgramCause, Report};

/// A failure in `phase`, in the words of `error` and its causes.
pub(crate) fn at(phase: Phase, error: &dyn Error) -> agent::Failure {
    with_cause(phase, Cause::CAUSE_OTHER, error_chain::describe(error))
}

/// The user could not be looked up.
pub(crate) fn of_user(error: &UserError) -> agent::Failure {
    let cause = match error {
        UserError::UnknownUser(_) | UserError::UnknownGroup(_) => Cause::CAUSE_UNKNOWN_USER,
        UserError::Unreadable { .. } => Cause::CAUSE_OTHER,
    };
    with_cause(Phase::PHASE_USER, cause, error_chain::describe(error))
}

/// The process could not be made, or not execute its program.
pub(crate) fn of_launch(error: &LaunchError) -> agent::Failure {
    match error {
        LaunchError::Program(report) => of_program(report),
        error => at(Phase::PHASE_CREATE, error),
    }
}

/// The program could not be executed.
pub(crate) fn of_program(report: &Report) -> agent::Failure {
    let cause = match report.cause {
        ProgramCause::NotFound => Cause::CAUSE_COMMAND_NOT_FOUND,
        ProgramCause::NotExecutable => Cause::CAUSE_COMMAND_NOT_EXECUTABLE,
        ProgramCause::Other => Cause::CAUSE_OTHER,
    };
    with_cause(Phase::PHASE_START, cause, report.message.clone())
}

fn with_cause(phase: Phase, cause: Cause, message: String) -> agent::Failure {
    agent::Failure { phase: phase.into(), cause: cause.into(), message, ..Default::default() }
}
