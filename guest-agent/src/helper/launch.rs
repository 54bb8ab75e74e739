//! Has libcontainer make what was asked for.

use std::io;
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error_log::ErrorLog;
use super::privileges::Privileges;
use super::program::Program;
use super::protocol::{Answer, Confinement, Descriptors, HelperEnd, Kind, MAX_ERROR_LEN, Request, Stdio};
use crate::error_chain;

/// The file descriptors a process may have open unless its spec says otherwise: the limit login shells and
/// systemd's services start from, as select(2) cannot name more.
const SOFT_FILE_LIMIT: u64 = 1024;

#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error("cannot read the seccomp filter")]
    Filter(#[source] io::Error),
    #[error(transparent)]
    Libcontainer(#[from] LibcontainerError),
}

pub(super) fn serve(agent: HelperEnd) -> io::Result<()> {
    let mut errors = ErrorLog::install()?;
    lower_file_limit();
    let (request, descriptors) = agent.request()?;
    let answer = match launch(request, descriptors) {
        Ok(pid) => Answer::Launched { pid },
        Err(error) => Answer::Failed { message: explain(&error, errors.first()) },
    };
    agent.answer(&answer)
}

fn launch(request: Request, descriptors: Descriptors) -> Result<i32, LaunchError> {
    let Request { container_id, state_dir, kind, stdio, gated, confinement } = request;
    let Descriptors { report, gate, stdio: stdio_fds } = descriptors;
    let (console_socket, terminal_size) = match stdio {
        Stdio::Descriptors => (None, None),
        Stdio::Terminal { console_socket, size } => (Some(console_socket), size),
    };
    let Confinement { seccomp, capabilities } = confinement;
    let privileges = Privileges::new(seccomp.as_deref(), capabilities).map_err(LaunchError::Filter)?;
    let program = Program {
        report: Rc::new(report),
        gate: gated.then(|| Rc::new(gate)),
        below_init: false,
        terminal_size,
        privileges,
    };
    let mut builder = ContainerBuilder::new(container_id, SyscallType::default())
        .with_root_path(state_dir)?
        .validate_id()?
        .with_console_socket(console_socket);
    if let Some([stdin, stdout, stderr]) = stdio_fds {
        builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
    }
    match kind {
        Kind::Init { bundle, below_init } => {
            // With the gate in the program, the container may run as far as there at once.
            let mut container = builder
                .with_executor(Program { below_init, ..program })
                .as_init(bundle)
                .with_systemd(false)
                .with_detach(true)
                .build()?;
            container.start()?;
            let pid = container.pid().map_or(0, |pid| pid.as_raw());
            Ok(pid)
        }
        Kind::Tenant { process } => {
            let pid = builder
                .with_executor(program)
                .as_tenant()
                .with_detach(true)
                .with_process(Some(process))
                .build()?;
            Ok(pid.as_raw())
        }
    }
}

fn lower_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.maximum.map_or(SOFT_FILE_LIMIT, |hard| hard.min(SOFT_FILE_LIMIT));
    // Lowering a limit needs no privilege and cannot fail (setrlimit(2)).
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: limit.maximum });
}

/// The innermost cause first known, and what it stopped.
fn explain(error: &LaunchError, logged: Option<String>) -> String {
    let mut message = error_chain::describe(error);
    if let Some(logged) = logged {
        message = format!("{message} ({logged})");
    }
    let mut end = message.len().min(MAX_ERROR_LEN);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}
