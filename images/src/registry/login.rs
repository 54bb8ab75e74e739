//! Proving a credential before it is kept.

use std::sync::Arc;

use ureq::http::Method;

use super::authorization::Scope;
use super::configuration::Configuration;
use super::credentials::Credential;
use super::endpoint::Endpoint;
use super::error::{RegistryCause, RegistryError};
use super::exchange::{Exchange, Keys, Request, Target};
use super::patience::Patience;
use super::transport::Outgoing;

/// distribution-spec, "Determining Support": asking for nothing in particular shows whether one may ask at all.
pub(super) fn prove(
    configuration: &Configuration,
    patience: Arc<dyn Patience>,
    registry: &str,
    credential: &Credential,
) -> Result<(), RegistryError> {
    // Nothing authorized before may answer for the credential.
    let exchange = Exchange::new(configuration.clone(), Keys::Offered(credential.clone()), patience);
    let endpoint = Endpoint::origin(registry, "");
    let asked = exchange.run(|| {
        let (scope, target) = (&Scope::none(), Target::Path("/v2/"));
        let outgoing = Outgoing::new(Method::GET);
        exchange.once(&mut Request { endpoint: &endpoint, scope, target, what: "registry API", outgoing })
    });
    asked.map(drop).map_err(|cause| {
        let cause = match cause {
            RegistryCause::Denied { registry, user, message } => {
                RegistryCause::LoginRefused { registry, user, message }
            }
            cause => cause,
        };
        RegistryError::new(format!("log in to {}", endpoint.registry), cause)
    })
}
