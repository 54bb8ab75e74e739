//! Takes a container over in a guest that was copied: it goes on under another name, for another host.

use std::io;
use std::os::fd::AsFd;
use std::thread;

use agent_api::agent::TakeOverRequest;
use rustix::io::Errno;
use rustix::system::sethostname;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::actor::Command;
use super::calls::blocking;
use super::view::View;
use super::{CallError, Containers, check_id, files, lock, stdio};
use crate::error_chain;

impl Containers {
    /// Gives the pid of the container's first process; 0 if it never had one.
    pub async fn take_over(&self, request: TakeOverRequest) -> Result<u32, CallError> {
        let TakeOverRequest { container_id: id, new_container_id: new_id, hostname, stdio, files, .. } =
            request;
        check_id(&new_id)?;
        // Asked here so that nothing is done in vain; what holds is what the actor finds.
        if id != new_id && lock(&self.mailboxes).contains_key(&new_id) {
            return Err(CallError::Exists(format!("container {new_id:?}")));
        }
        let view = self.ask(&id, |reply| Command::View { reply }).await?;
        let stdio = stdio.unwrap_or_default();
        let streams = stdio::claim(&self.environment.streams, &stdio)
            .await
            .map_err(|error| CallError::BadArgument(error_chain::describe(&error)))?;
        // Before the process can hear from its new host, which it may ask for its name.
        blocking(move || {
            files::rewrite(&view.dir, &files)
                .map_err(|error| CallError::BadArgument(error_chain::describe(&error)))?;
            if !hostname.is_empty() {
                set_hostname(&view, hostname)?;
            }
            Ok(())
        })
        .await?;
        let size = stdio.terminal.into_option();
        let pid = self.ask(&id, |reply| Command::TakeOver { new_id, streams, size, reply }).await?;
        Ok(pid.unwrap_or_default())
    }
}

/// Names the container's UTS namespace. One whose process is gone needs no name.
fn set_hostname(view: &View, hostname: String) -> Result<(), CallError> {
    let Some((_, pidfd)) = &view.init else { return Ok(()) };
    let pidfd = pidfd.try_clone()?;
    // A thread of its own, as it stays in the namespace (setns(2)).
    let named = thread::Builder::new().spawn(move || {
        let entered =
            move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME);
        match entered {
            Ok(()) => sethostname(hostname.as_bytes()),
            Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error),
        }
    })?;
    match named.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Errno::INVAL)) => Err(CallError::BadArgument("the hostname is too long".to_owned())),
        Ok(Err(error)) => Err(io::Error::from(error).into()),
        Err(_) => Err(CallError::Internal("the thread that sets the hostname is gone".to_owned())),
    }
}
