//! Who asks: passwords, and the tokens that registries want instead (distribution's "Token Authentication").
//!
//! A credential is sent to the registry it is for, and to the token server that this registry names; nowhere else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::uri::Scheme;
use ureq::http::{HeaderValue, Method, Uri};

use super::answer::{self, Answer};
use super::challenge::Challenge;
use super::credentials::Credential;
use super::endpoint::{self, Endpoint};
use super::error::RegistryCause;
use super::message::Message;
use super::transport::{Content, Outgoing, Transport};

/// What token servers know this program by.
const CLIENT: &str = "bulkhead";
/// Bytes of a token server's answer.
const MAX_TOKEN: u64 = 256 << 10;
/// How long a token is good where its server does not say.
const DEFAULT_LIFETIME: u64 = 60;
/// A token is not used in its last seconds.
const MARGIN: Duration = Duration::from_secs(5);

/// RFC 3986, 2.3: all but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a request is about to do, as token servers name it; empty for nothing in particular.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope(Vec<String>);

/// What goes into the header.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// Whose it is, for messages.
    pub(super) user: Option<String>,
    good_until: Option<Instant>,
}

/// What was authorized: by host, and for a token by its scope.
#[derive(Default)]
pub(super) struct Authorizations(Mutex<HashMap<(String, Scope), Authorization>>);

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Scope {
    pub(super) fn none() -> Scope {
        Scope(Vec::new())
    }

    pub(super) fn pull(repository: &str) -> Scope {
        Scope(vec![format!("repository:{repository}:pull")])
    }

    pub(super) fn push(repository: &str) -> Scope {
        Scope(vec![format!("repository:{repository}:pull,push")])
    }

    pub(super) fn mount(repository: &str, from: &str) -> Scope {
        let mut scope = Scope::push(repository);
        scope.0.extend(Scope::pull(from).0);
        scope
    }

    /// These, and what the registry asks for besides.
    fn with(&self, asked: Option<&str>) -> Vec<String> {
        let mut all = self.0.clone();
        let asked = asked.into_iter().flat_map(str::split_whitespace);
        all.extend(asked.filter(|scope| !self.0.iter().any(|own| own == scope)).map(str::to_owned));
        all
    }
}

impl Authorizations {
    /// What to send, as far as known.
    pub(super) fn find(&self, endpoint: &Endpoint, scope: &Scope) -> Option<Authorization> {
        let found = self.locked().get(&(endpoint.host.clone(), scope.clone())).cloned();
        found.filter(|found| found.good_until.is_none_or(|until| Instant::now() < until))
    }

