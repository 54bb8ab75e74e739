//! What tasks ask of the pods below them. [`crate::pod`] answers for sandboxes; a keeper for what needs no guest; tests for
//! neither.

use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::types::mount::Mount;
use oci_spec::runtime::{LinuxResources, Process as ProcessSpec};
use sandbox::{GuestStats, SharedPids, Stdio, Streams, TerminalSize};
use shim::Bundle;

use crate::failure::Failure;

#[async_trait]
pub(crate) trait Launch: Send + Sync {
    /// Launches the pod whose first container, or only one, this bundle is.
    async fn launch(&self, id: &str, bundle: &Bundle) -> Result<Arc<dyn PodBackend>, Failure>;
}

#[async_trait]
pub(crate) trait PodBackend: Send + Sync {
    /// What clients are told of a container that is alone, or keeps the pod: gone when the VM is.
    fn pid(&self) -> u32;

    async fn create(&self, new: NewContainer) -> Result<(Arc<dyn ContainerBackend>, Streams), Failure>;

    /// Waits until the VM has ended, by itself or by [`stop`](Self::stop).
    async fn ended(&self);

    /// Leaves nothing of it.
    async fn stop(&self);
}

pub(crate) struct NewContainer {
    pub(crate) id: String,
    pub(crate) bundle: Bundle,
    pub(crate) rootfs: Vec<Mount>,
    pub(crate) stdio: Stdio,
    pub(crate) shared_pids: Option<SharedPids>,
}

#[async_trait]
pub(crate) trait ContainerBackend: Send + Sync {
    /// What clients are told is its process: no other container's of the pod.
    fn pid(&self) -> u32;

    fn process(&self) -> Arc<dyn ProcessBackend>;

    async fn start(&self) -> Result<(), Failure>;

    /// Runs a further process; it runs when this returns.
    async fn exec(
        &self,
        exec_id: &str,
        process: ProcessSpec,
        stdio: Stdio,
    ) -> Result<(Arc<dyn ProcessBackend>, Streams), Failure>;

    async fn pause(&self) -> Result<(), Failure>;

    async fn resume(&self) -> Result<(), Failure>;

    async fn stats(&self) -> Result<GuestStats, Failure>;

    async fn update(&self, resources: LinuxResources) -> Result<(), Failure>;

    /// Has all that it wrote on the disks it was given, which its guest lets go of. Its processes have ended.
    async fn give_back_disks(&self) -> Result<(), Failure>;

    /// One that never started, or has ended. Removed already, it is a success again.
    async fn remove(&self) -> Result<(), Failure>;
}

#[async_trait]
pub(crate) trait ProcessBackend: Send + Sync {
    /// Waits until it has ended and all it wrote was taken off its streams; `None`: its VM went first.
    async fn wait(&self) -> Option<sandbox::Exit>;

    async fn signal(&self, signal: u32) -> Result<(), Failure>;

    /// Every process of the container.
    async fn signal_all(&self, signal: u32) -> Result<(), Failure>;

    async fn resize(&self, size: TerminalSize) -> Result<(), Failure>;
}
