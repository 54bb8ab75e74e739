//! A request and its answer, whatever stands between them: who asks, redirections, and failures that pass.

use std::io::Read;
use std::sync::Arc;

use ureq::Body;
use ureq::http::header::{LOCATION, WWW_AUTHENTICATE};
use ureq::http::uri::Scheme;
use ureq::http::{HeaderValue, Method, Response, StatusCode, Uri};

use super::answer::{self, Answer};
use super::authorization::{Authorization, Authorizations, Scope};
use super::challenge;
use super::configuration::Configuration;
use super::credentials::{Credential, CredentialError, CredentialStores};
use super::endpoint::{self, Endpoint};
use super::error::RegistryCause;
use super::message::Message;
use super::patience::{Attempts, Patience};
use super::transport::{Content, Outgoing, Transport};

/// As many redirections as browsers follow are not needed here.
const MAX_REDIRECTS: usize = 5;

/// Whose credentials are used.
pub(super) enum Keys {
    /// Those kept for each registry.
    Stores(CredentialStores),
    /// This one, to be proven.
    Offered(Credential),
}

/// All that requests share.
pub(super) struct Exchange {
    transport: Transport,
    authorizations: Authorizations,
    keys: Keys,
    patience: Arc<dyn Patience>,
}

/// Where a request goes.
pub(super) enum Target<'a> {
    /// A path of the endpoint's host.
    Path(&'a str),
    /// An address that the registry named.
    Address(&'a Uri),
}

/// A request, and what it is about.
pub(super) struct Request<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) scope: &'a Scope,
    pub(super) target: Target<'a>,
    /// What is asked for, in words.
    pub(super) what: &'static str,
    pub(super) outgoing: Outgoing<'a>,
}

impl Keys {
    fn find(&self, endpoint: &Endpoint) -> Result<Option<Credential>, CredentialError> {
        match self {
            Keys::Stores(stores) => stores.find(&endpoint.registry, &endpoint.repository),
            Keys::Offered(credential) => Ok(Some(credential.clone())),
        }
    }
}

impl Exchange {
    pub(super) fn new(configuration: Configuration, keys: Keys, patience: Arc<dyn Patience>) -> Self {
        let (transport, authorizations) = (Transport::new(configuration), Authorizations::default());
        Exchange { transport, authorizations, keys, patience }
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn patience(&self) -> &dyn Patience {
        &*self.patience
    }

    /// Tries until it succeeds, or cannot.
    pub(super) fn run<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, RegistryCause>,
    ) -> Result<T, RegistryCause> {
        let mut attempts = Attempts::new();
        loop {
            match attempt() {
                Err(cause) if attempts.again(&cause, self.patience()) => (),
                result => return result,
            }
        }
    }

    /// One attempt at a document of at most `max` bytes.
    pub(super) fn document_once(
        &self,
        request: &mut Request<'_>,
        max: u64,
    ) -> Result<(Answer, Vec<u8>), RegistryCause> {
        let what = request.what;
        let (uri, mut answer) = self.once(request)?;
        let bytes = self.transport.document(&uri, &mut answer, what, max)?;
        Ok(((uri, answer), bytes))
    }

    /// One attempt. A challenge is met once: what was authorized before may have run out.
    pub(super) fn once(&self, request: &mut Request<'_>) -> Result<Answer, RegistryCause> {
        let mut authorization = self.authorizations.find(request.endpoint, request.scope);
        let (mut uri, mut answer, mut is_own) = self.follow(request, authorization.as_ref())?;
        if answer.status() == StatusCode::UNAUTHORIZED && is_own {
            let renewed = self.renew(request, &mut answer)?;
            (uri, answer, is_own) = self.follow(request, Some(&renewed))?;
            authorization = Some(renewed);
        }
        let user = authorization.filter(|_| is_own).and_then(|authorization| authorization.user);
        answer::check(request.endpoint, &mut answer, request.what, user.as_deref())?;
        Ok((uri, answer))
    }

    fn renew(
        &self,
        request: &Request<'_>,
        answer: &mut Response<Body>,
    ) -> Result<Authorization, RegistryCause> {
        let lines = answer.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = challenge::choose(lines.filter_map(|line| line.to_str().ok()));
        let challenge = challenge.ok_or_else(|| RegistryCause::Denied {
            registry: request.endpoint.registry.clone(),
            user: None,
            message: Message::default(),
        })?;
        // Read to its end, the connection can be used again.
        let _ = answer::Hurried::new(answer).take(super::message::MAX_REFUSAL).read_to_end(&mut Vec::new());
        let credential = self.keys.find(request.endpoint)?;
        let (endpoint, scope) = (request.endpoint, request.scope);
        self.authorizations.renew(&self.transport, endpoint, scope, &challenge, credential.as_ref())
    }

    /// Sends, and goes where it is told to: without credentials, once that is elsewhere. Tells whether the answer is
    /// from where the credentials belong.
    fn follow(
        &self,
        request: &mut Request<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<(Uri, Response<Body>, bool), RegistryCause> {
        let registry = &request.endpoint.registry;
        let header = authorization.map(|authorization| &authorization.header);
        let (mut uri, mut answer, mut is_own) =
            self.first(request.endpoint, &request.target, &mut request.outgoing, header)?;
        for _ in 0..MAX_REDIRECTS {
            if !is_redirection(&request.outgoing, answer.status()) {
                return Ok((uri, answer, is_own));
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| endpoint::resolve(&uri, location));
            let next = next.ok_or_else(|| RegistryCause::Redirects { registry: registry.clone() })?;
            refuse_downgrade(registry, &uri, &next)?;
            is_own = is_own && endpoint::authority(&next) == endpoint::authority(&uri);
            answer = self.transport.send(&next, &mut request.outgoing, header.filter(|_| is_own))?;
            uri = next;
        }
        match is_redirection(&request.outgoing, answer.status()) {
            true => Err(RegistryCause::Redirects { registry: registry.clone() }),
            false => Ok((uri, answer, is_own)),
        }
    }

    fn first(
        &self,
        endpoint: &Endpoint,
        target: &Target<'_>,
        outgoing: &mut Outgoing<'_>,
        header: Option<&HeaderValue>,
    ) -> Result<(Uri, Response<Body>, bool), RegistryCause> {
        match target {
            Target::Path(path) => {
                let (answer, uri) = self.transport.send_to(&endpoint.host, path, outgoing, header)?;
                Ok((uri, answer, true))
            }
            Target::Address(uri) => {
                let root = self.transport.root(&endpoint.host)?;
                refuse_downgrade(&endpoint.registry, &root, uri)?;
                let is_own = endpoint::authority(uri) == endpoint::authority(&root);
                let answer = self.transport.send(uri, outgoing, header.filter(|_| is_own))?;
                Ok(((*uri).clone(), answer, is_own))
            }
        }
    }
}

/// Whether to go elsewhere. Uploads are not sent twice for it.
fn is_redirection(outgoing: &Outgoing<'_>, status: StatusCode) -> bool {
    let repeatable =
        matches!(outgoing.method, Method::GET | Method::HEAD) && matches!(outgoing.body, Content::None);
    repeatable && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn refuse_downgrade(registry: &str, from: &Uri, to: &Uri) -> Result<(), RegistryCause> {
    if from.scheme() == Some(&Scheme::HTTPS) && to.scheme() == Some(&Scheme::HTTP) {
        let host = to.host().unwrap_or_default().to_owned();
        return Err(RegistryCause::Downgrade { registry: registry.to_owned(), host });
    }
    Ok(())
}
