//! What a container can be asked and told besides its processes.

use agent_api::agent::{
    MountContainerRequest, PauseRequest, ProcessesRequest, RemoveContainerRequest, ResumeRequest,
    StatsRequest, UpdateRequest,
};
use oci_spec::runtime::LinuxResources;
use protobuf::MessageField;
use ttrpc::context::Context;

use super::{Guest, GuestError};
use crate::container::{CreateError, Rootfs};
use crate::stats::{GuestStats, ProcessInfo, Processes};

impl Guest {
    /// Mounts the disks of a container that does not run, so that its files can be read and changed: archives,
    /// changes and export are for it, and [`remove_container`](Self::remove_container) in the end.
    pub async fn mount_container(&self, container_id: &str, rootfs: Rootfs) -> Result<(), CreateError> {
        let request = MountContainerRequest {
            container_id: container_id.to_owned(),
            rootfs: MessageField::some(rootfs.into()),
            ..Default::default()
        };
        let answer = self.answer(self.client.mount_container(Context::default(), &request)).await?;
        match answer.failure.into_option() {
            None => Ok(()),
            Some(failure) => Err(CreateError::refused(failure)),
        }
    }

    /// Removes a container that has ended or was only mounted. Its disks are unmounted, and so whole, when this
    /// returns.
    pub async fn remove_container(&self, container_id: &str) -> Result<(), GuestError> {
        let request = RemoveContainerRequest { container_id: container_id.to_owned(), ..Default::default() };
        self.answer(self.client.remove_container(Context::default(), &request)).await?;
        Ok(())
    }

    /// Stops every process of a running container where it is; they stand when this returns. Signals wait
    /// until [`resume`](Self::resume), save SIGKILL.
    pub async fn pause(&self, container_id: &str) -> Result<(), GuestError> {
        let request = PauseRequest { container_id: container_id.to_owned(), ..Default::default() };
        self.answer(self.client.pause(Context::default(), &request)).await?;
        Ok(())
    }

    /// Lets a paused container go on.
    pub async fn resume(&self, container_id: &str) -> Result<(), GuestError> {
        let request = ResumeRequest { container_id: container_id.to_owned(), ..Default::default() };
        self.answer(self.client.resume(Context::default(), &request)).await?;
        Ok(())
    }

    /// Changes what a running container may use; what `resources` does not name stays.
    pub async fn update(&self, container_id: &str, resources: &LinuxResources) -> Result<(), CreateError> {
        let request = UpdateRequest {
            container_id: container_id.to_owned(),
            resources_json: serde_json::to_vec(resources)?,
            ..Default::default()
        };
        self.answer(self.client.update(Context::default(), &request)).await?;
        Ok(())
    }

    /// What the container and its guest use. Not for one that was only mounted.
    pub async fn stats(&self, container_id: &str) -> Result<GuestStats, GuestError> {
        let request = StatsRequest { container_id: container_id.to_owned(), ..Default::default() };
        let answer = self.answer(self.client.stats(Context::default(), &request)).await?;
        Ok(GuestStats::from_agent(answer))
    }

    /// The processes of a container, as it sees them itself.
    pub async fn processes(&self, container_id: &str) -> Result<Processes, GuestError> {
        let request = ProcessesRequest { container_id: container_id.to_owned(), ..Default::default() };
        let answer = self.answer(self.client.processes(Context::default(), &request)).await?;
        let listed = answer.processes.into_iter().map(ProcessInfo::from_agent).collect();
        Ok(Processes { listed, more: answer.more })
    }
}
