//! A container's files at hand, whether it runs or not: the guest it runs in, or a VM for the work alone.

use std::error::Error;

use sandbox::{
    AttachError, Attached, CreateError, Guest, GuestError, LaunchError, Sandbox, SandboxConfig, ScratchError,
};

use crate::config::Config;
use crate::container::Container;
use crate::containers::{Claimed, ContainersError};
use crate::disk::scratch;
use crate::supervise::{Host, label};

/// What the VM has that is there for files alone, in bytes: their cache.
const MEMORY: u64 = 256 << 20;

/// A container whose files can be read and written.
pub struct Entered {
    container: Container,
    guest: Guest,
    /// Of one that does not run: locked, and in a VM of its own.
    stopped: Option<(Claimed, Sandbox)>,
    /// Of one that runs: holds the way to its guest open.
    _attached: Option<Attached>,
}

#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("container {0} is removed when it ends, and so has no files but while it runs")]
    NoDisk(String),
    #[error(
        "container {0} is a copy that has not run yet, whose memory fits its disk as it is; start it first"
    )]
    Copy(String),
    #[error("cannot open image {image}")]
    Image { image: String, source: Box<dyn Error + Send + Sync> },
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("cannot mount the disks of container {name}")]
    Mount { name: String, source: CreateError },
    #[error("cannot unmount the disks of container {name}")]
    Unmount { name: String, source: GuestError },
}

impl Entered {
    /// Enters a container. Leave it with [`leave`](Self::leave): what was written into one that does not run is
    /// on its disk for sure only then.
    pub async fn enter(host: &Host<'_>, container: &Container) -> Result<Self, EnterError> {
        if container.status().state.is_running() {
            let attached = Attached::open(host.containers.state(), container.id()).await?;
            let guest = attached.guest().clone();
            return Ok(Self {
                container: container.clone(),
                guest,
                stopped: None,
                _attached: Some(attached),
            });
        }
        let claimed = host.containers.claim(container)?;
        match launch(host, claimed.container()).await {
            Ok(sandbox) => Ok(Self {
                container: claimed.container().clone(),
                guest: sandbox.guest().clone(),
                stopped: Some((claimed, sandbox)),
                _attached: None,
            }),
            Err(error) => {
                claimed.release()?;
                Err(error)
            }
        }
    }

    pub fn container(&self) -> &Container {
        &self.container
    }

    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Whether processes run in it that may change its files meanwhile.
    pub fn is_running(&self) -> bool {
        self.stopped.is_none()
    }

    /// The work is done. Of a container that does not run, the disk is whole and the VM gone afterwards.
    pub async fn leave(self) -> Result<(), EnterError> {
        let Some((claimed, sandbox)) = self.stopped else { return Ok(()) };
        let unmounted = sandbox.guest().remove_container(self.container.id()).await;
        sandbox.stop().await;
        claimed.release()?;
        unmounted.map_err(|source| EnterError::Unmount { name: self.container.name().to_owned(), source })
    }
}

async fn launch(host: &Host<'_>, container: &Container) -> Result<Sandbox, EnterError> {
    let config = container.config();
    let sandbox_config = sandbox_config(host, container)?;
    let state = host.containers.state();
    let sandbox = Sandbox::launch(host.installation, state, sandbox_config, host.timeline).await?;
    let mounted = sandbox.guest().mount_container(&config.id, sandbox.rootfs().clone()).await;
    match mounted {
        Ok(()) => Ok(sandbox),
        Err(source) => {
            sandbox.stop().await;
            Err(EnterError::Mount { name: config.name.clone(), source })
        }
    }
}

/// A VM just large enough to look after files.
fn sandbox_config(host: &Host<'_>, container: &Container) -> Result<SandboxConfig, EnterError> {
    let config: &Config = container.config();
    if !config.keeps_disk {
        return Err(EnterError::NoDisk(config.name.clone()));
    }
    if container.origin().is_some() {
        return Err(EnterError::Copy(config.name.clone()));
    }
    let image = (host.open_image)(config)
        .map_err(|source| EnterError::Image { image: config.image.name.clone(), source })?;
    Ok(SandboxConfig {
        label: label(config),
        hostname: config.hostname.clone(),
        vcpus: 1,
        memory_limit: Some(MEMORY),
        image,
        scratch: Some(scratch(host, container)),
        limits: Default::default(),
        cgroup_parent: None,
        network: None,
        shares: false,
        from: None,
    })
}
