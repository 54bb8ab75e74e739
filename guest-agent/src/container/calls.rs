//! The calls about a container that are no business of its processes: what it uses, and its files.
//!
//! The actor only says what there is; the work is done here, in a task or thread of each caller's own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use agent_api::agent::{
    ChangesRequest, ExportRequest, PathStat, ProcessesResponse, ReadArchiveRequest, StatsResponse,
    UpdateRequest, WriteArchiveRequest,
};
use rustix::net::{Shutdown, shutdown};
use tokio::task::spawn_blocking;

use super::actor::Command;
use super::archive::{self, ArchiveError, Options};
use super::cgroup::CgroupError;
use super::view::View;
use super::{CallError, Containers, processes, resources, stats};
use crate::error_chain;

impl Containers {
    /// Stops a container's processes where they are; they stand when this returns.
    pub async fn pause(&self, id: &str) -> Result<(), CallError> {
        let cgroup = self.ask(id, |reply| Command::Running { reply }).await?;
        if cgroup.is_frozen() {
            return Err(CallError::WrongState("the container is paused already".to_owned()));
        }
        Ok(cgroup.freeze().await?)
    }

    pub async fn resume(&self, id: &str) -> Result<(), CallError> {
        let cgroup = self.ask(id, |reply| Command::Running { reply }).await?;
        if !cgroup.is_frozen() {
            return Err(CallError::WrongState("the container is not paused".to_owned()));
        }
        Ok(cgroup.thaw()?)
    }

    /// Changes what a container may use.
    pub async fn update(&self, request: UpdateRequest) -> Result<(), CallError> {
        let cgroup = self.ask(&request.container_id, |reply| Command::Cgroup { reply }).await?;
        blocking(move || Ok(resources::update(&cgroup, &request.resources_json)?)).await
    }

    pub async fn stats(&self, id: &str) -> Result<StatsResponse, CallError> {
        let cgroup = self.ask(id, |reply| Command::Cgroup { reply }).await?;
        Ok(stats::read(&cgroup)?)
    }

    pub async fn processes(&self, id: &str) -> Result<ProcessesResponse, CallError> {
        let cgroup = self.ask(id, |reply| Command::Cgroup { reply }).await?;
        blocking(move || Ok(processes::list(&cgroup)?)).await
    }

    /// What is at a path of the container; `None` if nothing is.
    pub async fn stat_path(&self, id: &str, path: String) -> Result<Option<PathStat>, CallError> {
        let view = self.view(id).await?;
        blocking(move || Ok(archive::stat(&view.root()?, &path)?)).await
    }

    pub async fn read_archive(&self, request: ReadArchiveRequest) -> Result<(), CallError> {
        let stream = self.claim(request.stream).await?;
        let view = self.view(&request.container_id).await?;
        blocking(move || write_to(stream, |out| archive::write_path(&view.root()?, &request.path, out))).await
    }

    pub async fn write_archive(&self, request: WriteArchiveRequest) -> Result<(), CallError> {
        let stream = self.claim(request.stream).await?;
        let view = self.view(&request.container_id).await?;
        let options = Options { keep_kind: request.keep_kind, keep_owner: request.keep_owner };
        blocking(move || {
            Ok(archive::extract(&view.root()?, &request.path, File::from(blocking_end(stream)?), options)?)
        })
        .await
    }

    pub async fn changes(&self, request: ChangesRequest) -> Result<(), CallError> {
        let stream = self.claim(request.stream).await?;
        let view = self.view(&request.container_id).await?;
        blocking(move || {
            let (upper, lower) = (view.sides.open_upper()?, view.sides.open_lower()?);
            write_to(stream, |out| archive::list_changes(upper, lower, out))
        })
        .await
    }

    pub async fn export(&self, request: ExportRequest) -> Result<(), CallError> {
        let stream = self.claim(request.stream).await?;
        let view = self.view(&request.container_id).await?;
        blocking(move || {
            if !request.changes_only {
                return write_to(stream, |out| archive::write_all(&view.disks()?, out));
            }
            let (upper, lower) = (view.sides.open_upper()?, view.sides.open_lower()?);
            write_to(stream, |out| archive::write_layer(upper, lower, out))
        })
        .await
    }

    pub(super) async fn view(&self, id: &str) -> Result<View, CallError> {
        self.ask(id, |reply| Command::View { reply }).await
    }

    /// Claimed before anything can fail, so that the host does not wait for a stream nobody wants.
    async fn claim(&self, stream: u64) -> Result<OwnedFd, CallError> {
        let claimed = self.environment.streams.claim(stream).await;
        claimed.map_err(|error| CallError::BadArgument(error_chain::describe(&error)))
    }
}

/// Runs what blocks on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::from(panic).into()))
}

/// Writes to the stream, and ends it.
fn write_to(stream: OwnedFd, write: impl FnOnce(&File) -> Result<(), ArchiveError>) -> Result<(), CallError> {
    let stream = File::from(blocking_end(stream)?);
    write(&stream)?;
    Ok(shutdown(&stream, Shutdown::Write).map_err(io::Error::from)?)
}

fn blocking_end(stream: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&stream, false)?;
    Ok(stream)
}

impl From<CgroupError> for CallError {
    fn from(error: CgroupError) -> Self {
        Self::Internal(error_chain::describe(&error))
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::Internal(error_chain::describe(&error))
    }
}
