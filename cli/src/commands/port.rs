//! Lists the ports a container has published: none, as there is no network yet.

use containers::{Containers, ContainersError};

use crate::args::PortArgs;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error("container {container} has not published port {port}")]
    NotPublished { container: String, port: String },
}

pub(crate) fn port(containers: &Containers, args: &PortArgs) -> Result<(), PortError> {
    let container = containers.find(&args.container)?;
    match &args.port {
        None => Ok(()),
        Some(port) => {
            Err(PortError::NotPublished { container: container.name().to_owned(), port: port.clone() })
        }
    }
}
