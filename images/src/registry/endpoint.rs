//! Where a registry of this name is served, and where in it a repository is.

use std::fmt;

use ureq::http::Uri;
use ureq::http::uri::{InvalidUriParts, Scheme};

use super::configuration::{Configuration, Mirror};
use crate::name::Name;

/// docker.io serves its images there; its own host is a web site.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// All that may have a repository's images.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    /// In the order to ask them.
    mirrors: Vec<Endpoint>,
    /// The registry itself.
    pub(super) origin: Endpoint,
}

/// A repository at one of the hosts that serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Whose credentials count here, as `login` takes it.
    pub(super) registry: String,
    /// `HOST[:PORT]`.
    pub(super) host: String,
    /// The repository's path there.
    pub(super) repository: String,
}

impl Endpoint {
    /// What this registry itself has.
    pub(super) fn origin(registry: &str, repository: &str) -> Endpoint {
        Endpoint {
            registry: registry_at(registry).to_owned(),
            host: host_of(registry).to_owned(),
            repository: repository.to_owned(),
        }
    }

    fn mirror(mirror: &Mirror, repository: &str) -> Endpoint {
        let path = if mirror.path.is_empty() { String::new() } else { format!("{}/", mirror.path) };
        Endpoint::origin(&mirror.host, &format!("{path}{repository}"))
    }

    /// The address of something in the repository.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }
}

impl Endpoints {
    pub(super) fn of(name: &Name, configuration: &Configuration) -> Endpoints {
        let mirrors = configuration.registry(name.registry()).map(|settings| &*settings.mirrors);
        let mirrors = mirrors.unwrap_or_default().iter();
        let mirrors = mirrors.map(|mirror| Endpoint::mirror(mirror, name.repository())).collect();
        Endpoints { mirrors, origin: Endpoint::origin(name.registry(), name.repository()) }
    }

    /// Asks the mirrors, each once and whatever keeps it from answering; and then the registry itself.
    pub(super) fn ask<T, E>(
        &self,
        mut mirror: impl FnMut(&Endpoint) -> Result<T, E>,
        origin: impl FnOnce(&Endpoint) -> Result<T, E>,
    ) -> Result<T, E> {
        let found = self.mirrors.iter().find_map(|endpoint| mirror(endpoint).ok());
        found.map_or_else(|| origin(&self.origin), Ok)
    }
}

/// As names have it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

/// The host that serves a registry.
pub(super) fn host_of(registry: &str) -> &str {
    if registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry }
}

/// The registry that a host serves.
pub(super) fn registry_at(host: &str) -> &str {
    if host == DOCKER_HUB.1 || host == "index.docker.io" { DOCKER_HUB.0 } else { host }
}

/// Whether the host is this machine: then Docker asks for no TLS, for nobody can listen in.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(bare, _)| bare),
    };
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Scheme, host and port: what must be the same for a credential to be sent. None if it is no address at all.
pub(super) fn authority(uri: &Uri) -> Option<(Scheme, String, u16)> {
    let scheme = uri.scheme()?.clone();
    let default = if scheme == Scheme::HTTPS { 443 } else { 80 };
    Some((scheme, uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(default)))
}

/// RFC 9110, 10.2.2: the address a `Location` or `Link` means, which may be relative to where it was found. Addresses
/// that are not http, or bring a user name of their own, are none.
pub(super) fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let text = if let Some(rest) = reference.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else if reference.contains("://") {
        reference.to_owned()
    } else if reference.starts_with('?') {
        format!("{scheme}://{authority}{}{reference}", base.path())
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{reference}")
    };
    let uri: Uri = text.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    (is_http && is_plain).then_some(uri)
}

/// The same address by another scheme.
pub(super) fn with_scheme(uri: &Uri, scheme: Scheme) -> Result<Uri, InvalidUriParts> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(scheme);
    Uri::from_parts(parts)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mirrors_come_first_and_docker_hub_is_served_elsewhere() {
        let mut configuration = Configuration::default();
        let text = "[registry.'docker.io']\nmirrors = ['a.example/hub', 'b.example:5000']";
        configuration.add(Path::new("test"), text).unwrap();
        let endpoints = |name: &str| -> Vec<String> {
            let endpoints = Endpoints::of(&Name::parse(name).unwrap(), &configuration);
            let all = endpoints.mirrors.iter().chain([&endpoints.origin]);
            all.map(|endpoint| format!("{}{}", endpoint.host, endpoint.path("tags/list"))).collect()
        };
        assert_eq!(
            endpoints("busybox"),
            [
                "a.example/v2/hub/library/busybox/tags/list",
                "b.example:5000/v2/library/busybox/tags/list",
                "registry-1.docker.io/v2/library/busybox/tags/list",
            ]
        );
        assert_eq!(endpoints("ghcr.io/o/app"), ["ghcr.io/v2/o/app/tags/list"]);
        let hub = Endpoint::origin("index.docker.io", "library/busybox");
        assert_eq!(hub.registry, "docker.io");
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for this in ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:1", "[::1]:5000"] {
            assert!(is_loopback(this), "{this}");
        }
        for other in ["localhost.example", "127.example", "10.0.0.1:5000", "[::2]", "registry.example:443"] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn locations_are_resolved_and_foreign_schemes_refused() {
        let base: Uri = "https://r.example:5000/v2/app/blobs/uploads/".parse().unwrap();
        for (reference, expected) in [
            ("/v2/x?y=1", Some("https://r.example:5000/v2/x?y=1")),
            ("https://cdn.example/b#f", Some("https://cdn.example/b")),
            ("//cdn.example/b", Some("https://cdn.example/b")),
            ("uuid?s=1", Some("https://r.example:5000/v2/app/blobs/uploads/uuid?s=1")),
            ("?s=1", Some("https://r.example:5000/v2/app/blobs/uploads/?s=1")),
            ("file:///etc/passwd", None),
            ("https://user:password@r.example/", None),
            ("https://", None),
            ("/a b", None),
        ] {
            let resolved = resolve(&base, reference).map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), expected, "{reference}");
        }
    }
}
