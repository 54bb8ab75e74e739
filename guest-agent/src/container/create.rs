//! Makes a container, up to its first process waiting to be let go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_api::agent::{self, CreateContainerRequest, Failure, MountContainerRequest, Phase};
use libcontainer::oci_spec::runtime::Spec;
use protobuf::Message;
use tokio::task::spawn_blocking;

use super::Environment;
use super::cgroup::Cgroup;
use super::devices::{self, DevicesError};
use super::files::{self, FilesError};
use super::in_root::InRoot;
use super::init;
use super::launch::{Launched, LaunchedProcess, Starter};
use super::rootfs::{Rootfs, RootfsError};
use super::shared_pids::PidNamespace;
use super::spec::{self, Additions, SpecError};
use super::stdio::{self, Carriage, ProcessSide, Switches};
use super::sysctls::{self, SysctlError};
use super::user::UserError;
use crate::helper::protocol::Confinement;
use crate::{disks, error_chain, failure, log};

/// A container, with its first process or without any.
pub(super) struct Created {
    pub bundle: Bundle,
    pub cgroup: Cgroup,
    pub first: Option<FirstProcess>,
}

/// A container's first process, which waits.
pub(super) struct FirstProcess {
    pub process: LaunchedProcess,
    pub starter: Starter,
    pub carriage: Carriage,
    pub switches: Switches,
}

/// What a container has on this guest's disks: its directory, its mounts.
pub(super) struct Bundle {
    /// The id it was made under, which all that is below and libcontainer know it by for good.
    pub made_as: String,
    pub dir: PathBuf,
    pub rootfs: Rootfs,
    /// What libcontainer keeps about it.
    pub state_dir: PathBuf,
    /// The file of the seccomp filter of all its processes, if they have one.
    pub seccomp: Option<PathBuf>,
}

/// Makes the container; what was made of it is gone again should that fail.
pub(super) async fn create(
    environment: &Environment,
    request: CreateContainerRequest,
    shared_pids: Option<PidNamespace>,
) -> Result<Created, Failure> {
    let id = request.container_id.clone();
    let init = request.init;
    let stdio_request = request.stdio.clone().unwrap_or_default();
    let host_ends = stdio::claim(&environment.streams, &stdio_request)
        .await
        .map_err(|error| failure::at(Phase::PHASE_REQUEST, &error))?;
    find_disks(request.rootfs.as_ref()).await?;
    let cgroup = Cgroup::create(&id).map_err(|error| failure::at(Phase::PHASE_CREATE, &error))?;
    let made = async {
        let (bundle, confinement) =
            make_bundle(environment, request, cgroup.clone(), shared_pids.as_ref()).await?;
        let side = ProcessSide::make(&stdio_request, &bundle.dir).map_err(cannot_create)?;
        match environment.launcher.init(&id, &bundle.dir, init, confinement, side).await {
            Ok(launched) => Ok((bundle, launched)),
            Err(error) => {
                let failure = failure::of_launch(&error);
                remove_bundle(bundle).await;
                Err(failure)
            }
        }
    };
    let (bundle, launched) = match made.await {
        Ok(made) => made,
        Err(failure) => {
            remove_cgroup(&cgroup).await;
            return Err(failure);
        }
    };
    let Launched { process, attached, starter } = launched;
    match Carriage::start(host_ends, attached) {
        Ok((carriage, switches)) => {
            let first = Some(FirstProcess { process, starter, carriage, switches });
            Ok(Created { bundle, cgroup, first })
        }
        Err(error) => {
            remove_cgroup(&cgroup).await;
            remove_bundle(bundle).await;
            Err(cannot_create(error))
        }
    }
}

/// Mounts a container's disks, and makes no process.
pub(super) async fn mount(
    environment: &Environment,
    request: MountContainerRequest,
) -> Result<Created, Failure> {
    let id = request.container_id.as_str();
    find_disks(request.rootfs.as_ref()).await?;
    let cgroup = Cgroup::create(id).map_err(|error| failure::at(Phase::PHASE_CREATE, &error))?;
    let (dir, state_dir) = (environment.containers_dir.join(id), environment.launcher.state_dir.join(id));
    let (disks, made_as) = (request.rootfs.unwrap_or_default(), id.to_owned());
    let mounted = spawn_blocking(move || {
        let rootfs = mount_rootfs(&dir, &disks).inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        Ok(Bundle { made_as, dir, rootfs, state_dir, seccomp: None })
    })
    .await
    .unwrap_or_else(|panic| Err(BundleError::Write(panic.into())));
    match mounted {
        Ok(bundle) => Ok(Created { bundle, cgroup, first: None }),
        Err(error) => {
            remove_cgroup(&cgroup).await;
            Err(error.failure())
        }
    }
}

/// Those of a guest that did not boot with them are on its bus, and not looked for yet.
async fn find_disks(rootfs: Option<&agent::Rootfs>) -> Result<(), Failure> {
    let Some(rootfs) = rootfs else { return Ok(()) };
    let scratch = Some(&rootfs.scratch).filter(|serial| !serial.is_empty());
    let only = rootfs.disk.as_ref().map(|disk| &disk.serial);
    let serials: Vec<_> = rootfs.layers.iter().chain(scratch).chain(only).cloned().collect();
    disks::attach(&serials).await.map_err(|error| failure::at(Phase::PHASE_DISKS, &error))
}

