//! Blobs on their way to a registry (distribution-spec 1.1, "Pushing a blob monolithically").

use ureq::http::header::{CONTENT_TYPE, LOCATION};
use ureq::http::uri::Scheme;
use ureq::http::{HeaderValue, Method, StatusCode, Uri};

use super::answer::Answer;
use super::authorization::Scope;
use super::endpoint::{self, Endpoint};
use super::error::RegistryCause;
use super::exchange::{Exchange, Request, Target};
use super::transport::{Content, Opener, Outgoing};
use crate::digest::Sha256;

/// Opens an upload and sends all of it; starts over where that fails and may pass.
pub(super) fn push(
    exchange: &Exchange,
    endpoint: &Endpoint,
    digest: &Sha256,
    size: u64,
    open: Opener<'_>,
) -> Result<(), RegistryCause> {
    exchange.run(|| {
        let scope = Scope::push(&endpoint.repository);
        let opened = post(exchange, endpoint, &scope, "")?;
        let location = location(exchange, endpoint, &opened, digest)?;
        let content_type = HeaderValue::from_static("application/octet-stream");
        let mut reopen = || open();
        let outgoing = Outgoing::new(Method::PUT)
            .header(CONTENT_TYPE, content_type)
            .body(Content::Stream { size, open: &mut reopen });
        let target = Target::Address(&location);
        let mut request = Request { endpoint, scope: &scope, target, what: "upload", outgoing };
        exchange.once(&mut request).map(drop)
    })
}

/// Asks for the blob of another repository. A registry that does not want to opens an upload instead, which it
/// forgets in time.
pub(super) fn mount(
    exchange: &Exchange,
    endpoint: &Endpoint,
    digest: &Sha256,
    from: &str,
) -> Result<bool, RegistryCause> {
    let scope = Scope::mount(&endpoint.repository, from);
    let query = format!("?mount={digest}&from={from}");
    let (_, answer) = exchange.run(|| post(exchange, endpoint, &scope, &query))?;
    Ok(answer.status() == StatusCode::CREATED)
}

fn post(
    exchange: &Exchange,
    endpoint: &Endpoint,
    scope: &Scope,
    query: &str,
) -> Result<Answer, RegistryCause> {
    let path = endpoint.path(&format!("blobs/uploads/{query}"));
    // An empty body is a body: without its length, some servers wait for it.
    let outgoing = Outgoing::new(Method::POST).body(Content::Bytes(&[]));
    let target = Target::Path(&path);
    exchange.once(&mut Request { endpoint, scope, target, what: "repository", outgoing })
}

/// Where to send the bytes.
fn location(
    exchange: &Exchange,
    endpoint: &Endpoint,
    (uri, answer): &Answer,
    digest: &Sha256,
) -> Result<Uri, RegistryCause> {
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let resolved = location.and_then(|location| {
        let separator = if location.contains('?') { '&' } else { '?' };
        endpoint::resolve(uri, &format!("{location}{separator}digest={digest}"))
    });
    let resolved = resolved.ok_or_else(|| RegistryCause::Malformed {
        registry: endpoint.registry.clone(),
        what: "answer to an upload",
        reason: "it does not say where to upload to".to_owned(),
    })?;
    // Behind a proxy that does TLS for them, registries do not know how they are reached.
    let root = exchange.transport().root(&endpoint.host)?;
    if resolved.authority() == root.authority() && root.scheme() == Some(&Scheme::HTTPS) {
        return Ok(endpoint::with_scheme(&resolved, Scheme::HTTPS).unwrap_or(resolved));
    }
    Ok(resolved)
}
