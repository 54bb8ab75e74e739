//! An image: found, chosen by tag and platform, its documents read and checked. Its layers are still where they were.

use std::io;

use oci_spec::image::{Arch, ImageConfiguration, MediaType, Os};
use thiserror::Error;

use crate::archive::ArchiveError;
use crate::digest::{DigestError, Sha256};
use crate::limits::Limits;
use crate::reference::ImageReference;
use crate::source::{Blob, Source};
use crate::{docker, layout};

/// Layers an image may have: overlayfs stacks at most 500.
const MAX_LAYERS: usize = 500;

/// What an image is built to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The operating system, by Go's name for it.
    pub os: Os,
    /// The processor architecture, by Go's name for it.
    pub architecture: Arch,
}

impl Default for Platform {
    /// What this machine's guests run.
    fn default() -> Self {
        Platform { os: Os::Linux, architecture: Arch::default() }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// One image of a layout or an archive.
pub struct Image {
    pub(crate) reference: ImageReference,
    pub(crate) source: Source,
    pub(crate) configuration: ImageConfiguration,
    pub(crate) layers: Vec<LayerDescriptor>,
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

/// What a layout or an archive says of the image chosen from it.
pub(crate) struct Documents {
    pub(crate) configuration: Vec<u8>,
    /// Name, media type, digest and size of each layer's blob, the lowest first.
    pub(crate) layers: Vec<(String, MediaType, Option<Sha256>, u64)>,
}

/// Why an image cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open image {reference}: {cause}")]
pub struct OpenError {
    reference: ImageReference,
    #[source]
    cause: OpenCause,
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
        let error = |cause| OpenError { reference: reference.clone(), cause };
        let source = Source::open(reference.path(), limits.layer_bytes).map_err(|cause| match cause {
            ArchiveError::Io(cause) if cause.kind() == io::ErrorKind::NotFound => error(OpenCause::Missing),
            cause => error(cause.into()),
        })?;
        let documents = match layout::read(&source, reference.tag(), platform).map_err(error)? {
            Some(documents) => documents,
            None => docker::read(&source, reference.tag())
                .map_err(error)?
                .ok_or_else(|| error(OpenCause::Foreign))?,
        };
        let (configuration, layers) = documents.check(platform).map_err(error)?;
        Ok(Image { reference: reference.clone(), source, configuration, layers })
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

    pub(crate) fn blob(&self, layer: &LayerDescriptor) -> io::Result<Blob> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("{} is missing from the image", layer.name));
        self.source.blob(&layer.name)?.ok_or_else(missing)
    }
}

impl Documents {
    /// Reads the configuration, and gives each layer its diff_id.
    fn check(self, platform: &Platform) -> Result<(ImageConfiguration, Vec<LayerDescriptor>), OpenCause> {
        let malformed = |cause: String| OpenCause::Malformed { name: "configuration".into(), cause };
        let configuration: ImageConfiguration =
            serde_json::from_slice(&self.configuration).map_err(|error| malformed(error.to_string()))?;
        let actual =
            Platform { os: configuration.os().clone(), architecture: configuration.architecture().clone() };
        if actual != *platform {
            return Err(OpenCause::Platform { wanted: platform.clone(), present: vec![actual.to_string()] });
        }
        let diff_ids = configuration.rootfs().diff_ids();
        if diff_ids.len() != self.layers.len() {
            return Err(malformed(format!("{} diff_ids for {} layers", diff_ids.len(), self.layers.len())));
        }
        if diff_ids.len() > MAX_LAYERS {
            return Err(malformed(format!("{} layers; at most {MAX_LAYERS} can be stacked", diff_ids.len())));
        }
        let layers =
            self.layers.into_iter().zip(diff_ids).map(|((name, media_type, digest, size), diff_id)| {
                Ok(LayerDescriptor { diff_id: diff_id.parse()?, digest, size, media_type, name })
            });
        let layers = layers.collect::<Result<_, DigestError>>()?;
        Ok((configuration, layers))
    }
}
