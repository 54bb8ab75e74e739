//! `bulkhead-oci delete`.

use super::Failure;
use crate::args::DeleteArgs;
use crate::log::Log;
use crate::state::{Root, StateError, Status};
use crate::teardown::{self, TeardownError};

/// In runc's words.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped { id: String, status: Status },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Teardown(#[from] TeardownError),
}

#[derive(Debug, thiserror::Error)]
#[error("one or more of the container deletions failed")]
struct SomeFailed;

/// All that can be removed are, whatever becomes of the others.
pub(super) fn delete(root: &Root, args: &DeleteArgs, log: &Log) -> Result<(), Failure> {
    let remove = |id: &String| remove(root, id, args.force, log);
    if let [id] = args.ids.as_slice() {
        return Ok(remove(id)?);
    }
    let errors: Vec<_> = args.ids.iter().filter_map(|id| remove(id).err()).collect();
    for error in &errors {
        eprintln!("{}", shim::describe(error));
    }
    if errors.is_empty() { Ok(()) } else { Err(SomeFailed.into()) }
}

fn remove(root: &Root, id: &str, force: bool, log: &Log) -> Result<(), Error> {
    let container = match root.load(id) {
        Ok(container) => container,
        Err(error @ StateError::NotFound(_)) => {
            // A create that was killed may have left a directory without a state.
            root.remove(id)?;
            return if force { Ok(()) } else { Err(error.into()) };
        }
        Err(error) => return Err(error.into()),
    };
    match container.status() {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => return Err(Error::NotStopped { id: id.to_owned(), status }),
    }
    Ok(teardown::end(root, &container, log)?)
}
