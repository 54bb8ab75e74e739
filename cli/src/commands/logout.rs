//! Forgets the login to a registry.

use std::io::{self, Write};

use images::registry::{ConfigurationError, CredentialError, Registries};

use crate::args::LogoutArgs;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogoutError {
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error("cannot forget the login to {server}")]
    Credentials { server: String, source: CredentialError },
    #[error("cannot print the outcome")]
    Print(#[from] io::Error),
}

pub(crate) fn logout(args: &LogoutArgs, out: &mut dyn Write) -> Result<(), LogoutError> {
    let server = &args.server;
    let forgotten = Registries::from_environment()?.logout(server);
    let forgotten =
        forgotten.map_err(|source| LogoutError::Credentials { server: server.clone(), source })?;
    if forgotten.is_empty() {
        writeln!(out, "Not logged in to {server}")?;
    } else {
        writeln!(out, "Removing login credentials for {server}")?;
    }
    Ok(())
}
