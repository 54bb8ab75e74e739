//! An OCI image layout: `index.json` names manifests, or further indexes, and those name the rest, all by digest.
//! See the OCI image specification, image-layout.md.

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageIndex};

use crate::image::{Documents, OpenCause};
use crate::manifests::{self, MAX_DOCUMENT, blob_name, parse, plain};
use crate::name::Name;
use crate::platform::Platform;
use crate::source::Source;

const INDEX: &str = "index.json";
pub(crate) const TAG: &str = "org.opencontainers.image.ref.name";
/// Where containerd and Docker put the whole name; [`TAG`] then holds its tag alone.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Reads the image of this tag for this platform; `None` if the source is no OCI layout.
pub(crate) fn read(
    source: &Source,
    tag: Option<&str>,
    platform: &Platform,
) -> Result<Option<Documents>, OpenCause> {
    let Some(index) = read_index(source)? else { return Ok(None) };
    read_image(source, &choose_tag(index.manifests(), tag)?, platform).map(Some)
}

/// Reads all images for this platform, each once for every name it has; `None` if the source is no OCI layout.
pub(crate) fn read_all(source: &Source, platform: &Platform) -> Result<Option<Vec<Documents>>, OpenCause> {
    let Some(index) = read_index(source)? else { return Ok(None) };
    let names: BTreeSet<_> = index.manifests().iter().map(stated_name).collect();
    let images = names.into_iter().map(|name| {
        let entries: Vec<&Descriptor> =
            index.manifests().iter().filter(|entry| stated_name(entry) == name).collect();
        read_image(source, &entries, platform)
    });
    images.collect::<Result<_, _>>().map(Some)
}

fn read_index(source: &Source) -> Result<Option<ImageIndex>, OpenCause> {
    document(source, INDEX)?.map(|index| parse(INDEX, &index)).transpose()
}

/// Reads the image of these entries of the index, which have one name.
fn read_image(source: &Source, entries: &[&Descriptor], platform: &Platform) -> Result<Documents, OpenCause> {
    let chosen = manifests::choose(entries, platform, &|_, digest| {
        let name = blob_name(digest);
        document(source, &name)?.ok_or(OpenCause::MissingFile(name))
    })?;
    let target = match entries {
        [only] => plain(only),
        // Several entries of one name are one for each platform, and nothing stands for all of them.
        _ => chosen.manifest.clone(),
    };
    Ok(Documents {
        names: entries.first().and_then(|entry| full_name(entry)).into_iter().collect(),
        target: Some(target),
        manifest: Some(chosen.manifest),
        configuration: chosen.configuration,
        layers: chosen.layers,
        verbatim: chosen.documents,
    })
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
            let names: BTreeSet<_> = descriptors.iter().map(stated_name).collect();
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

fn stated_name(descriptor: &Descriptor) -> (Option<&str>, Option<&str>) {
    (annotation(descriptor, CONTAINERD_NAME), annotation(descriptor, TAG))
}

/// The entry's name, if it is a whole one: a tag alone names no image outside of its layout.
fn full_name(descriptor: &Descriptor) -> Option<Name> {
    let text = match stated_name(descriptor) {
        (Some(name), _) => name,
        (None, Some(name)) if name.contains(['/', ':']) => name,
        _ => return None,
    };
    Name::parse(text).ok().filter(|name| name.digest().is_none())
}

/// How a user can name the entry; by digest, which is no tag, if it has none.
fn display_name(descriptor: &Descriptor) -> String {
    let (whole, tag) = stated_name(descriptor);
    whole.or(tag).map_or_else(|| format!("(untagged) {}", descriptor.digest()), str::to_owned)
}

fn is_tagged(descriptor: &Descriptor, tag: &str) -> bool {
    let (whole, short) = stated_name(descriptor);
    whole.into_iter().chain(short).any(|name| names_tag(name, tag))
}

/// Whether an image's name is meant by what the user wrote: the whole of it, or its end from a `/` or `:` on.
pub(crate) fn names_tag(name: &str, tag: &str) -> bool {
    match name.strip_suffix(tag) {
        Some(before) => before.is_empty() || before.ends_with([':', '/']),
        None => false,
    }
}

pub(crate) fn document(source: &Source, name: &str) -> Result<Option<Vec<u8>>, OpenCause> {
    source.document(name, MAX_DOCUMENT).map_err(|source| OpenCause::Read { name: name.to_owned(), source })
}
