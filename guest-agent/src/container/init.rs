//! The small init of containers that ask for one: the agent's own binary, bound into them.

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{Mount, MountBuilder};

use super::files::FilesError;
use crate::init::PATH;

/// The mount that brings it into a container, read-only.
pub(super) fn mount() -> Result<Mount, FilesError> {
    let destination = PATH.to_string_lossy().into_owned();
    let cannot = |destination: &str, source: OciSpecError| FilesError::Mount {
        destination: destination.to_owned(),
        source,
    };
    let source = std::fs::read_link("/proc/self/exe")
        .map_err(|source| FilesError::Write { destination: destination.clone(), source })?;
    MountBuilder::default()
        .destination(&destination)
        .typ("bind")
        .source(source)
        .options(["bind", "ro", "nosuid", "nodev", "rprivate"].map(str::to_owned))
        .build()
        .map_err(|source| cannot(&destination, source))
}
