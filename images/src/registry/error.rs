//! What can go wrong between us and a registry.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::configuration::ConfigurationError;
use super::credentials::CredentialError;
use super::message::Message;
use crate::digest::Sha256;

/// A request that failed for good.
#[derive(Debug, Error)]
#[error("cannot {action}: {cause}")]
pub struct RegistryError {
    action: String,
    #[source]
    cause: Box<RegistryCause>,
}

/// What made it fail.
#[derive(Debug, Error)]
pub enum RegistryCause {
    /// The registry has no such thing, or says so to this user.
    #[error("{registry} has no such {what}{message}")]
    NotFound {
        /// Which registry.
        registry: String,
        /// What was asked for: an image, a blob, a repository.
        what: &'static str,
        /// The registry's own words.
        message: Message,
    },
    /// The registry wants to know who asks, or does not let this user do it.
    #[error("{registry} denies access to {}{message}; if what you ask for exists, it may need `bulkhead login {registry}`", whom(.user.as_deref()))]
    Denied {
        /// Which registry, as `login` takes it.
        registry: String,
        /// Whose credential was refused; None if there was none.
        user: Option<String>,
        /// The registry's own words.
        message: Message,
    },
    /// It does not take the credential that was offered.
    #[error("{registry} does not take this {}{message}", offered(.user.as_deref()))]
    LoginRefused {
        /// Which registry.
        registry: String,
        /// Whose credential it was.
        user: Option<String>,
        /// The registry's own words.
        message: Message,
    },
    /// Too many requests.
    #[error("{registry} limits how much it is asked{}{message}", peace(.wait.as_ref()))]
    RateLimited {
        /// Which registry.
        registry: String,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
        /// The registry's own words.
        message: Message,
    },
    /// The registry failed.
    #[error("{registry} failed (status {status}){message}")]
    Server {
        /// Which registry.
        registry: String,
        /// The HTTP status, 500 or above.
        status: u16,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
        /// The registry's own words.
        message: Message,
    },
    /// An answer that has no place here.
    #[error("{registry} answered with status {status}{message}")]
    Status {
        /// Which registry.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        message: Message,
    },
    /// Nothing came for too long.
    #[error("{host} did not answer in time ({phase})")]
    Timeout {
        /// Which host.
        host: String,
        /// What was being done.
        phase: &'static str,
    },
    /// The name has no address.
    #[error("the host {host} is not known: check the name, and that DNS works here ({reason})")]
    Unresolved {
        /// Which host.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {host}: {source}")]
    Unreachable {
        /// Which host.
        host: String,
        /// The reason.
        source: io::Error,
    },
    /// The connection was lost.
    #[error("the connection to {host} broke: {source}")]
    Broken {
        /// Which host.
        host: String,
        /// The reason.
        source: io::Error,
    },
    /// The proxy did not connect us.
    #[error("the proxy for {host} does not work: {reason}")]
    Proxy {
        /// The host behind it.
        host: String,
        /// The reason.
        reason: String,
    },
    /// The host cannot prove who it is.
    #[error("{host} is not trusted: {reason}{}", hint(*.unknown_authority, .host))]
    Tls {
        /// Which host.
        host: String,
        /// The reason.
        reason: String,
        /// Whether its certificate is from nobody we know.
        unknown_authority: bool,
    },
    /// The host does not speak TLS.
    #[error(
        "{host} speaks plain http where https was expected; if nobody can listen in on the way to it, set `plain-http = \
         true` under [registry.\"{host}\"] in registries.toml"
    )]
    PlainHttp {
        /// Which host.
        host: String,
    },
    /// It sends us from https to http.
    #[error("{registry} redirects to {host} without encryption; that is not followed")]
    Downgrade {
        /// Which registry.
        registry: String,
        /// Where to.
        host: String,
    },
    /// It sends us around.
    #[error("{registry} redirects too often, or to nowhere")]
    Redirects {
        /// Which registry.
        registry: String,
    },
    /// A document that is no document.
    #[error("its {what} is larger than {limit} bytes")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A blob is not as long as its descriptor says.
    #[error("{host} sends {} bytes of a blob that has {expected}", sent(*.actual, *.expected))]
    Length {
        /// Which host.
        host: String,
        /// Its size by the descriptor.
        expected: u64,
        /// Bytes it has there, as far as known.
        actual: u64,
    },
    /// Content is not what it was asked for as.
    #[error("{registry} gives {actual} for {expected}")]
    Digest {
        /// Which registry.
        registry: String,
        /// What was asked for, or what the registry said.
        expected: Sha256,
        /// What it has.
        actual: Sha256,
    },
    /// A manifest of an older time.
    #[error(
        "its manifest is of Docker's schema 1, which nobody should use any more: pull it with a Docker before 26 and push it \
         again, or ask its publisher to"
    )]
    Schema1,
    /// A document or a header makes no sense.
    #[error("{registry} sends a malformed {what}: {reason}")]
    Malformed {
        /// Which registry.
        registry: String,
        /// What is malformed.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What is configured for the registry cannot be used.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The credential for the registry cannot be found out.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The source of an upload cannot be read.
    #[error("reading what is to be uploaded failed: {0}")]
    Source(io::Error),
}

impl RegistryError {
    pub(super) fn new(action: String, cause: RegistryCause) -> Self {
        RegistryError { action, cause: Box::new(cause) }
    }

    /// What made it fail.
    pub fn cause(&self) -> &RegistryCause {
        &self.cause
    }

    /// Whether the registry has no such thing, as opposed to not telling.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.cause, RegistryCause::NotFound { .. })
    }
}

impl RegistryCause {
    /// Whether the same request may succeed a little later.
    pub(super) fn may_pass(&self) -> bool {
        use RegistryCause::{Broken, RateLimited, Server, Timeout};
        matches!(self, RateLimited { .. } | Server { .. } | Timeout { .. } | Broken { .. })
    }

    /// How long the registry wants to be left alone.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            RegistryCause::RateLimited { wait, .. } | RegistryCause::Server { wait, .. } => *wait,
            _ => None,
        }
    }
}

fn whom(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("user {name:?}"),
        None => "those it does not know".to_owned(),
    }
}

fn offered(user: Option<&str>) -> String {
    user.map_or_else(|| "kind of credential".to_owned(), |user| format!("password of user {user:?}"))
}

fn peace(duration: Option<&Duration>) -> String {
    duration.map(|duration| format!(" and wants {} s of peace", duration.as_secs())).unwrap_or_default()
}

fn sent(actual: u64, expected: u64) -> String {
    if actual > expected { format!("more than {expected}") } else { format!("only {actual}") }
}

fn hint(unknown_authority: bool, host: &str) -> String {
    if !unknown_authority {
        return String::new();
    }
    format!(
        "; if it has its own certificate authority, name its file as `ca` under [registry.\"{host}\"] in registries.toml"
    )
}
