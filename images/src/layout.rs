//! An OCI image layout: `index.json` names manifests, or further indexes, and those name the rest, all by digest.
//! See the OCI image specification, image-layout.md, image-index.md and manifest.md.

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;

use crate::digest::Sha256;
use crate::image::{Documents, OpenCause, Platform};
use crate::source::Source;

/// Bytes an index, a manifest or a configuration may have. Registries take manifests of 4 MiB.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;
/// Indexes within indexes, and manifests to look into, before an image is refused.
const MAX_DEPTH: u32 = 4;
const MAX_MANIFESTS: usize = 1000;

const INDEX: &str = "index.json";
const TAG: &str = "org.opencontainers.image.ref.name";
/// Where containerd and Docker put the whole name; [`TAG`] then holds its tag alone.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// Reads the image of this tag for this platform; `None` if the source is no OCI layout.
pub(crate) fn read(
    source: &Source,
    tag: Option<&str>,
    platform: &Platform,
) -> Result<Option<Documents>, OpenCause> {
    let Some(index) = document(source, INDEX)? else { return Ok(None) };
    let index: ImageIndex = parse(INDEX, &index)?;
    let mut manifests = Vec::new();
    for descriptor in choose_tag(index.manifests(), tag)? {
        collect_manifests(source, descriptor, MAX_DEPTH, &mut manifests)?;
    }
    let manifest = choose_platform(source, &manifests, platform)?;
    let configuration = blob(source, manifest.config())?;
    let layers = manifest.layers().iter().map(|layer| {
        check_layer_type(layer.media_type())?;
        let digest: Sha256 = layer.digest().as_ref().parse()?;
        Ok((blob_name(&digest), layer.media_type().clone(), Some(digest), layer.size()))
    });
    Ok(Some(Documents { configuration, layers: layers.collect::<Result<_, OpenCause>>()? }))
}

/// Those entries of the index that are the image asked for: one for each platform, in some layouts.
fn choose_tag<'a>(
    descriptors: &'a [Descriptor],
    tag: Option<&str>,
) -> Result<Vec<&'a Descriptor>, OpenCause> {
    let present = || {
        let names: BTreeSet<String> = descriptors.iter().map(display_name).collect();
        names.into_iter().collect::<Vec<_>>()
    };
    match tag {
        Some(tag) => {
            let chosen: Vec<_> = descriptors.iter().filter(|descriptor| is_tagged(descriptor, tag)).collect();
            if chosen.is_empty() {
                return Err(OpenCause::UnknownTag { tag: tag.to_owned(), present: present() });
            }
            Ok(chosen)
        }
        None => {
            let names: BTreeSet<_> =
                descriptors.iter().map(|d| (annotation(d, CONTAINERD_NAME), annotation(d, TAG))).collect();
            if names.len() > 1 {
                return Err(OpenCause::Ambiguous { present: present() });
            }
            Ok(descriptors.iter().collect())
        }
    }
}

fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor.annotations().as_ref()?.get(key).map(String::as_str)
}

/// How a user can name the entry; by digest, which is no tag, if it has none.
fn display_name(descriptor: &Descriptor) -> String {
    let name = annotation(descriptor, CONTAINERD_NAME).or(annotation(descriptor, TAG));
    name.map_or_else(|| format!("(untagged) {}", descriptor.digest()), str::to_owned)
}

fn is_tagged(descriptor: &Descriptor, tag: &str) -> bool {
    [TAG, CONTAINERD_NAME]
        .iter()
        .filter_map(|key| annotation(descriptor, key))
        .any(|name| names_tag(name, tag))
}

/// Whether an image's name is meant by what the user wrote: the whole of it, or its end from a `/` or `:` on.
pub(crate) fn names_tag(name: &str, tag: &str) -> bool {
    match name.strip_suffix(tag) {
        Some(before) => before.is_empty() || before.ends_with([':', '/']),
        None => false,
    }
}

