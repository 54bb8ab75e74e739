//! `bulkhead-file-server`: the process, and what is asked of it.

use std::io;

use file_server_api::Failure;
use vmm_api::{ReceiveError, SendError};

/// A file server that runs; dropped, it is killed.
pub(crate) struct FileServer {}

/// Why the file server did not do something.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the file server could not do it: {0}")]
    Refused(#[from] Failure),
    #[error("cannot send to the file server")]
    Send(#[from] SendError),
    #[error("the file server gives no answer{said}")]
    Receive { said: String, source: ReceiveError },
    #[error("cannot hand the file server's socket to the VMM")]
    Socket(#[source] io::Error),
}