fn mount_rootfs(dir: &Path, disks: &agent::Rootfs) -> Result<Rootfs, BundleError> {
    fs::create_dir_all(dir).map_err(BundleError::Write)?;
    Ok(Rootfs::mount(dir, disks)?)
}

/// Takes a container's mounts and files away; what cannot be is logged.
pub(super) async fn remove_bundle(bundle: Bundle) {
    let removed = spawn_blocking(move || {
        let Bundle { dir, rootfs, state_dir, .. } = bundle;
        rootfs.unmount().map_err(|error| error_chain::describe(&error))?;
        for path in [dir, state_dir] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("cannot remove {}: {error}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    })
    .await;
    if let Ok(Err(message)) = removed {
        log::warn(message);
    }
}

async fn remove_cgroup(cgroup: &Cgroup) {
    if let Err(error) = cgroup.remove().await {
        log::warn(error_chain::describe(&error));
    }
}

#[derive(Debug, thiserror::Error)]
enum BundleError {
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Devices(#[from] DevicesError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("cannot enter the root file system")]
    Root(#[source] io::Error),
    #[error("cannot make the working directory {path:?}")]
    Cwd { path: PathBuf, source: io::Error },
    #[error("cannot write the bundle")]
    Write(#[source] io::Error),
}

impl BundleError {
    fn failure(&self) -> Failure {
        match self {
            Self::User(error) => failure::of_user(error),
            Self::Rootfs(RootfsError::Disk(error)) => failure::at(Phase::PHASE_DISKS, error),
            Self::Rootfs(_) | Self::Root(_) | Self::Cwd { .. } => failure::at(Phase::PHASE_ROOTFS, self),
            Self::Spec(_) | Self::Files(FilesError::RelativeDestination(_)) => {
                failure::at(Phase::PHASE_REQUEST, self)
            }
            Self::Devices(_) | Self::Files(_) | Self::Sysctl(_) | Self::Write(_) => {
                failure::at(Phase::PHASE_CREATE, self)
            }
        }
    }
}

async fn make_bundle(
    environment: &Environment,
    request: CreateContainerRequest,
    cgroup: Cgroup,
    shared_pids: Option<&PidNamespace>,
) -> Result<(Bundle, Confinement), Failure> {
    let dir = environment.containers_dir.join(&request.container_id);
    let state_dir = environment.launcher.state_dir.join(&request.container_id);
    let pid_namespace = shared_pids.map(PidNamespace::path);
    // Mounts and file systems block.
    let made = spawn_blocking(move || {
        let result = fill_bundle(&dir, &request, &cgroup, pid_namespace);
        if result.is_err() {
            // Not there, or logged by whoever left something in it.
            let _ = fs::remove_dir_all(&dir);
        }
        result.map(|(rootfs, confinement)| {
            let seccomp = confinement.seccomp.clone();
            (Bundle { made_as: request.container_id, dir, rootfs, state_dir, seccomp }, confinement)
        })
    })
    .await;
    match made {
        Ok(result) => result.map_err(|error| error.failure()),
        Err(panic) => Err(cannot_create(panic.into())),
    }
}

fn fill_bundle(
    dir: &Path,
    request: &CreateContainerRequest,
    cgroup: &Cgroup,
    pid_namespace: Option<PathBuf>,
) -> Result<(Rootfs, Confinement), BundleError> {
    let mut spec = spec::parse(&request.spec_json)?;
    devices::restrict(cgroup, &spec)?;
    let disks = request.rootfs.clone().unwrap_or_default();
    let rootfs = mount_rootfs(dir, &disks)?;
    let mut mounts = files::write(dir, &request.files)?;
    if request.init {
        mounts.push(init::mount()?);
    }
    let writable = rootfs.takes_writes();
    let cgroup = &cgroup.spec_path();
    let additions = Additions { rootfs: rootfs.path(), writable, cgroup, mounts, pid_namespace };
    spec::complete(&mut spec, additions)?;
    sysctls::set(&sysctls::take(&mut spec))?;
    complete_process(&mut spec, rootfs.path(), request)?;
    let capabilities = spec.process_mut().as_mut().and_then(spec::take_capabilities);
    let seccomp = request.seccomp.as_ref().map(|filter| write_filter(dir, filter)).transpose();
    let seccomp = seccomp.map_err(BundleError::Write)?;
    spec.save(dir.join("config.json")).map_err(|error| BundleError::Write(io::Error::other(error)))?;
    Ok((rootfs, Confinement { seccomp, capabilities }))
}

fn write_filter(dir: &Path, filter: &agent::SeccompFilter) -> io::Result<PathBuf> {
    let path = dir.join("seccomp");
    fs::write(&path, filter.write_to_bytes().map_err(io::Error::other)?)?;
    Ok(path)
}

fn complete_process(
    spec: &mut Spec,
    rootfs: &Path,
    request: &CreateContainerRequest,
) -> Result<(), BundleError> {
    let root = InRoot::open(rootfs).map_err(BundleError::Root)?;
    let Some(process) = spec.process_mut() else { return Ok(()) };
    let terminal = request.stdio.as_ref().is_some_and(|stdio: &agent::Stdio| stdio.terminal.is_some());
    spec::settle_user(&root, &request.user, process, terminal)?;
    let cwd = process.cwd();
    root.create_dir_all(cwd).map_err(|source| BundleError::Cwd { path: cwd.clone(), source })
}

fn cannot_create(error: io::Error) -> Failure {
    failure::at(Phase::PHASE_CREATE, &error)
}
