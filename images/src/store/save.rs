//! Images into one archive.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use oci_spec::image::{Descriptor, MediaType, SCHEMA_VERSION};
use serde_json::json;
use tar::{EntryType, Header};
use thiserror::Error;

use super::find::Meaning;
use super::records::Records;
use super::{FindError, Store, StoreError, StoredImage};
use crate::digest::Sha256;
use crate::docker::{self, SavedImage};
use crate::layout::{CONTAINERD_NAME, TAG};
use crate::manifests::blob_name;
use crate::name::Name;

/// What an archive looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout that also has Docker's `manifest.json`, as `docker save` writes since version 25: read by Docker,
    /// Podman and skopeo (as either kind of archive).
    #[default]
    Docker,
    /// An OCI layout and nothing else.
    Oci,
}

/// Why images are not saved.
#[derive(Debug, Error)]
pub enum SaveError {
    /// One is not here.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Writes the images, each found as by [`Store::find`], as one tar archive. Those given by name keep it.
    pub fn save(&self, images: &[String], format: Format, archive: impl Write) -> Result<(), SaveError> {
        let _hold = self.hold()?;
        let records = self.records()?;
        let mut contents = Contents::default();
        for text in images {
            self.add_contents(text, &records, &mut contents)?;
        }
        let mut archive = Archive { tar: tar::Builder::new(archive) };
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        for digest in &contents.blobs {
            let (file, size) =
                self.blobs.open(digest).map_err(|source| StoreError::io(&self.blobs.path(digest), source))?;
            archive.file(&blob_name(digest), size, file)?;
        }
        archive.document("index.json", &contents.index(format))?;
        if format == Format::Docker {
            archive.document(docker::MANIFEST, &json!(contents.docker))?;
        }
        archive.document("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
        archive.tar.into_inner().and_then(|mut archive| archive.flush()).map_err(SaveError::Write)
    }

    fn add_contents(&self, text: &str, records: &Records, contents: &mut Contents) -> Result<(), SaveError> {
        let (meaning, manifest) = records.resolve(text)?;
        let name = match meaning {
            Meaning::Name(name) => Some(name),
            Meaning::Id(_) => None,
        };
        let record = name.as_ref().and_then(|name| records.names.get(name));
        let target = record.map_or(&manifest, |record| &record.target);
        let (root, reach) = self.complete(target, &manifest)?;
        if let Some(missing) = reach.missing.first() {
            return Err(self.damaged(&self.digest_of(missing)?, "it is missing".to_owned()).into());
        }
        for descriptor in reach.documents.iter().chain(&reach.blobs) {
            contents.blobs.insert(self.digest_of(descriptor)?);
        }
        let name = name.filter(|name| name.digest().is_none());
        contents.add_docker(&self.read_image(&manifest)?, name.as_ref());
        contents.entries.push((root, name));
        Ok(())
    }
}

/// What goes into an archive.
#[derive(Default)]
struct Contents {
    entries: Vec<(Descriptor, Option<Name>)>,
    docker: Vec<SavedImage>,
    /// Sorted, so that the same images make the same archive.
    blobs: BTreeSet<Sha256>,
}

impl Contents {
    /// `manifest.json` has one entry for each image, whatever its names.
    fn add_docker(&mut self, image: &StoredImage, name: Option<&Name>) {
        let config = blob_name(&image.id());
        let names = name.map(Name::familiar);
        match self.docker.iter_mut().find(|other| other.config == config) {
            Some(other) => other.repo_tags.get_or_insert_default().extend(names),
            None => self.docker.push(SavedImage {
                config,
                repo_tags: names.map(|name| vec![name]),
                layers: image.layers().iter().map(|layer| blob_name(&layer.digest)).collect(),
            }),
        }
    }

    fn index(&self, format: Format) -> serde_json::Value {
        let entries = self.entries.iter().map(|(descriptor, name)| {
            let mut entry = json!(descriptor);
            if let Some(name) = name {
                entry["annotations"] = match format {
                    // containerd and Docker have the whole name apart from the tag; Podman and skopeo know only one.
                    Format::Docker => json!({ CONTAINERD_NAME: name.to_string(), TAG: name.reference() }),
                    Format::Oci => json!({ TAG: name.to_string() }),
                };
            }
            entry
        });
        json!({
            "schemaVersion": SCHEMA_VERSION,
            "mediaType": MediaType::ImageIndex,
            "manifests": entries.collect::<Vec<_>>(),
        })
    }
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> Archive<W> {
    fn directory(&mut self, name: &str) -> Result<(), SaveError> {
        self.append(name, EntryType::Directory, 0o755, 0, io::empty())
    }

    fn file(&mut self, name: &str, size: u64, content: impl Read) -> Result<(), SaveError> {
        self.append(name, EntryType::Regular, 0o644, size, content.take(size))
    }

    fn document(&mut self, name: &str, content: &serde_json::Value) -> Result<(), SaveError> {
        let content = content.to_string();
        self.file(name, content.len() as u64, content.as_bytes())
    }

    fn append(
        &mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<(), SaveError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.tar.append_data(&mut header, name, content).map_err(SaveError::Write)
    }
}
