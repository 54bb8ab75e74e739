//! Registries: OCI distribution-spec 1.1 as a client, and what is said of registries and their passwords on this
//! machine.
//!
//! The client blocks. An import reads a layer from the registry, proves, decompresses and writes it in one pass on
//! one thread: a body that is a [`Read`](std::io::Read) goes straight into that. An asynchronous client (oci-client
//! over reqwest) would need a runtime and a pipe between the two for it, so it is `ureq`; with rustls over ring,
//! which link statically.
//!
//! From the outside in: [`Registries`] knows what is configured, [`Repository`] has the verbs of the specification
//! (with `download` and `upload` for blobs), `exchange` makes a request succeed (credentials, redirections,
//! patience), `transport` is HTTP and TLS themselves. A registry is a stranger: whatever it sends is bounded, its
//! words are escaped before they are shown, and a credential goes to nobody but the registry it is for and the token
//! server which that one names.

mod answer;
mod authorization;
mod challenge;
mod configuration;
mod credentials;
mod document;
mod download;
mod endpoint;
mod error;
mod exchange;
mod failure;
mod login;
mod message;
mod patience;
mod proxy;
mod repository;
mod source;
mod tls;
mod transport;
mod upload;

use std::sync::Arc;

pub use configuration::{Configuration, ConfigurationError, Mirror, RegistrySettings};
pub use credentials::{Credential, CredentialError, CredentialStores, LoginError, Stored};
pub use document::Document;
pub use error::{RegistryCause, RegistryError};
pub use message::Message;
pub use patience::{Patience, Sleeping, Wait};
pub use proxy::Proxies;
pub use repository::Repository;

use self::exchange::{Exchange, Keys};
use crate::name::Name;

/// All registries, as this user reaches them: configuration, credentials, connections and tokens. Clones share these.
#[derive(Clone)]
pub struct Registries {
    configuration: Configuration,
    credentials: CredentialStores,
    patience: Arc<dyn Patience>,
    exchange: Arc<Exchange>,
}

impl Registries {
    /// What files and environment say, and waits that only wait.
    pub fn from_environment() -> Result<Registries, ConfigurationError> {
        let stores = CredentialStores::from_environment();
        Ok(Registries::open(Configuration::from_environment()?, stores, Arc::new(Sleeping)))
    }

    /// Registries by this configuration and these credentials; `patience` waits before each new attempt.
    pub fn open(
        configuration: Configuration,
        credentials: CredentialStores,
        patience: Arc<dyn Patience>,
    ) -> Registries {
        let keys = Keys::Stores(credentials.clone());
        let exchange = Arc::new(Exchange::new(configuration.clone(), keys, patience.clone()));
        Registries { configuration, credentials, patience, exchange }
    }

    /// The repository that has this image. Nothing is asked of the registry yet.
    pub fn repository(&self, name: &Name) -> Repository {
        Repository::new(self.exchange.clone(), name)
    }

    /// Proves the credential at the registry (`docker.io`, `HOST[:PORT]`) and keeps it for later.
    pub fn login(&self, registry: &str, credential: &Credential) -> Result<Stored, LoginError> {
        let registry = endpoint::registry_at(registry);
        login::prove(&self.configuration, self.patience.clone(), registry, credential)?;
        Ok(self.credentials.keep(registry, credential)?)
    }

    /// Forgets the registry's credential, wherever it is kept; tells where that was.
    pub fn logout(&self, registry: &str) -> Result<Vec<Stored>, CredentialError> {
        self.credentials.erase(endpoint::registry_at(registry))
    }
}
