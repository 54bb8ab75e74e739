//! A docker archive: `manifest.json` names each image's configuration and layers by their file in the archive.
//! `docker save` (before version 25), `podman save` and `skopeo copy docker-archive:` write it.

use oci_spec::image::MediaType;
use serde::Deserialize;

use crate::image::{Documents, OpenCause};
use crate::layout::{document, malformed, names_tag, parse};
use crate::source::Source;

const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Reads the image of this tag; `None` if the source is no docker archive.
pub(crate) fn read(source: &Source, tag: Option<&str>) -> Result<Option<Documents>, OpenCause> {
    // Names in the manifest are free text: only an archive's list of members makes them harmless.
    let Source::Archive(_) = source else { return Ok(None) };
    let Some(manifest) = document(source, MANIFEST)? else { return Ok(None) };
    let images: Vec<SavedImage> = parse(MANIFEST, &manifest)?;
    let image = choose(&images, tag)?;
    let missing = |name: &String| OpenCause::MissingFile(name.clone());
    let configuration = document(source, &image.config)?.ok_or_else(|| missing(&image.config))?;
    let layers = image.layers.iter().map(|name| {
        let read = |source| OpenCause::Read { name: name.clone(), source };
        let blob = source.blob(name).map_err(read)?.ok_or_else(|| missing(name))?;
        Ok((name.clone(), MediaType::ImageLayer, None, blob.size))
    });
    Ok(Some(Documents { configuration, layers: layers.collect::<Result<_, OpenCause>>()? }))
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
