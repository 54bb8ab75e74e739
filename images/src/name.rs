//! How an image in a registry is called: `busybox`, `ghcr.io/owner/app:1.2`, `localhost:5000/app@sha256:…`.
//!
//! The grammar is that of distribution's `reference` package, with Docker's defaults: docker.io where no registry is
//! named, `library/` before its one-word names, and the tag `latest` where neither tag nor digest is given.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::digest::{DigestError, Sha256};

/// The registry of names that give none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// What docker.io's names were once written with.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// Where docker.io keeps the images it vouches for.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// Characters a repository's path may have.
const MAX_REPOSITORY: usize = 255;
/// Characters a registry's host may have: a DNS name's 253 and a port.
const MAX_REGISTRY: usize = 259;
/// Characters a tag may have.
const MAX_TAG: usize = 128;

/// An image's name: a repository of a registry, and which of its images: by tag, by digest, or by a digest that once
/// had a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Sha256>,
}

/// Text that names no image.
#[derive(Debug, Error)]
#[error("\"{}\" is no image name: {cause}", shortened(.text))]
pub struct NameError {
    text: String,
    #[source]
    cause: NameCause,
}

/// What is wrong with a name.
#[derive(Debug, Error)]
pub enum NameCause {
    /// There is nothing to it.
    #[error("it is empty")]
    Empty,
    /// Docker shows images by such digits; repositories may not look like that.
    #[error("64 hexadecimal digits are an image's ID; a name must not look like one")]
    Identifier,
    /// The host before the first slash is none.
    #[error("\"{0}\" is no registry (HOST, HOST:PORT or [IPV6]:PORT)")]
    Registry(String),
    /// The path has capitals.
    #[error("the repository must be in lower case: \"{}\"", .0.to_lowercase())]
    UpperCase(String),
    /// A part of the path is not made of what it may be.
    #[error(
        "\"{0}\" is no part of a repository's path: lower-case letters and digits, with \".\", \"_\", \"__\" or \"-\" \
         between them"
    )]
    Component(String),
    /// The path is too long.
    #[error("its repository has {0} characters; it may have {MAX_REPOSITORY}")]
    Long(usize),
    /// The part behind the colon is none.
    #[error(
        "\"{0}\" is no tag: up to {MAX_TAG} letters, digits, \"_\", \".\" and \"-\", the first neither \".\" nor \"-\""
    )]
    Tag(String),
    /// The part behind the @ is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// Enough of what a user typed to know it by.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(100).flat_map(char::escape_debug).collect();
    if text.chars().nth(100).is_some() {
        shown.push('…');
    }
    shown
}

impl Name {
    /// Reads `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.
    ///
    /// What stands before the first slash is a registry if it has a dot, a colon or a capital letter, or is
    /// `localhost`.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        read(text).map_err(|cause| NameError { text: text.to_owned(), cause })
    }

    /// The registry: a host and perhaps a port, `docker.io` if none was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry; of docker.io, with `library/`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. A name without a digest always has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, if the name says which one it must be.
    pub fn digest(&self) -> Option<Sha256> {
        self.digest
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn reference(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The name of this very manifest in the same repository, without a tag.
    pub fn with_digest(&self, digest: Sha256) -> Name {
        Name { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// As Docker prints names: without what it would add by itself, but with the tag.
    pub fn familiar(&self) -> String {
        let qualifiers = Qualifiers(self);
        format!("{}{qualifiers}", self.familiar_repository())
    }

    /// As [`Name::familiar`], without tag and digest: the column REPOSITORY of a list.
    pub fn familiar_repository(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix(OFFICIAL) {
            // Without its `library/`, a longer path would be another repository.
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.repository.clone(),
        }
    }
}

/// The part of a name behind the repository.
struct Qualifiers<'a>(&'a Name);

impl fmt::Display for Qualifiers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.0.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, Qualifiers(self))
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Name::parse(text)
    }
}

impl NameError {
    /// What is wrong with the name.
    pub fn cause(&self) -> &NameCause {
        &self.cause
    }
}

fn read(text: &str) -> Result<Name, NameCause> {
    if text.is_empty() {
        return Err(NameCause::Empty);
    }
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(NameCause::Identifier);
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Sha256>()?)),
        None => (text, None),
    };
    let (registry, rest) = split_registry(rest)?;
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(checked_tag(tag)?.to_owned())),
        None => (rest, None),
    };
    let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
    Ok(Name { registry: registry.to_owned(), repository: repository(registry, path)?, tag, digest })
}

/// The registry, and what follows it.
fn split_registry(text: &str) -> Result<(&str, &str), NameCause> {
    match text.split_once('/') {
        Some((host, rest)) if is_host_like(host) => {
            let registry = if host == LEGACY_REGISTRY { DEFAULT_REGISTRY } else { host };
            let found = is_host(host).then_some((registry, rest));
            found.ok_or_else(|| NameCause::Registry(shortened(host)))
        }
        _ => Ok((DEFAULT_REGISTRY, text)),
    }
}

/// Whether this first part of a name means a registry, not a user of docker.io.
fn is_host_like(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.contains(char::is_uppercase)
}

/// `domain[:port]`, where the domain may be an IPv6 address in brackets.
pub(crate) fn is_host(text: &str) -> bool {
    let (domain, port) = match text.rfind(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_is_valid = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| {
            digits.bytes().all(|digit| digit.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        });
    let domain_is_valid = match domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => domain.split('.').all(is_label),
    };
    text.len() <= MAX_REGISTRY && domain_is_valid && port_is_valid
}

