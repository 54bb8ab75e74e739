//! An image: found, chosen by tag and platform, its documents read and checked. Its layers are still where they were.

use std::io;
use std::path::Path;
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageConfiguration, MediaType};
use thiserror::Error;

use crate::archive::ArchiveError;
use crate::digest::{DigestError, Sha256};
use crate::limits::Limits;
use crate::name::Name;
use crate::platform::Platform;
use crate::reference::ImageReference;
use crate::registry::RegistryError;
use crate::source::{Blob, Source};
use crate::{docker, layout, manifests};

/// Layers an image may have: as many as Docker makes. Each is a file that its sandboxes hold open.
pub(crate) const MAX_LAYERS: usize = 127;

/// One image of a layout or an archive.
pub struct Image {
    reference: ImageReference,
    source: Arc<Source>,
    pub(crate) documents: Documents,
    configuration: ImageConfiguration,
    layers: Vec<LayerDescriptor>,
}

/// A layer as the image's documents describe it.
#[derive(Clone, Debug)]
pub struct LayerDescriptor {
    /// Digest of its uncompressed tar stream: the layer's name, whatever it is compressed with.
    pub diff_id: Sha256,
    /// Digest of the blob as stored; docker archives state none.
    pub digest: Option<Sha256>,
    /// Size of the blob as stored, in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: MediaType,
    /// Its file in the image's source.
    pub(crate) name: String,
}

/// What a registry, a layout or an archive says of an image.
pub(crate) struct Documents {
    /// Its names there.
    pub(crate) names: Vec<Name>,
    /// What they stand for, an index or a manifest. Docker archives have neither.
    pub(crate) target: Option<Descriptor>,
    /// The manifest, perhaps one of many in an index.
    pub(crate) manifest: Option<Descriptor>,
    pub(crate) configuration: Vec<u8>,
    /// The blobs of its layers, the lowest first.
    pub(crate) layers: Vec<BlobDescriptor>,
    /// Manifest and indexes, byte for byte.
    pub(crate) verbatim: Vec<Vec<u8>>,
}

/// A layer's blob as a manifest describes it.
pub(crate) struct BlobDescriptor {
    /// Its file in the image's source.
    pub(crate) name: String,
    pub(crate) media_type: MediaType,
    pub(crate) digest: Option<Sha256>,
    /// In bytes.
    pub(crate) size: u64,
}

/// Why an image cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open image {reference}: {cause}")]
pub struct OpenError {
    reference: ImageReference,
    #[source]
    cause: Box<OpenCause>,
}