/// Adds the manifests behind a descriptor, looking through indexes.
fn collect_manifests(
    source: &Source,
    descriptor: &Descriptor,
    depth: u32,
    manifests: &mut Vec<Descriptor>,
) -> Result<(), OpenCause> {
    match descriptor.media_type() {
        MediaType::ImageManifest => manifests.push(descriptor.clone()),
        MediaType::Other(other) if other == DOCKER_MANIFEST => manifests.push(descriptor.clone()),
        media_type if is_index(media_type) && depth > 0 => {
            let index: ImageIndex = parse("image index", &blob(source, descriptor)?)?;
            for inner in index.manifests() {
                collect_manifests(source, inner, depth - 1, manifests)?;
            }
        }
        media_type => {
            return Err(OpenCause::MediaType { what: "index entry", media_type: media_type.clone() });
        }
    }
    match manifests.len() > MAX_MANIFESTS {
        true => Err(malformed(INDEX, format!("more than {MAX_MANIFESTS} manifests"))),
        false => Ok(()),
    }
}

fn is_index(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageIndex => true,
        MediaType::Other(other) => other == DOCKER_INDEX,
        _ => false,
    }
}

/// The first manifest for the platform. Where the index states none, the configuration is asked.
fn choose_platform(
    source: &Source,
    manifests: &[Descriptor],
    wanted: &Platform,
) -> Result<ImageManifest, OpenCause> {
    let mut present = BTreeSet::new();
    for descriptor in manifests {
        if let Some(stated) = descriptor.platform() {
            let stated = Platform { os: stated.os().clone(), architecture: stated.architecture().clone() };
            if stated != *wanted {
                // Build attestations sit beside the images, for a platform of their own.
                if stated.to_string() != "unknown/unknown" {
                    present.insert(stated.to_string());
                }
                continue;
            }
        }
        let manifest: ImageManifest = parse("manifest", &blob(source, descriptor)?)?;
        if descriptor.platform().is_some() || manifests.len() == 1 {
            return Ok(manifest);
        }
        #[derive(serde::Deserialize)]
        struct Stated {
            os: oci_spec::image::Os,
            architecture: oci_spec::image::Arch,
        }
        let stated: Stated = parse("configuration", &blob(source, manifest.config())?)?;
        let stated = Platform { os: stated.os, architecture: stated.architecture };
        if stated == *wanted {
            return Ok(manifest);
        }
        present.insert(stated.to_string());
    }
    Err(OpenCause::Platform { wanted: wanted.clone(), present: present.into_iter().collect() })
}

/// Lets only plain, gzip and zstd tar layers pass; encrypted ones (`+encrypted`) and artifacts end here.
fn check_layer_type(media_type: &MediaType) -> Result<(), OpenCause> {
    match media_type {
        MediaType::ImageLayer
        | MediaType::ImageLayerGzip
        | MediaType::ImageLayerZstd
        | MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => Ok(()),
        MediaType::Other(other) if DOCKER_LAYERS.contains(&other.as_str()) => Ok(()),
        media_type => Err(OpenCause::MediaType { what: "layer", media_type: media_type.clone() }),
    }
}

fn blob_name(digest: &Sha256) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A document's content, checked against its digest.
fn blob(source: &Source, descriptor: &Descriptor) -> Result<Vec<u8>, OpenCause> {
    let digest: Sha256 = descriptor.digest().as_ref().parse()?;
    let name = blob_name(&digest);
    let data = document(source, &name)?.ok_or_else(|| OpenCause::MissingFile(name.clone()))?;
    match Sha256::of(&data) {
        actual if actual == digest => Ok(data),
        actual => Err(OpenCause::Mismatch { name, actual }),
    }
}

pub(crate) fn document(source: &Source, name: &str) -> Result<Option<Vec<u8>>, OpenCause> {
    source.document(name, MAX_DOCUMENT).map_err(|source| OpenCause::Read { name: name.to_owned(), source })
}

pub(crate) fn parse<T: DeserializeOwned>(name: &str, data: &[u8]) -> Result<T, OpenCause> {
    serde_json::from_slice(data).map_err(|error| malformed(name, error.to_string()))
}

pub(crate) fn malformed(name: &str, cause: String) -> OpenCause {
    OpenCause::Malformed { name: name.to_owned(), cause }
}
