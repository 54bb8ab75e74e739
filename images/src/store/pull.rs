//! An image from a registry.

use std::io::{self, Read};

use oci_spec::image::Descriptor;
use thiserror::Error;

use super::add::descriptor;
use super::layers::Wanted;
use super::{LayerError, Progress, Store, StoreError, StoredImage};
use crate::digest::Sha256;
use crate::image::{Documents, LayerDescriptor, OpenCause};
use crate::limits::Limits;
use crate::manifests::{self, MAX_DOCUMENT, blob_name, is_index, is_manifest};
use crate::name::Name;
use crate::platform::Platform;
use crate::registry::{RegistryError, Repository};
use crate::source::Blob;

/// How to pull.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// Which of an index's images.
    pub platform: Platform,
    /// What the image may ask of this machine.
    pub limits: Limits,
    /// Layers on their way at the same time.
    pub parallel: usize,
}

impl Default for PullOptions {
    fn default() -> Self {
        PullOptions { platform: Platform::default(), limits: Limits::default(), parallel: 3 }
    }
}

/// What a pull came to.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: StoredImage,
    /// Digest of what the name stands for at the registry: an index or a manifest.
    pub digest: Sha256,
    /// Whether anything had to be changed: Docker's "Downloaded newer image", else "Image is up to date".
    pub is_new: bool,
}

/// Why an image is not pulled. Whole layers that came before the failure stay until a collection: a new attempt
/// finds them.
#[derive(Debug, Error)]
#[error("cannot pull {name}: {cause}")]
pub struct PullError {
    name: Name,
    #[source]
    cause: Box<PullCause>,
}

/// What keeps an image from being pulled.
#[derive(Debug, Error)]
pub enum PullCause {
    /// The registry does not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A document of it is refused.
    #[error(transparent)]
    Document(#[from] OpenCause),
    /// A layer of it is bad, or cannot be kept.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PullError {
    /// What kept it from being pulled.
    pub fn cause(&self) -> &PullCause {
        &self.cause
    }
}

impl Store {
    /// Gets the image from the repository, which is the name's, and gives it the name.
    pub fn pull(
        &self,
        name: &Name,
        repository: &Repository,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Pulled, PullError> {
        self.pull_now(name, repository, options, progress)
            .map_err(|cause| PullError { name: name.clone(), cause: Box::new(cause) })
    }

    fn pull_now(
        &self,
        name: &Name,
        repository: &Repository,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Pulled, PullCause> {
        let _hold = self.hold()?;
        let documents = self.pull_documents(name, repository, &options.platform)?;
        let (_, layers) = documents.check(&options.platform)?;
        self.sweep_layers()?;
        let layers = self.ensure_layers(&Wanted {
            layers: &layers,
            open: &|layer| open_layer(repository, layer),
            limits: &options.limits,
            parallel: options.parallel,
            progress,
        })?;
        let added = self.add(&documents, &layers)?;
        // A tag beside a digest says nothing: the digest is what was asked for.
        let name = name.digest().map_or_else(|| name.clone(), |digest| name.with_digest(digest));
        let is_new = self.give_name(&name, &added)?;
        let digest = self.digest_of(&added.target)?;
        let image = self.describe(&added.manifest, &self.records()?)?;
        Ok(Pulled { image, digest, is_new })
    }

    /// Gets the documents from what the name stands for down to the configuration.
    fn pull_documents(
        &self,
        name: &Name,
        repository: &Repository,
        platform: &Platform,
    ) -> Result<Documents, PullCause> {
        let root = repository.manifest(&name.reference())?;
        let target = descriptor(root.media_type.clone(), root.bytes.len() as u64, &root.digest)
            .map_err(|source| StoreError::io(&self.directory, source))?;
        let chosen = manifests::choose(&[&target], platform, &|descriptor, digest| {
            if *digest == root.digest {
                return Ok(root.bytes.clone());
            }
            // What is here was proven when it came.
            match self.blobs.document(digest) {
                Ok(content) => Ok(content),
                Err(_) => fetch(repository, descriptor, digest),
            }
        })?;
        Ok(Documents {
            names: vec![name.clone()],
            target: Some(target),
            manifest: Some(chosen.manifest),
            configuration: chosen.configuration,
            layers: chosen.layers,
            verbatim: chosen.documents,
        })
    }
}

fn fetch(repository: &Repository, descriptor: &Descriptor, digest: &Sha256) -> Result<Vec<u8>, OpenCause> {
    let media_type = descriptor.media_type();
    if is_manifest(media_type) || is_index(media_type) {
        return Ok(repository.manifest(&digest.to_string())?.bytes);
    }
    let read = |source| OpenCause::Read { name: blob_name(digest), source };
    if descriptor.size() > MAX_DOCUMENT {
        let text = format!("it has {} bytes; such a document may have {MAX_DOCUMENT}", descriptor.size());
        return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, text)));
    }
    let mut content = Vec::new();
    repository.blob(digest, descriptor.size())?.take(MAX_DOCUMENT).read_to_end(&mut content).map_err(read)?;
    Ok(content)
}

fn open_layer(repository: &Repository, layer: &LayerDescriptor) -> io::Result<Blob<'static>> {
    let digest = layer.digest.ok_or(io::ErrorKind::NotFound)?;
    let stream = repository.blob(&digest, layer.size).map_err(io::Error::other)?;
    Ok(Blob { size: layer.size, stream })
}
