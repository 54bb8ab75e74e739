//! `bulkhead-file-server`: serves directories of the host to one sandbox's guest.
//!
//! The guest's requests come as packets from the VMM's virtio-fs device, which passes on whatever the guest says:
//!
//! ```text
//! device ── SOCK_SEQPACKET ── pool ── gate ── fuse-backend-rs: Vfs ─┬─ /NAME: PassthroughFs, a directory
//! supervisor ── control socket ── control ── shares ────────────────┴─ /NAME: one_file
//! ```

mod answer;
mod control;
mod gate;
mod init;
mod jail;
mod one_file;
mod pool;
mod root;
mod shares;

use std::error::Error;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use file_server_api::{CONTROL_FD, FUSE_FD};
use vmm_api::ControlSocket;

use crate::pool::Pool;
use crate::shares::Shares;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", in_words(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    jail::close_inherited()?;
    // SAFETY: the launcher put these two here for this process, in which nothing else owns them.
    let (control, fuse) = unsafe { (OwnedFd::from_raw_fd(CONTROL_FD), OwnedFd::from_raw_fd(FUSE_FD)) };
    jail::enter()?;
    let shares = Arc::new(Shares::new());
    Pool::start(fuse, Arc::clone(&shares))?;
    Ok(control::serve(&ControlSocket::from(control), &shares)?)
}

/// An error with its causes.
fn in_words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}
