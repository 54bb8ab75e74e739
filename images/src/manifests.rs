//! Indexes and manifests: the way from what an image's name stands for down to its configuration and layers.
//! See the OCI image specification, image-index.md and manifest.md.

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;

use crate::digest::Sha256;
use crate::image::{BlobDescriptor, OpenCause};
use crate::platform::Platform;

/// Bytes an index, a manifest or a configuration may have. Registries take manifests of 4 MiB.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;
/// Indexes within indexes, and manifests to look into, before an image is refused.
const MAX_DEPTH: u32 = 4;
const MAX_MANIFESTS: usize = 1000;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// Where documents come from: the bytes behind a descriptor, not yet proven.
pub(crate) type Fetch<'a> = dyn Fn(&Descriptor, &Sha256) -> Result<Vec<u8>, OpenCause> + 'a;

/// One platform's image, and the documents that lead to it.
pub(crate) struct Chosen {
    pub(crate) manifest: Descriptor,
    pub(crate) configuration: Vec<u8>,
    pub(crate) layers: Vec<BlobDescriptor>,
    /// The manifest and the indexes on the way to it, byte for byte.
    pub(crate) documents: Vec<Vec<u8>>,
}

/// The image for this platform among those that the descriptors lead to.
pub(crate) fn choose(
    descriptors: &[&Descriptor],
    platform: &Platform,
    fetch: &Fetch<'_>,
) -> Result<Chosen, OpenCause> {
    let mut found = Found { fetch, manifests: Vec::new(), indexes: Vec::new() };
    descriptors.iter().try_for_each(|descriptor| found.collect(descriptor, MAX_DEPTH))?;
    let (manifest, document) = found.choose_platform(platform)?;
    let parsed: ImageManifest = parse("manifest", &document)?;
    let configuration = read(fetch, parsed.config())?;
    let layers = parsed.layers().iter().map(layer).collect::<Result<_, OpenCause>>()?;
    let mut documents = found.indexes;
    documents.push(document);
    Ok(Chosen { manifest: plain(&manifest), configuration, layers, documents })
}

/// A descriptor of the same document without what an index says of it.
pub(crate) fn plain(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type().clone(), descriptor.size(), descriptor.digest().clone())
}

struct Found<'a> {
    fetch: &'a Fetch<'a>,
    manifests: Vec<Descriptor>,
    indexes: Vec<Vec<u8>>,
}

impl Found<'_> {
    /// Adds the manifests behind a descriptor, looking through indexes.
    fn collect(&mut self, descriptor: &Descriptor, depth: u32) -> Result<(), OpenCause> {
        match descriptor.media_type() {
            media_type if is_manifest(media_type) => self.manifests.push(descriptor.clone()),
            media_type if is_index(media_type) && depth > 0 => {
                let document = read(self.fetch, descriptor)?;
                let index: ImageIndex = parse("image index", &document)?;
                self.indexes.push(document);
                for inner in index.manifests() {
                    self.collect(inner, depth - 1)?;
                }
            }
            media_type if is_index(media_type) => {
                return Err(malformed(
                    "image index",
                    format!("more than {MAX_DEPTH} indexes within another"),
                ));
            }
            media_type => {
                return Err(OpenCause::MediaType { what: "manifest", media_type: media_type.clone() });
            }
        }
        match self.manifests.len() + self.indexes.len() > MAX_MANIFESTS {
            true => Err(malformed("image index", format!("more than {MAX_MANIFESTS} manifests"))),
            false => Ok(()),
        }
    }

    /// The first manifest for the platform. Where the index states none, the configuration is asked.
    fn choose_platform(&self, wanted: &Platform) -> Result<(Descriptor, Vec<u8>), OpenCause> {
        let mut present = BTreeSet::new();
        for descriptor in &self.manifests {
            if let Some(stated) = descriptor.platform() {
                let stated = Platform::from(stated);
                if !wanted.accepts(&stated) {
                    // Build attestations sit beside the images, for a platform of their own.
                    if stated.to_string() != "unknown/unknown" {
                        present.insert(stated.to_string());
                    }
                    continue;
                }
            }
            let document = read(self.fetch, descriptor)?;
            if descriptor.platform().is_some() || self.manifests.len() == 1 {
                return Ok((descriptor.clone(), document));
            }
            let manifest: ImageManifest = parse("manifest", &document)?;
            let stated: Platform = parse("configuration", &read(self.fetch, manifest.config())?)?;
            if wanted.accepts(&stated) {
                return Ok((descriptor.clone(), document));
            }
            present.insert(stated.to_string());
        }
        Err(OpenCause::Platform { wanted: wanted.clone(), present: present.into_iter().collect() })
    }
}

pub(crate) fn is_index(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageIndex => true,
        MediaType::Other(other) => other == DOCKER_INDEX,
        _ => false,
    }
}

pub(crate) fn is_manifest(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageManifest => true,
        MediaType::Other(other) => other == DOCKER_MANIFEST,
        _ => false,
    }
}

/// Lets only plain, gzip and zstd tar layers pass; encrypted ones (`+encrypted`) and artifacts end here.
fn layer(descriptor: &Descriptor) -> Result<BlobDescriptor, OpenCause> {
    match descriptor.media_type() {
        MediaType::ImageLayer
        | MediaType::ImageLayerGzip
        | MediaType::ImageLayerZstd
        | MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => (),
        MediaType::Other(other) if DOCKER_LAYERS.contains(&other.as_str()) => (),
        media_type => {
            return Err(OpenCause::MediaType { what: "layer", media_type: media_type.clone() });
        }
    }
    let digest: Sha256 = descriptor.digest().as_ref().parse()?;
    Ok(BlobDescriptor {
        name: blob_name(&digest),
        media_type: descriptor.media_type().clone(),
        digest: Some(digest),
        size: descriptor.size(),
    })
}

/// Where layouts, and the store, have a blob.
pub(crate) fn blob_name(digest: &Sha256) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A document, proven.
fn read(fetch: &Fetch<'_>, descriptor: &Descriptor) -> Result<Vec<u8>, OpenCause> {
    let digest: Sha256 = descriptor.digest().as_ref().parse()?;
    let data = fetch(descriptor, &digest)?;
    match Sha256::of(&data) {
        actual if actual == digest => Ok(data),
        actual => Err(OpenCause::Mismatch { name: blob_name(&digest), actual }),
    }
}

pub(crate) fn parse<T: DeserializeOwned>(name: &str, data: &[u8]) -> Result<T, OpenCause> {
    serde_json::from_slice(data).map_err(|error| malformed(name, error.to_string()))
}

pub(crate) fn malformed(name: &str, cause: String) -> OpenCause {
    OpenCause::Malformed { name: name.to_owned(), cause }
}
