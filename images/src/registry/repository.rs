//! One repository of a registry: the verbs of distribution-spec 1.1.

use std::io::{self, Read};
use std::sync::Arc;

use oci_spec::image::MediaType;
use serde::Deserialize;
use ureq::Body;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};
use ureq::http::{HeaderValue, Method, Response};

use super::authorization::Scope;
use super::document::{ACCEPTED, Document, MAX_DOCUMENT};
use super::download::Download;
use super::endpoint::{self, Endpoint, Endpoints};
use super::error::{RegistryCause, RegistryError};
use super::exchange::{Exchange, Request, Target};
use super::transport::{Content, Outgoing};
use super::upload;
use crate::digest::Sha256;
use crate::name::{self, Name};

const DIGEST: &str = "docker-content-digest";
/// Tags asked for at a time, and pages of them that are read.
const TAGS_PER_PAGE: usize = 1000;
const MAX_PAGES: usize = 1000;

/// A repository. Cheap to clone, and safe to use from many threads at once: connections and tokens are shared.
///
/// What is read may come from a mirror; what is written goes to the registry itself.
#[derive(Clone)]
pub struct Repository {
    exchange: Arc<Exchange>,
    endpoints: Arc<Endpoints>,
}

#[derive(Deserialize)]
struct TagList {
    tags: Option<Vec<String>>,
}

impl Repository {
    pub(super) fn new(exchange: Arc<Exchange>, name: &Name) -> Repository {
        let endpoints = Arc::new(Endpoints::of(name, exchange.transport().configuration()));
        Repository { exchange, endpoints }
    }

    /// The manifest or index by tag or digest, as [`Name::reference`] has it. One asked for by digest is proven to have it.
    pub fn manifest(&self, reference: &str) -> Result<Document, RegistryError> {
        let get = |endpoint: &Endpoint| self.get_manifest(endpoint, reference);
        let document = self.endpoints.ask(get, |origin| self.exchange.run(|| get(origin)));
        document.map_err(|cause| self.error("get manifest", reference, cause))
    }

    /// The digest a tag has now, without its manifest; None where the registry does not say.
    pub fn resolve(&self, reference: &str) -> Result<Option<Sha256>, RegistryError> {
        let head = |endpoint: &Endpoint| {
            let answer = self.ask_for_manifest(Method::HEAD, endpoint, reference, |request| {
                self.exchange.once(request).map(|(_, answer)| answer)
            })?;
            Ok(told_digest(&answer))
        };
        let digest = self.endpoints.ask(head, |origin| self.exchange.run(|| head(origin)));
        digest.map_err(|cause| self.error("look for manifest", reference, cause))
    }

    /// A blob's bytes. A broken or stalled connection is taken up again where it broke; once that was tried often
    /// enough, reading fails with a [`RegistryError`] inside. It gives `size` bytes or an error, but does not prove
    /// the digest: whoever decodes it does.
    pub fn blob(&self, digest: &Sha256, size: u64) -> Result<Box<dyn Read + Send>, RegistryError> {
        let download = Download::open(self.exchange.clone(), self.endpoints.clone(), *digest, size)?;
        Ok(Box::new(download))
    }

    /// Whether the registry itself has the blob already.
    pub fn has_blob(&self, digest: &Sha256) -> Result<bool, RegistryError> {
        let origin = &self.endpoints.origin;
        let path = origin.path(&format!("blobs/{digest}"));
        let found = self.exchange.run(|| {
            let (scope, target) = (&Scope::push(&origin.repository), Target::Path(&path));
            let outgoing = Outgoing::new(Method::HEAD);
            self.exchange.once(&mut Request { endpoint: origin, scope, target, what: "blob", outgoing })
        });
        match found {
            Ok(_) => Ok(true),
            Err(RegistryCause::NotFound { .. }) => Ok(false),
            Err(cause) => Err(self.error("look for blob", &digest.to_string(), cause)),
        }
    }

    /// Asks the registry to take the blob from another of its repositories; false if it would rather be sent it.
    pub fn mount_blob(&self, digest: &Sha256, from_repository: &str) -> Result<bool, RegistryError> {
        let mounted = upload::mount(&self.exchange, &self.endpoints.origin, digest, from_repository);
        mounted.map_err(|cause| self.error("mount blob", &digest.to_string(), cause))
    }

