//! What a VM is started from, and the request that says so.

use std::os::fd::OwnedFd;

use agent_api::ports;
use vmm_api::{Disk, Identity, Launch, PageRange, Request, Resume};

use super::error::LaunchError;
use super::{open, open_kvm};
use crate::disks::Descriptors;
use crate::installation::Installation;
use crate::kernel_arguments::command_line;
use crate::templates::{SavedFiles, Shape, Template, WorkingSet};

/// All there is to a sandbox's VM.
pub(super) struct Source<'a> {
    pub(super) installation: &'a Installation,
    pub(super) shape: Shape,
    pub(super) disks: Vec<Disk>,
    /// Of the disks.
    pub(super) files: Descriptors,
    pub(super) identity: Option<Identity>,
}

/// A VMM's first request.
pub(super) struct Start {
    pub(super) request: Request,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Source<'_> {
    /// Boots.
    pub(super) fn launch(&self) -> Result<Start, LaunchError> {
        let mut descriptors = self.files.duplicate().map_err(LaunchError::Duplicate)?;
        let launch = Launch {
            disks: self.disks.clone(),
            ..machine(self.installation, self.shape, self.identity, &mut descriptors)?
        };
        Ok(Start { request: Request::Launch(launch), descriptors: descriptors.passed })
    }

    /// Goes on from a template.
    pub(super) fn clone_template(&self, template: Template) -> Result<Start, LaunchError> {
        let (ahead, log_writes) = match template.working_set {
            WorkingSet::Known(pages) => (pages, false),
            WorkingSet::Unknown(_) => (Vec::new(), true),
        };
        self.resume(template.files, ahead, log_writes)
    }

    /// Goes on from a copy.
    pub(super) fn go_on_from(&self, saved: SavedFiles) -> Result<Start, LaunchError> {
        self.resume(saved, Vec::new(), false)
    }

    fn resume(
        &self,
        saved: SavedFiles,
        ahead: Vec<PageRange>,
        log_writes: bool,
    ) -> Result<Start, LaunchError> {
        let mut descriptors = self.files.duplicate().map_err(LaunchError::Duplicate)?;
        let resume = Resume {
            kvm: descriptors.add(open_kvm(&self.installation.kvm)?),
            vcpus: self.shape.vcpus,
            memory_size: self.shape.memory,
            state: descriptors.add(saved.state),
            memory: descriptors.add(saved.memory),
            disks: self.disks.clone(),
            // The guest finds its event stream gone at once, and opens another.
            listen: vec![ports::EVENT_PORT],
            ahead,
            log_writes,
            identity: self.identity,
        };
        Ok(Start { request: Request::Resume(resume), descriptors: descriptors.passed })
    }
}

/// A machine of this shape without disks, to be booted.
pub(super) fn machine(
    installation: &Installation,
    shape: Shape,
    identity: Option<Identity>,
    descriptors: &mut Descriptors,
) -> Result<Launch, LaunchError> {
    Ok(Launch {
        kvm: descriptors.add(open_kvm(&installation.kvm)?),
        kernel: descriptors.add(open(&installation.kernel)?),
        initramfs: descriptors.add(open(&installation.initramfs)?),
        command_line: command_line(shape.vcpus, &installation.kernel_arguments),
        vcpus: shape.vcpus,
        most_vcpus: shape.most_vcpus,
        memory: shape.memory,
        disks: Vec::new(),
        memory_file: None,
        identity,
    })
}
