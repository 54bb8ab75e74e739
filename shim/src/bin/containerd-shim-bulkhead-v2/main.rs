//! containerd's way to microVMs: its shim protocol, version 2.
//!
//! containerd runs this program with `start` in a container's bundle and gets the address of a socket, on which a process
//! that stays ([`serve`]) answers calls of the Task API for that container, and for all others of its pod. Where that process
//! is lost, `delete` leaves nothing of it. [`tasks`] and what is below it know what containerd expects of a task; [`backend`]
//! is the little they ask of a pod.

mod arguments;
mod backend;
mod bootstrap;
mod calls;
mod delete;
mod descriptors;
mod events;
mod failure;
mod fields;
mod hooks;
mod info;
mod keeper;
mod log;
mod metrics;
mod pod;
mod pod_config;
mod process;
mod sandbox_service;
mod serve;
mod shim_cgroup;
mod socket;
mod stand_in;
mod start;
mod stdio;
mod task;
mod task_service;
mod tasks;
mod timestamp;

use std::error::Error;
use std::process::ExitCode;

use arguments::{Action, Arguments};

/// The name by which containerd knows this runtime.
const RUNTIME: &str = "io.containerd.bulkhead.v2";

/// The name by which containerd finds the program.
const PROGRAM: &str = "containerd-shim-bulkhead-v2";

/// Where containerd takes events.
const TTRPC_ADDRESS_VARIABLE: &str = "TTRPC_ADDRESS";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows what `start` and `delete` say as the reason.
            eprintln!("{RUNTIME}: {}", shim::describe(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse(std::env::args_os().skip(1))?;
    if arguments.version {
        return Ok(info::print_version()?);
    }
    if arguments.info {
        return Ok(info::print_info()?);
    }
    match arguments.action {
        Action::Start => start::start(&arguments)?,
        Action::Delete => delete::delete(&arguments)?,
        Action::Serve => serve::serve(arguments)?,
    }
    Ok(())
}