    /// Uploads `size` bytes. `open` gives them from the start, once for each attempt.
    pub fn push_blob<R: Read>(
        &self,
        digest: &Sha256,
        size: u64,
        mut open: impl FnMut() -> io::Result<R>,
    ) -> Result<(), RegistryError> {
        let mut open = || open().map(|source| Box::new(source) as Box<dyn Read + '_>);
        let pushed = upload::push(&self.exchange, &self.endpoints.origin, digest, size, &mut open);
        pushed.map_err(|cause| self.error("push blob", &digest.to_string(), cause))
    }

    /// Puts a manifest or index under a tag or its digest; its digest, which the registry has not denied.
    pub fn push_manifest(
        &self,
        reference: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Sha256, RegistryError> {
        let put = || self.put_manifest(reference, media_type, bytes);
        self.exchange.run(put).map_err(|cause| self.error("push manifest", reference, cause))
    }

    /// The tags there are, over all pages.
    pub fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let tags = self.endpoints.ask(|mirror| self.list_tags(mirror), |origin| self.list_tags(origin));
        tags.map_err(|cause| self.error("list tags", "", cause))
    }

    fn get_manifest(&self, endpoint: &Endpoint, reference: &str) -> Result<Document, RegistryCause> {
        let get = |request: &mut Request<'_>| self.exchange.document_once(request, MAX_DOCUMENT);
        let ((_, answer), bytes) = self.ask_for_manifest(Method::GET, endpoint, reference, get)?;
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let document = Document::read(&endpoint.registry, bytes, content_type.unwrap_or_default());
        let expected = reference.parse().ok().or_else(|| told_digest(&answer));
        // A digest that is wrong says more than whatever else is.
        match (document, expected) {
            (Ok(document), Some(expected)) => {
                same_digest(endpoint, expected, document.digest).map(|()| document)
            }
            (document, _) => document,
        }
    }

    fn ask_for_manifest<T>(
        &self,
        method: Method,
        endpoint: &Endpoint,
        reference: &str,
        ask: impl FnOnce(&mut Request<'_>) -> Result<T, RegistryCause>,
    ) -> Result<T, RegistryCause> {
        let path = endpoint.path(&format!("manifests/{reference}"));
        let outgoing = Outgoing::new(method).header(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let (scope, target) = (&Scope::pull(&endpoint.repository), Target::Path(&path));
        ask(&mut Request { endpoint, scope, target, what: "image", outgoing })
    }

    fn put_manifest(
        &self,
        reference: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Sha256, RegistryCause> {
        let origin = &self.endpoints.origin;
        let path = origin.path(&format!("manifests/{reference}"));
        let outgoing = Outgoing::new(Method::PUT).body(Content::Bytes(bytes));
        let content_type = HeaderValue::from_str(media_type.to_string().as_str());
        let outgoing = match content_type {
            Ok(content_type) => outgoing.header(CONTENT_TYPE, content_type),
            Err(_) => outgoing,
        };
        let (scope, target) = (&Scope::push(&origin.repository), Target::Path(&path));
        let mut request = Request { endpoint: origin, scope, target, what: "repository", outgoing };
        let (_, answer) = self.exchange.once(&mut request)?;
        let digest = Sha256::of(bytes);
        match told_digest(&answer) {
            Some(told) => same_digest(origin, digest, told).map(|()| digest),
            None => Ok(digest),
        }
    }

    fn list_tags(&self, endpoint: &Endpoint) -> Result<Vec<String>, RegistryCause> {
        let mut tags = Vec::new();
        let mut path = endpoint.path(&format!("tags/list?n={TAGS_PER_PAGE}"));
        for _ in 0..MAX_PAGES {
            let (page, next) = self.exchange.run(|| self.tag_page(endpoint, &path))?;
            // What is no tag could not be asked for; and it is about to be printed.
            tags.extend(page.into_iter().filter(|tag| name::checked_tag(tag).is_ok()));
            match next {
                Some(next) if next != path => path = next,
                _ => break,
            }
        }
        Ok(tags)
    }

    /// Tags, and the path of the next page.
    fn tag_page(
        &self,
        endpoint: &Endpoint,
        path: &str,
    ) -> Result<(Vec<String>, Option<String>), RegistryCause> {
        let (scope, target) = (&Scope::pull(&endpoint.repository), Target::Path(path));
        let outgoing = Outgoing::new(Method::GET);
        let mut request = Request { endpoint, scope, target, what: "repository", outgoing };
        let ((uri, answer), bytes) = self.exchange.document_once(&mut request, MAX_DOCUMENT)?;
        let list: TagList = serde_json::from_slice(&bytes).map_err(|error| RegistryCause::Malformed {
            registry: endpoint.registry.clone(),
            what: "list of tags",
            reason: error.to_string(),
        })?;
        let link = answer.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(next_link);
        // Only where in the registry it is counts: a page elsewhere would be none of this registry's.
        let next = link.and_then(|link| endpoint::resolve(&uri, link));
        Ok((list.tags.unwrap_or_default(), next.and_then(|next| Some(next.path_and_query()?.to_string()))))
    }

    fn error(&self, action: &str, object: &str, cause: RegistryCause) -> RegistryError {
        let object = if object.is_empty() { String::new() } else { format!(" {object}") };
        RegistryError::new(format!("{action}{object} of {}", self.endpoints.origin), cause)
    }
}

/// The digest the registry says it is. Others than SHA-256 say nothing to us.
fn told_digest(answer: &Response<Body>) -> Option<Sha256> {
    answer.headers().get(DIGEST)?.to_str().ok()?.parse().ok()
}

fn same_digest(endpoint: &Endpoint, expected: Sha256, actual: Sha256) -> Result<(), RegistryCause> {
    match expected == actual {
        true => Ok(()),
        false => Err(RegistryCause::Digest { registry: endpoint.registry.clone(), expected, actual }),
    }
}

/// RFC 8288: the target of `<…>; rel="next"`.
fn next_link(value: &str) -> Option<&str> {
    let (target, parameters) = value.trim().strip_prefix('<')?.split_once('>')?;
    parameters.replace(['"', ' '], "").contains("rel=next").then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(
            next_link("</v2/a/tags/list?last=b&n=1>; rel=\"next\""),
            Some("/v2/a/tags/list?last=b&n=1")
        );
        assert_eq!(next_link("<x>;rel=next"), Some("x"));
        for none in ["", "<x>", "<x>; rel=\"prev\"", "x; rel=next", "<x; rel=next"] {
            assert_eq!(next_link(none), None, "{none}");
        }
    }
}