fn is_label(label: &str) -> bool {
    let bounded = !label.starts_with('-') && !label.ends_with('-') && !label.is_empty();
    bounded && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The checked path; docker.io's one-word paths get their `library/`.
fn repository(registry: &str, path: &str) -> Result<String, NameCause> {
    if path.contains(char::is_uppercase) {
        return Err(NameCause::UpperCase(shortened(path)));
    }
    if let Some(wrong) = path.split('/').find(|component| !is_component(component)) {
        return Err(NameCause::Component(shortened(wrong)));
    }
    let official = registry == DEFAULT_REGISTRY && !path.contains('/');
    let repository = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
    match repository.len() {
        0..=MAX_REPOSITORY => Ok(repository),
        length => Err(NameCause::Long(length)),
    }
}

/// Lower-case letters and digits in runs; between two runs one `.`, one or two `_`, or any number of `-`.
pub(crate) fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators: Vec<&str> = component.split(alphanumeric).filter(|between| !between.is_empty()).collect();
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && separators
            .iter()
            .all(|between| matches!(*between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

pub(crate) fn checked_tag(tag: &str) -> Result<&str, NameCause> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    if valid { Ok(tag) } else { Err(NameCause::Tag(shortened(tag))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_get_what_docker_adds_and_lose_it_again() {
        let digested = format!("busybox@{DIGEST}");
        for (text, canonical, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("owner/app", "docker.io/owner/app:latest", "owner/app:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/owner/app", "docker.io/owner/app:latest", "owner/app:latest"),
            ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("ghcr.io/o/app:v1", "ghcr.io/o/app:v1", "ghcr.io/o/app:v1"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("Host/app", "Host/app:latest", "Host/app:latest"),
            ("host:5000", "docker.io/library/host:5000", "host:5000"),
            ("a__b/c---d.e:T_a.g-", "docker.io/a__b/c---d.e:T_a.g-", "a__b/c---d.e:T_a.g-"),
            (&digested, &format!("docker.io/library/{digested}"), &digested),
            (
                &format!("r.example/a:t@{DIGEST}"),
                &format!("r.example/a:t@{DIGEST}"),
                &format!("r.example/a:t@{DIGEST}"),
            ),
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!(name.to_string(), canonical, "{text}");
            assert_eq!(name.familiar(), familiar, "{text}");
        }
    }

    #[test]
    fn a_digest_is_asked_for_rather_than_a_tag() {
        assert_eq!(Name::parse("a").unwrap().reference(), "latest");
        let both = Name::parse(&format!("a:t@{DIGEST}")).unwrap();
        assert_eq!((both.tag(), both.reference().as_str()), (Some("t"), DIGEST));
        let digest_only = Name::parse(&format!("a@{DIGEST}")).unwrap();
        assert_eq!(digest_only.tag(), None);
        assert_eq!(Name::parse("a:t").unwrap().with_digest(DIGEST.parse().unwrap()), digest_only);
    }

    #[test]
    fn what_is_no_name_is_told_with_the_part_that_is_wrong() {
        let (long_path, long_tag) = (["a"; 130].join("/"), format!("a:{}", "t".repeat(129)));
        for (text, told) in [
            ("", "empty"),
            (&DIGEST[7..], "ID"),
            ("BusyBox", "lower case: \"busybox\""),
            ("ghcr.io/Owner/app", "lower case: \"owner/app\""),
            ("a//b", "\"\" is no part"),
            ("/a", "\"\" is no part"),
            ("a/", "\"\" is no part"),
            ("-a", "\"-a\" is no part"),
            ("a..b", "\"a..b\" is no part"),
            ("a___b", "\"a___b\" is no part"),
            ("a._b", "\"a._b\" is no part"),
            ("a b", "\"a b\" is no part"),
            ("r.example/../etc", "\"..\" is no part"),
            ("-r.example/a", "\"-r.example\" is no registry"),
            ("r.example:/a", "is no registry"),
            ("r.example:99999/a", "is no registry"),
            ("r.example:+80/a", "is no registry"),
            ("[::g]/a", "is no registry"),
            ("user@r.example/a", "is not a SHA-256 digest"),
            ("a:", "\"\" is no tag"),
            ("a:-t", "\"-t\" is no tag"),
            ("a:b:c", "\"b:c\" is no tag"),
            (&long_tag, "is no tag"),
            (&long_path, "it may have 255"),
            ("a@sha512:00", "is not a SHA-256 digest"),
            ("a@", "is not a SHA-256 digest"),
            ("http://r.example/a", "is no registry"),
            ("a\u{1b}[2J", "\\u{1b}[2J"),
        ] {
            let error = Name::parse(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
            assert!(error.contains("is no image name") && !error.contains('\u{1b}'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC*") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(&Name::parse(&name.to_string()).unwrap(), &name);
            }
        }

        #[test]
        fn both_ways_of_writing_a_name_mean_it(
            host in "(([a-zA-Z][a-z0-9-]{0,8}[a-z0-9]\\.[a-z]{2,5}|localhost)(:[1-9][0-9]{0,3})?/)?",
            path in "[a-z0-9]{1,8}((_|__|-{1,3})[a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}([.][a-z0-9]{1,8})?){0,3}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
            with_digest in any::<bool>(),
        ) {
            let digest = if with_digest { format!("@{DIGEST}") } else { String::new() };
            let name = Name::parse(&format!("{host}{path}{tag}{digest}")).unwrap();
            prop_assert_eq!(&Name::parse(&name.to_string()).unwrap(), &name);
            prop_assert_eq!(&Name::parse(&name.familiar()).unwrap(), &name);
            prop_assert_eq!(name.tag().is_some(), !tag.is_empty() || !with_digest);
        }
    }
}
