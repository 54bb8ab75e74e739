//! The fake file server: knows what is shared, and serves nothing.

use std::collections::BTreeSet;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use file_server_api::{CONTROL_FD, Failure, Reply, Request};
use vmm_api::ControlSocket;

use crate::fake::Host;

/// Puts it in the place of the host's.
pub(crate) fn install(host: &Host) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lifecycle/fake/bulkhead-file-server.sh");
    let place = host.root.join("bulkhead-file-server");
    std::fs::remove_file(&place).unwrap();
    symlink(script, place).unwrap();
}

/// Runs until the supervisor is gone.
pub(crate) fn serve() {
    // SAFETY: the process was started with its control socket as this descriptor, and nothing else uses it.
    let control = ControlSocket::from(unsafe { OwnedFd::from_raw_fd(CONTROL_FD) });
    let mut shares = BTreeSet::new();
    while let Ok((request, descriptors)) = control.receive::<Request>() {
        let done = match request {
            Request::AddShare(share) => descriptors.len() == 1 && shares.insert(share.name),
            Request::RemoveShare { name } => shares.remove(&name),
        };
        let refusal = Failure { message: format!("the shares are {shares:?}") };
        let reply: Reply = if done { Ok(()) } else { Err(refusal) };
        control.send(&reply, &[]).unwrap();
    }
}