/// What keeps an image from being opened.
#[derive(Debug, Error)]
pub enum OpenCause {
    /// There is no such file.
    #[error("there is no such file or directory")]
    Missing,
    /// The file cannot be read as an archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It is something else.
    #[error(
        "it is no image: neither index.json of an OCI layout nor manifest.json of a docker archive is in it"
    )]
    Foreign,
    /// A file that another one names is not there.
    #[error("{0} is missing from it")]
    MissingFile(String),
    /// A file of it cannot be read.
    #[error("cannot read its {name}: {source}")]
    Read {
        /// Which file.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// A document is not what the image specification says.
    #[error("its {name} is malformed: {cause}")]
    Malformed {
        /// Which document.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A document is not what its name says.
    #[error("its {name} does not match its digest: it has {actual}")]
    Mismatch {
        /// Which document.
        name: String,
        /// The digest it has.
        actual: Sha256,
    },
    /// The registry does not give a document.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A digest is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The tag asked for is not there.
    #[error("it holds no image tagged \"{tag}\"; it holds {}", list(.present))]
    UnknownTag {
        /// The tag asked for.
        tag: String,
        /// The tags there are.
        present: Vec<String>,
    },
    /// Which image is meant is not clear.
    #[error("it holds several images; say which as PATH:TAG: {}", list(.present))]
    Ambiguous {
        /// The tags there are.
        present: Vec<String>,
    },
    /// The image is for other machines.
    #[error("it is not for {wanted}; it is for {}", list(.present))]
    Platform {
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        present: Vec<String>,
    },
    /// A media type that is none of an image or layer.
    #[error("its {what} is of media type \"{media_type}\", which is not supported")]
    MediaType {
        /// What is of that type.
        what: &'static str,
        /// The media type.
        media_type: MediaType,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

impl Image {
    /// Finds the image, and reads and checks its documents. Of a compressed archive, at most `limits.layer_bytes` are
    /// decompressed.
    pub fn open(
        reference: &ImageReference,
        platform: &Platform,
        limits: &Limits,
    ) -> Result<Image, OpenError> {
        let error = |cause| OpenError { reference: reference.clone(), cause: Box::new(cause) };
        let source = open_source(reference, limits).map_err(error)?;
        let documents = match layout::read(&source, reference.tag(), platform).map_err(error)? {
            Some(documents) => documents,
            None => docker::read(&source, reference.tag())
                .map_err(error)?
                .ok_or_else(|| error(OpenCause::Foreign))?,
        };
        Image::new(reference, &Arc::new(source), documents, platform).map_err(error)
    }

    /// As [`Image::open`], all images of a layout or an archive.
    pub(crate) fn open_all(
        path: &Path,
        platform: &Platform,
        limits: &Limits,
    ) -> Result<Vec<Image>, OpenError> {
        let reference = ImageReference::whole(path);
        let error = |cause| OpenError { reference: reference.clone(), cause: Box::new(cause) };
        let source = Arc::new(open_source(&reference, limits).map_err(error)?);
        let images = match layout::read_all(&source, platform).map_err(error)? {
            Some(images) => images,
            None => docker::read_all(&source).map_err(error)?.ok_or_else(|| error(OpenCause::Foreign))?,
        };
        let images = images.into_iter().map(|image| Image::new(&reference, &source, image, platform));
        images.collect::<Result<_, _>>().map_err(error)
    }

    fn new(
        reference: &ImageReference,
        source: &Arc<Source>,
        documents: Documents,
        platform: &Platform,
    ) -> Result<Image, OpenCause> {
        let (configuration, layers) = documents.check(platform)?;
        Ok(Image { reference: reference.clone(), source: source.clone(), documents, configuration, layers })
    }

    /// How the user named it.
    pub fn reference(&self) -> &ImageReference {
        &self.reference
    }

    /// The image's configuration: its environment, command, user and the like.
    pub fn configuration(&self) -> &ImageConfiguration {
        &self.configuration
    }

    /// The layers, the lowest first.
    pub fn layers(&self) -> &[LayerDescriptor] {
        &self.layers
    }

    pub(crate) fn blob(&self, layer: &LayerDescriptor) -> io::Result<Blob<'static>> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("{} is missing from the image", layer.name));
        self.source.blob(&layer.name)?.ok_or_else(missing)
    }
}

impl Documents {
    /// Reads the configuration, and gives each layer its diff_id.
    pub(crate) fn check(
        &self,
        platform: &Platform,
    ) -> Result<(ImageConfiguration, Vec<LayerDescriptor>), OpenCause> {
        let malformed = |cause: String| manifests::malformed("configuration", cause);
        let configuration: ImageConfiguration = manifests::parse("configuration", &self.configuration)?;
        let actual: Platform = manifests::parse("configuration", &self.configuration)?;
        if !platform.accepts(&actual) {
            return Err(OpenCause::Platform { wanted: platform.clone(), present: vec![actual.to_string()] });
        }
        let diff_ids = configuration.rootfs().diff_ids();
        if diff_ids.len() != self.layers.len() {
            return Err(malformed(format!("{} diff_ids for {} layers", diff_ids.len(), self.layers.len())));
        }
        if diff_ids.len() > MAX_LAYERS {
            return Err(malformed(format!("{} layers; at most {MAX_LAYERS} are supported", diff_ids.len())));
        }
        let layers = self.layers.iter().zip(diff_ids).map(|(blob, diff_id)| {
            Ok(LayerDescriptor {
                diff_id: diff_id.parse()?,
                digest: blob.digest,
                size: blob.size,
                media_type: blob.media_type.clone(),
                name: blob.name.clone(),
            })
        });
        let layers = layers.collect::<Result<_, DigestError>>()?;
        Ok((configuration, layers))
    }
}

fn open_source(reference: &ImageReference, limits: &Limits) -> Result<Source, OpenCause> {
    Source::open(reference.path(), limits.layer_bytes).map_err(|cause| match cause {
        ArchiveError::Io(cause) if cause.kind() == io::ErrorKind::NotFound => OpenCause::Missing,
        cause => cause.into(),
    })
}
