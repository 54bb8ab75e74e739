//! Makes a further process in a running container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_api::agent::{ExecRequest, Failure, Phase};
use libcontainer::oci_spec::runtime::LinuxCapabilities;
use tokio::task::spawn_blocking;

use super::Environment;
use super::in_root::InRoot;
use super::launch::{Launched, LaunchedProcess};
use super::spec::{self, SpecError};
use super::stdio::{self, Carriage, ProcessSide};
use super::user::UserError;
use crate::failure;
use crate::helper::protocol::Confinement;

/// What a further process has to know of its container's bundle (see [`super::create::Bundle`]).
pub(super) struct BundlePaths {
    pub made_as: String,
    pub dir: PathBuf,
    pub rootfs: PathBuf,
    pub seccomp: Option<PathBuf>,
}

/// A process that executes its program.
pub(super) struct Executed {
    pub process: LaunchedProcess,
    pub carriage: Carriage,
}

/// Runs the process in the container of the bundle.
pub(super) async fn exec(
    environment: &Environment,
    bundle: BundlePaths,
    request: ExecRequest,
) -> Result<Executed, Failure> {
    let BundlePaths { made_as, dir, rootfs, seccomp } = bundle;
    let stdio_request = request.stdio.clone().unwrap_or_default();
    let host_ends = stdio::claim(&environment.streams, &stdio_request)
        .await
        .map_err(|error| failure::at(Phase::PHASE_REQUEST, &error))?;
    let name = format!("exec-{}", request.exec_id);
    let process_file = dir.join(format!("{name}.json"));
    let file = process_file.clone();
    let capabilities = spawn_blocking(move || write_process(&file, &rootfs, &request))
        .await
        .unwrap_or_else(|panic| Err(ProcessError::Write(panic.into())))
        .map_err(|error| error.failure())?;
    let launched = async {
        let side = ProcessSide::make(&stdio_request, &dir)?;
        let confinement = Confinement { seccomp, capabilities };
        environment.launcher.tenant(&made_as, &process_file, confinement, side).await
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

/// Gives the capabilities it is to keep.
fn write_process(
    file: &Path,
    rootfs: &Path,
    request: &ExecRequest,
) -> Result<Option<LinuxCapabilities>, ProcessError> {
    let mut process = spec::parse_process(&request.process_json)?;
    let root = InRoot::open(rootfs)?;
    let terminal = request.stdio.as_ref().is_some_and(|stdio| stdio.terminal.is_some());
    spec::settle_user(&root, &request.user, &mut process, terminal)?;
    let capabilities = spec::take_capabilities(&mut process);
    fs::write(file, serde_json::to_vec(&process).map_err(io::Error::from)?)?;
    Ok(capabilities)
}
