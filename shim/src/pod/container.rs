//! A container of a pod, once it is made.

use oci_spec::runtime::{Process as ProcessSpec, Spec};
use sandbox::{ExecConfig, Guest, GuestStats, Process, Processes, Stdio, Streams};

use super::PodError;
use super::files::Given;
use crate::guest_spec::leave_out_the_hosts;

pub struct Container {
    pub(super) id: String,
    pub(super) process: Process,
    pub(super) guest: Guest,
    pub(super) given: Given,
    pub(super) spec: Spec,
}

impl Container {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its own process, to be waited for and sent signals.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Whether its root or a device of it is a disk of the host.
    pub fn has_disks(&self) -> bool {
        self.given.has_disks()
    }

    /// Runs a further process; it runs when this returns.
    pub async fn exec(
        &self,
        exec_id: &str,
        mut process: ProcessSpec,
        stdio: Stdio,
    ) -> Result<(Process, Streams), PodError> {
        leave_out_the_hosts(&mut process);
        let program = process.args().as_ref().and_then(|arguments| arguments.first().cloned());
        let config = ExecConfig {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            process,
            stdio,
            user: String::new(),
        };
        self.guest.exec(config).await.map_err(|error| PodError::process(error, program.as_ref()))
    }

    pub async fn pause(&self) -> Result<(), PodError> {
        Ok(self.guest.pause(&self.id).await?)
    }

    pub async fn resume(&self) -> Result<(), PodError> {
        Ok(self.guest.resume(&self.id).await?)
    }

    pub async fn stats(&self) -> Result<GuestStats, PodError> {
        Ok(self.guest.stats(&self.id).await?)
    }

    pub async fn processes(&self) -> Result<Processes, PodError> {
        Ok(self.guest.processes(&self.id).await?)
    }
}