    /// Meets the challenge, and remembers what it took.
    pub(super) fn renew(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        scope: &Scope,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<Authorization, RegistryCause> {
        let authorization = match challenge {
            Challenge::Basic => basic(endpoint, credential)?,
            Challenge::Bearer { realm, service, scope: asked } => {
                let scopes = scope.with(asked.as_deref());
                let realm = realm_uri(transport, endpoint, realm)?;
                TokenRequest { transport, endpoint, realm, service: service.as_deref(), scopes, credential }
                    .run()?
            }
        };
        self.locked().insert((endpoint.host.clone(), scope.clone()), authorization.clone());
        Ok(authorization)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<(String, Scope), Authorization>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn basic(endpoint: &Endpoint, credential: Option<&Credential>) -> Result<Authorization, RegistryCause> {
    let denied = |user| RegistryCause::Denied {
        registry: endpoint.registry.clone(),
        user,
        message: Message::default(),
    };
    let credential = credential.ok_or_else(|| denied(None))?;
    let header = credential.basic_header().ok_or_else(|| denied(credential.user()))?;
    Ok(Authorization { header, user: credential.user(), good_until: None })
}

/// Where tokens are; not in the open, if the registry itself is not.
fn realm_uri(transport: &Transport, endpoint: &Endpoint, realm: &str) -> Result<Uri, RegistryCause> {
    let root = transport.root(&endpoint.host)?;
    let uri = endpoint::resolve(&root, realm).ok_or_else(|| RegistryCause::Malformed {
        registry: endpoint.registry.clone(),
        what: "realm",
        reason: format!("\"{}\" is no address", super::message::escape(realm)),
    })?;
    if uri.scheme() == Some(&Scheme::HTTP) && root.scheme() != Some(&Scheme::HTTP) {
        let host = uri.host().unwrap_or_default().to_owned();
        return Err(RegistryCause::Downgrade { registry: endpoint.registry.clone(), host });
    }
    Ok(uri)
}

struct TokenRequest<'a> {
    transport: &'a Transport,
    endpoint: &'a Endpoint,
    realm: Uri,
    service: Option<&'a str>,
    scopes: Vec<String>,
    credential: Option<&'a Credential>,
}

impl TokenRequest<'_> {
    fn run(&self) -> Result<Authorization, RegistryCause> {
        let user = self.credential.and_then(Credential::user);
        let (uri, mut answer) = match self.credential {
            Some(Credential::IdentityToken(token)) => self.post(token)?,
            other => self.get(other)?,
        };
        answer::check(self.endpoint, &mut answer, "token", user.as_deref()).map_err(|cause| match cause {
            // That there are no tokens does not mean that what they are for is not there.
            RegistryCause::NotFound { registry, message, .. } => {
                RegistryCause::Status { registry, status: 404, message }
            }
            cause => cause,
        })?;
        let body = self.transport.document(&uri, &mut answer, "token", MAX_TOKEN)?;
        let malformed = |reason: &str| RegistryCause::Malformed {
            registry: self.endpoint.registry.clone(),
            what: "token",
            reason: reason.to_owned(),
        };
        // The parser's own words could quote the token.
        let parsed: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_| malformed("it is no JSON as specified"))?;
        let filled = |token: Option<String>| token.filter(|token| !token.is_empty());
        let token = filled(parsed.token).or(filled(parsed.access_token));
        let token = token.ok_or_else(|| malformed("there is none in the answer"))?;
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| malformed("it cannot be sent in a header"))?;
        header.set_sensitive(true);
        let lifetime = Duration::from_secs(parsed.expires_in.unwrap_or(DEFAULT_LIFETIME).min(24 * 3600));
        let good_until = Some(Instant::now() + lifetime.saturating_sub(MARGIN));
        Ok(Authorization { header, user, good_until })
    }

    /// With a password, or with nothing.
    fn get(&self, credential: Option<&Credential>) -> Result<Answer, RegistryCause> {
        let header = credential.and_then(Credential::basic_header);
        let mut query: Vec<(&str, &str)> =
            self.service.map(|service| ("service", service)).into_iter().collect();
        query.extend(self.scopes.iter().map(|scope| ("scope", &**scope)));
        if let Some(Credential::Password { user, .. }) = credential {
            query.extend([("account", &**user), ("client_id", CLIENT)]);
        }
        let path = self.realm.path();
        let existing = self.realm.query().map(|query| format!("{query}&")).unwrap_or_default();
        let target = endpoint::resolve(&self.realm, &format!("{path}?{existing}{}", encoded(&query)));
        let target = target.unwrap_or_else(|| self.realm.clone());
        let answer = self.transport.send(&target, &mut Outgoing::new(Method::GET), header.as_ref())?;
        Ok((target, answer))
    }

    /// RFC 6749, 6: by a token that stands for the user.
    fn post(&self, token: &str) -> Result<Answer, RegistryCause> {
        let scope = self.scopes.join(" ");
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", CLIENT)];
        form.extend(self.service.map(|service| ("service", service)));
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        let body = encoded(&form);
        let mut outgoing = Outgoing::new(Method::POST)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .body(Content::Bytes(body.as_bytes()));
        let answer = self.transport.send(&self.realm, &mut outgoing, None)?;
        Ok((self.realm.clone(), answer))
    }
}

/// `application/x-www-form-urlencoded`.
fn encoded(fields: &[(&str, &str)]) -> String {
    let field = |(key, value): &(&str, &str)| format!("{key}={}", utf8_percent_encode(value, RESERVED));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

impl Credential {
    /// RFC 7617. None for what is no password, or cannot be one there.
    fn basic_header(&self) -> Option<HeaderValue> {
        let Credential::Password { user, password } = self else { return None };
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let mut header = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// Whose it is, for messages.
    fn user(&self) -> Option<String> {
        match self {
            Credential::Password { user, .. } => Some(user.clone()),
            Credential::IdentityToken(_) => Some("of the identity token".to_owned()),
        }
    }
}
