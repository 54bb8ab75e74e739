//! From the kernel's hands to a system that can run containers.

mod kernel;
mod mounts;

use std::io;

use crate::container::{self, CgroupError, DevicesError};

#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("cannot make the root file system a mount of its own")]
    Root(#[source] io::Error),
    #[error("cannot mount {at}")]
    Mount { at: &'static str, source: io::Error },
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    #[error(transparent)]
    Devices(#[from] DevicesError),
    #[error("cannot bring the loopback interface up")]
    Loopback(#[source] io::Error),
}

/// Everything that comes before the runtime. This process is PID 1 and alone.
pub fn prepare() -> Result<(), BootError> {
    mounts::leave_initial_rootfs().map_err(BootError::Root)?;
    mounts::mount_all()?;
    container::prepare_cgroups()?;
    container::load_usual_devices()?;
    kernel::bring_loopback_up().map_err(BootError::Loopback)?;
    kernel::set_limits();
    kernel::set_parameters();
    Ok(())
}
