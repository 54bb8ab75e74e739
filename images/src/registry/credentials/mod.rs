//! User names, passwords and tokens, where Docker and Podman keep them: so that a login with one of the three is one
//! with all.
//!
//! Files are asked in this order, and the first is the one that logins are written to:
//!
//! 1. the one $REGISTRY_AUTH_FILE names, if it is set;
//! 2. Docker's: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`;
//! 3. Podman's: `$XDG_RUNTIME_DIR/containers/auth.json` (without that variable, `/run/containers/UID/auth.json`);
//! 4. Podman's other: `~/.config/containers/auth.json`.

mod file;
mod helper;
mod key;

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use self::file::AuthFile;
use super::error::RegistryError;

/// What proves who a user is. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token by which the registry's token server knows the user.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Password { user, .. } => write!(f, "Password of {user:?}"),
            Credential::IdentityToken(_) => f.write_str("IdentityToken"),
        }
    }
}

/// Where this user's credentials are.
#[derive(Clone, Debug, Default)]
pub struct CredentialStores {
    files: Vec<AuthFile>,
}

/// Where a login is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In this file, readable by whoever can read the user's files.
    File(PathBuf),
    /// With this helper program.
    Helper(String),
}

/// Why credentials cannot be read or kept.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// There is no file to keep them in.
    #[error("there is nowhere to keep a login: neither HOME nor DOCKER_CONFIG is set")]
    Nowhere,
    /// A file cannot be used.
    #[error("cannot use the credentials in {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is malformed at line {line}, column {column}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it is wrong; what stands there could be a password.
        line: usize,
        /// Where it is wrong.
        column: usize,
    },
    /// An entry is not what it should be.
    #[error("the entry \"{key}\" in {} is malformed: its auth is no base64 of USER:PASSWORD", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Whose entry.
        key: String,
    },
    /// A helper program fails.
    #[error("the credential helper {program} does not work: {reason}")]
    Helper {
        /// The program.
        program: String,
        /// The reason.
        reason: String,
    },
}

/// Why a login failed.
#[derive(Debug, Error)]
pub enum LoginError {
    /// The registry did not take it.
    #[error(transparent)]
    Refused(#[from] RegistryError),
    /// It is good, but cannot be kept.
    #[error(transparent)]
    Keep(#[from] CredentialError),
}

impl CredentialStores {
    /// Docker's and Podman's files.
    pub fn from_environment() -> CredentialStores {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let runtime = variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
        let of_user =
            PathBuf::from(format!("/run/containers/{}/auth.json", rustix::process::getuid().as_raw()));
        CredentialStores::new([
            variable("REGISTRY_AUTH_FILE"),
            variable("DOCKER_CONFIG")
                .or_else(|| below_home(".docker"))
                .map(|directory| directory.join("config.json")),
            // Those who may not even look for it have nothing there.
            runtime.or_else(|| of_user.exists().then_some(of_user)),
            below_home(".config/containers/auth.json"),
        ])
    }

    /// These files, in the order to ask them.
    pub fn new(files: impl IntoIterator<Item = Option<PathBuf>>) -> CredentialStores {
        CredentialStores { files: files.into_iter().flatten().map(AuthFile::new).collect() }
    }

    /// The credential for a repository of a registry (`docker.io`, `HOST[:PORT]`), if one is kept.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        for file in &self.files {
            if let Some(credential) = file.find(registry, repository)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    pub(super) fn keep(&self, registry: &str, credential: &Credential) -> Result<Stored, CredentialError> {
        self.files.first().ok_or(CredentialError::Nowhere)?.keep(registry, credential)
    }

    /// Forgets the registry's credential wherever it is kept, so that none is used any more.
    pub(super) fn erase(&self, registry: &str) -> Result<Vec<Stored>, CredentialError> {
        let mut erased = Vec::new();
        for file in &self.files {
            erased.extend(file.erase(registry)?);
        }
        Ok(erased)
    }
}
