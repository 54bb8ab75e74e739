//! Makes a further process in a running container.

use std::fs;
use std::io;
use std::path::Path;

use agent_api::agent::{ExecRequest, Failure, Phase};
use tokio::task::spawn_blocking;

use super::Environment;
use super::in_root::InRoot;
use super::launch::{Launched, LaunchedProcess};
use super::spec::{self, SpecError};
use super::stdio::{self, Carriage, ProcessSide};
use super::user::UserError;
use crate::failure;

/// A process that executes its program.
pub(super) struct Executed {
    pub process: LaunchedProcess,
    pub carriage: Carriage,
}

/// Runs the process in the container that was made as `made_as` and whose bundle is `bundle_dir`.
pub(super) async fn exec(
    environment: &Environment,
    made_as: &str,
    bundle_dir: &Path,
    rootfs: &Path,
    request: ExecRequest,
) -> Result<Executed, Failure> {
    let stdio_request = request.stdio.clone().unwrap_or_default();
    let host_ends = stdio::claim(&environment.streams, &stdio_request)
        .await
        .map_err(|error| failure::at(Phase::PHASE_REQUEST, &error))?;
    let name = format!("exec-{}", request.exec_id);
    let process_file = bundle_dir.join(format!("{name}.json"));
    let (file, rootfs) = (process_file.clone(), rootfs.to_owned());
    spawn_blocking(move || write_process(&file, &rootfs, &request))
        .await
        .unwrap_or_else(|panic| Err(ProcessError::Write(panic.into())))
        .map_err(|error| error.failure())?;
    let launched = async {
        let side = ProcessSide::make(&stdio_request, bundle_dir)?;
        environment.launcher.tenant(made_as, bundle_dir, &process_file, side).await
    }
    .await;
    // What stays is removed with the container's directory.
    let _ = fs::remove_file(&process_file);
    let Launched { process, attached, .. } = launched.map_err(|error| failure::of_launch(&error))?;
    // Nobody attaches again to what was executed: streams that the guest's copying takes away have no successors.
    let (carriage, _) =
        Carriage::start(host_ends, attached).map_err(|error| failure::at(Phase::PHASE_CREATE, &error))?;
    Ok(Executed { process, carriage })
}

#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("cannot write the process")]
    Write(#[from] io::Error),
}

impl ProcessError {
    fn failure(&self) -> Failure {
        match self {
            Self::Spec(error) => failure::at(Phase::PHASE_REQUEST, error),
            Self::User(error) => failure::of_user(error),
            Self::Write(_) => failure::at(Phase::PHASE_CREATE, self),
        }
    }
}

fn write_process(file: &Path, rootfs: &Path, request: &ExecRequest) -> Result<(), ProcessError> {
    let mut process = spec::parse_process(&request.process_json)?;
    let root = InRoot::open(rootfs)?;
    let terminal = request.stdio.as_ref().is_some_and(|stdio| stdio.terminal.is_some());
    spec::settle_user(&root, &request.user, &mut process, terminal)?;
    fs::write(file, serde_json::to_vec(&process).map_err(io::Error::from)?)?;
    Ok(())
}
