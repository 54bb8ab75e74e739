//! A container's files: out, in, and what changed of them.
//!
//! Paths are looked up inside the container, whatever links it made. In one that runs or is paused, what is
//! mounted is seen as its processes see it (a tmpfs at /tmp, say); in one that does not, its disks alone are.

use std::future::Future;

use agent_api::agent::{
    ChangesRequest, ExportRequest, ReadArchiveRequest, StatPathRequest, WriteArchiveRequest,
};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UnixStream;
use ttrpc::context::Context;

use super::{Guest, GuestError};
use crate::archive::{self, Archive, ArchiveError, Change, PathStat, WriteOptions};
use crate::streams;

/// Bytes on their way into the guest at one time.
const BUFFER_LEN: usize = 64 * 1024;

impl Guest {
    /// What is at `path`, a symbolic link being itself unless the path ends in '/'; `None` if nothing is.
    pub async fn stat_path(&self, container_id: &str, path: &str) -> Result<Option<PathStat>, GuestError> {
        let request = StatPathRequest {
            container_id: container_id.to_owned(),
            path: path.to_owned(),
            ..Default::default()
        };
        let answer = self.answer(self.client.stat_path(Context::default(), &request)).await?;
        Ok(answer.stat.into_option().map(PathStat::from_agent))
    }

    /// A tar archive of the file or tree at `path`. The names in it begin with the path's last component: "."
    /// for a path that ends in "/.", which is how to copy what a directory holds without the directory.
    pub async fn read_archive(&self, container_id: &str, path: &str) -> Result<Archive, ArchiveError> {
        let (stream, id) = self.open_stream().await?;
        let request = ReadArchiveRequest {
            container_id: container_id.to_owned(),
            path: path.to_owned(),
            stream: id,
            ..Default::default()
        };
        let guest = self.clone();
        let call = async move {
            guest.answer(guest.client.read_archive(Context::default(), &request)).await.map(drop)
        };
        Ok(Archive::new(stream, call))
    }

    /// Extracts the tar archive in the directory at `path`. Fails for a directory that is missing, and leaves
    /// what it has extracted before it failed.
    pub async fn write_archive(
        &self,
        container_id: &str,
        path: &str,
        options: WriteOptions,
        source: impl AsyncRead,
    ) -> Result<(), ArchiveError> {
        let (stream, id) = self.open_stream().await?;
        let request = WriteArchiveRequest {
            container_id: container_id.to_owned(),
            path: path.to_owned(),
            stream: id,
            keep_kind: options.keep_kind,
            keep_owner: options.keep_owner,
            ..Default::default()
        };
        let call = async {
            self.answer(self.client.write_archive(Context::default(), &request)).await?;
            Ok(())
        };
        feed(source, stream, call).await
    }

    /// What differs from the image, ordered by path: as `docker diff` has it.
    pub async fn changes(&self, container_id: &str) -> Result<Vec<Change>, ArchiveError> {
        let (stream, id) = self.open_stream().await?;
        let request =
            ChangesRequest { container_id: container_id.to_owned(), stream: id, ..Default::default() };
        let guest = self.clone();
        let call =
            async move { guest.answer(guest.client.changes(Context::default(), &request)).await.map(drop) };
        archive::read_changes(Archive::new(stream, call)).await
    }

    /// A tar archive of the whole root file system, without what is mounted over it.
    pub async fn export(&self, container_id: &str) -> Result<Archive, ArchiveError> {
        self.export_as(container_id, false).await
    }

    /// What differs from the image as a layer for another one on top of it: an uncompressed tar archive with
    /// whiteouts (OCI image-spec, layer.md).
    pub async fn export_changes(&self, container_id: &str) -> Result<Archive, ArchiveError> {
        self.export_as(container_id, true).await
    }

    async fn export_as(&self, container_id: &str, changes_only: bool) -> Result<Archive, ArchiveError> {
        let (stream, id) = self.open_stream().await?;
        let request = ExportRequest {
            container_id: container_id.to_owned(),
            stream: id,
            changes_only,
            ..Default::default()
        };
        let guest = self.clone();
        let call =
            async move { guest.answer(guest.client.export(Context::default(), &request)).await.map(drop) };
        Ok(Archive::new(stream, call))
    }

    async fn open_stream(&self) -> Result<(UnixStream, u64), ArchiveError> {
        let id = streams::new_id()?;
        let stream = streams::open_one(self.dialer.as_ref(), id).await?.map_err(ArchiveError::Stream)?;
        Ok((stream, id))
    }
}

/// Copies the source into the stream until both it and the call are done, or either fails.
async fn feed(
    source: impl AsyncRead,
    mut stream: UnixStream,
    call: impl Future<Output = Result<(), ArchiveError>>,
) -> Result<(), ArchiveError> {
    let copy = async {
        tokio::pin!(source);
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            let read = tokio::io::AsyncReadExt::read(&mut source, &mut buffer).await;
            let read = read.map_err(ArchiveError::Source)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            if stream.write_all(bytes).await.is_err() {
                // The guest wants no more; its answer says why.
                break;
            }
        }
        let _ = stream.shutdown().await;
        Ok(())
    };
    tokio::try_join!(copy, call).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guest_that_takes_no_more_is_asked_why() {
        let (host, guest) = UnixStream::pair().unwrap();
        drop(guest);
        let refused = async { Err(GuestError::Refused("no space".to_owned()).into()) };
        let error = feed(&[1; 1 << 20][..], host, refused).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Guest(GuestError::Refused(why)) if why == "no space"));
    }
}
