//! The helper: this binary, run again, to make a container or a process in one.
//!
//! libcontainer clones processes that go on running Rust code, which only a process with a single thread and
//! nothing else on its hands may do. So the agent spawns itself, with a socket as stdin over which the request
//! and the descriptors travel ([`protocol`]); the helper drives libcontainer ([`launch`]), answers, and stays
//! until the agent has noted the new process, whose parent it is. The new process ends in [`program`], which
//! executes what was asked for and reports what stops it.

mod error_log;
mod launch;
mod privileges;
mod program;
pub mod protocol;

use std::process::ExitCode;

/// The argument that makes this binary a helper.
pub const ARGUMENT: &str = "launch-helper";

/// Serves the one request that waits on stdin, or comes there later.
pub fn main() -> ExitCode {
    match protocol::HelperEnd::on_stdin().and_then(launch::serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::log::warn(format_args!("helper: {error}"));
            ExitCode::FAILURE
        }
    }
}
