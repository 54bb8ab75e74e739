//! Stands in for the pods of branch main until they are merged.

use std::sync::Arc;

use oci_spec::runtime::{LinuxResources, Process as ProcessSpec};
use sandbox::{
    ContainerConfig, Ended, ExecConfig, Guest, GuestStats, Installation, Label, Process, Processes, Sandbox,
    SandboxConfig, StateDir, Stdio, Streams, Timeline,
};

use crate::bundle::Bundle;

#[derive(Debug, Clone)]
pub struct Host {
    pub installation: Installation,
    pub state: StateDir,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodId {
    pub namespace: String,
    pub id: String,
}

pub struct FsMount;

pub struct Pod {
    sandbox: Sandbox,
}

pub struct Container {
    id: String,
    process: Process,
    guest: Guest,
}

#[derive(Debug, thiserror::Error)]
pub enum PodError {
    #[error(transparent)]
    Installation(#[from] sandbox::InstallationError),
    #[error(transparent)]
    Record(#[from] sandbox::RecordError),
    #[error(transparent)]
    Launch(#[from] sandbox::LaunchError),
    #[error(transparent)]
    Create(#[from] sandbox::CreateError),
    #[error(transparent)]
    Guest(#[from] sandbox::GuestError),
}

impl Host {
    pub fn find() -> Result<Self, PodError> {
        Ok(Self { installation: Installation::find()?, state: StateDir::open()? })
    }
}

impl Pod {
    pub async fn launch(
        host: &Host,
        id: &PodId,
        bundle: &Bundle,
        timeline: &Timeline,
    ) -> Result<Self, PodError> {
        let label = Label {
            id: id.id.clone(),
            name: id.id.clone(),
            image: String::new(),
            command: Vec::new(),
            process: bundle.spec.process().clone().unwrap_or_default(),
            user: String::new(),
        };
        let config = SandboxConfig {
            label,
            hostname: String::new(),
            vcpus: 1,
            memory_limit: None,
            image: Vec::new(),
            scratch: None,
            limits: Default::default(),
            from: None,
            cgroup_parent: None,
            network: None,
            shares: false,
        };
        Ok(Self { sandbox: Sandbox::launch(&host.installation, &host.state, config, timeline).await? })
    }

    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    pub async fn create(
        &self,
        id: &str,
        bundle: &Bundle,
        _rootfs: &[FsMount],
        stdio: Stdio,
    ) -> Result<(Container, Streams), PodError> {
        let guest = self.sandbox.guest().clone();
        let config = ContainerConfig {
            id: id.to_owned(),
            spec: bundle.spec.clone(),
            seccomp: None,
            rootfs: self.sandbox.rootfs().clone(),
            stdio,
            user: String::new(),
            files: Vec::new(),
            init: false,
        };
        let (process, streams) = guest.create_container(config).await?;
        Ok((Container { id: id.to_owned(), process, guest }, streams))
    }

    pub async fn start(&self, container: &Container) -> Result<(), PodError> {
        Ok(container.process.start().await?)
    }

    pub async fn remove(&self, container: Container) -> Result<(), PodError> {
        Ok(container.guest.remove_container(&container.id).await?)
    }

    pub async fn ended(&self) -> Arc<Ended> {
        self.sandbox.ended().await
    }

    pub async fn stop(self) -> Arc<Ended> {
        self.sandbox.stop().await
    }
}

impl Container {
    pub fn process(&self) -> &Process {
        &self.process
    }

    pub async fn exec(
        &self,
        exec_id: &str,
        process: ProcessSpec,
        stdio: Stdio,
    ) -> Result<(Process, Streams), PodError> {
        let config = ExecConfig {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            process,
            stdio,
            user: String::new(),
        };
        Ok(self.guest.exec(config).await?)
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

    pub async fn update(&self, _resources: LinuxResources) -> Result<(), PodError> {
        Ok(())
    }
}
