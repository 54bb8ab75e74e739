//! A docker archive: `manifest.json` names each image's configuration and layers by their file in the archive.
//! `docker save` (before version 25), `podman save` and `skopeo copy docker-archive:` write it.

use oci_spec::image::MediaType;
use serde::{Deserialize, Serialize};

use crate::image::{BlobDescriptor, Documents, OpenCause};
use crate::layout::{document, names_tag};
use crate::manifests::{malformed, parse};
use crate::name::Name;
use crate::source::Source;

pub(crate) const MANIFEST: &str = "manifest.json";

/// An entry of `manifest.json`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SavedImage {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

/// Reads the image of this tag; `None` if the source is no docker archive.
pub(crate) fn read(source: &Source, tag: Option<&str>) -> Result<Option<Documents>, OpenCause> {
    let Some(images) = read_manifest(source)? else { return Ok(None) };
    read_image(source, choose(&images, tag)?).map(Some)
}

/// Reads all images; `None` if the source is no docker archive.
pub(crate) fn read_all(source: &Source) -> Result<Option<Vec<Documents>>, OpenCause> {
    let Some(images) = read_manifest(source)? else { return Ok(None) };
    images.iter().map(|image| read_image(source, image)).collect::<Result<_, _>>().map(Some)
}

fn read_manifest(source: &Source) -> Result<Option<Vec<SavedImage>>, OpenCause> {
    // Names in the manifest are free text: only an archive's list of members makes them harmless.
    let Source::Archive(_) = source else { return Ok(None) };
    document(source, MANIFEST)?.map(|manifest| parse(MANIFEST, &manifest)).transpose()
}

fn read_image(source: &Source, image: &SavedImage) -> Result<Documents, OpenCause> {
    let missing = |name: &String| OpenCause::MissingFile(name.clone());
    let configuration = document(source, &image.config)?.ok_or_else(|| missing(&image.config))?;
    let layers = image.layers.iter().map(|name| {
        let read = |source| OpenCause::Read { name: name.clone(), source };
        let blob = source.blob(name).map_err(read)?.ok_or_else(|| missing(name))?;
        Ok(BlobDescriptor {
            name: name.clone(),
            media_type: MediaType::ImageLayer,
            digest: None,
            size: blob.size,
        })
    });
    Ok(Documents {
        names: image.repo_tags.iter().flatten().filter_map(|name| Name::parse(name).ok()).collect(),
        target: None,
        manifest: None,
        configuration,
        layers: layers.collect::<Result<_, OpenCause>>()?,
        verbatim: Vec::new(),
    })
}

fn choose<'a>(images: &'a [SavedImage], tag: Option<&str>) -> Result<&'a SavedImage, OpenCause> {
    let present = || images.iter().flat_map(|image| image.repo_tags.iter().flatten().cloned()).collect();
    match (images, tag) {
        ([], _) => Err(malformed(MANIFEST, "it lists no image".into())),
        ([image], None) => Ok(image),
        (_, None) => Err(OpenCause::Ambiguous { present: present() }),
        (_, Some(tag)) => images
            .iter()
            .find(|image| image.repo_tags.iter().flatten().any(|name| names_tag(name, tag)))
            .ok_or_else(|| OpenCause::UnknownTag { tag: tag.to_owned(), present: present() }),
    }
}
