//! New images: a layer upon another image, or a root file system as an image of its own.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::sync::{Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use oci_spec::image::MediaType;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::change::{self, Change};
use super::{Store, StoreError, StoredImage, StoredLayer};
use crate::cache::ImportCause;
use crate::compression;
use crate::digest::{HashingWriter, Sha256};
use crate::image::Documents;
use crate::layer::BlobCheck;
use crate::limits::Limits;
use crate::platform::Platform;
use crate::source::Blob;

/// What a new image says of itself.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Changes to the configuration it starts from, in turn.
    pub changes: Vec<Change>,
    /// When (RFC 3339).
    pub created: String,
    /// By which command.
    pub created_by: String,
    /// By whom.
    pub author: Option<String>,
    /// What was done: the history's comment.
    pub message: Option<String>,
}

/// Why an image is not made.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The tar stream cannot be read.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// The new layer is bad, or cannot be kept.
    #[error("cannot make a layer of the archive: {0}")]
    Layer(#[source] Box<ImportCause>),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// An image of `base`'s layers and one more: `layer` is its tar stream, uncompressed.
    pub fn commit(
        &self,
        base: &StoredImage,
        layer: impl Read + Send,
        commit: &Commit,
        limits: &Limits,
    ) -> Result<StoredImage, CommitError> {
        let _hold = self.hold()?;
        let layer = self.add_layer(Box::new(layer), limits)?;
        let configuration = serde_json::from_slice(base.document());
        let configuration = configuration.map_err(|error| self.damaged(&base.id(), error.to_string()))?;
        let mut layers: Vec<StoredLayer> = base.layers().iter().map(as_oci).collect();
        layers.push(layer);
        self.add_made(configuration, commit, layers)
    }

    /// An image of a single layer: `tar` is a root file system, compressed or not.
    pub fn import(
        &self,
        tar: impl Read + Send,
        platform: &Platform,
        commit: &Commit,
        limits: &Limits,
    ) -> Result<StoredImage, CommitError> {
        let _hold = self.hold()?;
        let (_, tar) = compression::decode(BufReader::new(tar)).map_err(CommitError::Read)?;
        let layer = self.add_layer(tar, limits)?;
        let mut configuration = Map::new();
        configuration.insert("architecture".to_owned(), json!(platform.architecture));
        configuration.insert("os".to_owned(), json!(platform.os));
        if let Some(variant) = &platform.variant {
            configuration.insert("variant".to_owned(), json!(variant));
        }
        self.add_made(configuration, commit, vec![layer])
    }

    /// Makes blob and file system of a new layer in one pass over its content.
    fn add_layer(&self, tar: Box<dyn Read + Send + '_>, limits: &Limits) -> Result<StoredLayer, CommitError> {
        let failed = |source| CommitError::Layer(self.blob_error(source).into());
        let staged = self.blobs.stage().map_err(failed)?;
        let outcome = Mutex::new(None);
        let copy = staged.handle().map_err(failed)?;
        let compressing = Compressing {
            tar,
            encoder: Some(GzEncoder::new(HashingWriter::new(copy), Compression::default())),
            outcome: &outcome,
        };
        // Nobody knows yet how long it is, nor what it hashes to. What a container has written is no bomb.
        let check = BlobCheck { digest: None, size: u64::MAX, diff_id: None };
        let blob = Blob { size: u64::MAX, stream: Box::new(compressing) };
        let imported = self.cache.import(blob, &check, limits, &mut |_| ());
        let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = outcome {
            return Err(failed(error));
        }
        let proven = imported.map_err(|cause| CommitError::Layer(cause.into()))?;
        // Another's importer would look behind only one compression, which is ours.
        if proven.digest != proven.diff_id {
            return Err(CommitError::Read(io::Error::other("it is compressed more than once")));
        }
        let Some(Ok((digest, size))) = outcome else {
            return Err(CommitError::Read(io::ErrorKind::UnexpectedEof.into()));
        };
        staged.publish(&self.blobs.path(&digest)).map_err(failed)?;
        Ok(StoredLayer { diff_id: proven.diff_id, digest, size, media_type: MediaType::ImageLayerGzip })
    }

    /// Adds the image of these layers, of which the last one is new.
    fn add_made(
        &self,
        mut configuration: Map<String, Value>,
        commit: &Commit,
        layers: Vec<StoredLayer>,
    ) -> Result<StoredImage, CommitError> {
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        describe(&mut configuration, commit, &diff_ids);
        let documents = Documents {
            names: Vec::new(),
            target: None,
            manifest: None,
            configuration: Value::Object(configuration).to_string().into_bytes(),
            layers: Vec::new(),
            verbatim: Vec::new(),
        };
        let added = self.add(&documents, &layers)?;
        Ok(self.describe(&added.manifest, &self.records()?)?)
    }
}

/// Lets a configuration tell of the new layer (OCI image specification, config.md).
fn describe(configuration: &mut Map<String, Value>, commit: &Commit, diff_ids: &[String]) {
    // Docker's, of the container that an older version made the image from.
    for stale in ["container", "container_config", "docker_version", "id", "parent", "throwaway"] {
        configuration.remove(stale);
    }
    let mut history = Map::new();
    let facts = [
        ("created", Some(&commit.created)),
        ("created_by", Some(&commit.created_by)),
        ("author", commit.author.as_ref()),
        ("comment", commit.message.as_ref()),
    ];
    for (key, value) in facts {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            history.insert(key.to_owned(), json!(value));
        }
    }
    for key in ["created", "author"] {
        configuration.remove(key);
        if let Some(value) = history.get(key) {
            configuration.insert(key.to_owned(), value.clone());
        }
    }
    match configuration.get_mut("history").and_then(Value::as_array_mut) {
        Some(entries) => entries.push(Value::Object(history)),
        None => drop(configuration.insert("history".to_owned(), json!([history]))),
    }
    configuration.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let config = configuration.entry("config").or_insert_with(|| json!({}));
    if !config.is_object() {
        *config = json!({});
    }
    if let Some(config) = config.as_object_mut() {
        change::apply(&commit.changes, config);
    }
}

/// The layer by OCI's media type, as a manifest of OCI's wants it.
fn as_oci(layer: &StoredLayer) -> StoredLayer {
    let media_type = match &layer.media_type {
        MediaType::Other(docker) if docker.ends_with("tar.gzip") => MediaType::ImageLayerGzip,
        MediaType::Other(docker) if docker.ends_with("tar.zstd") => MediaType::ImageLayerZstd,
        MediaType::Other(_) => MediaType::ImageLayer,
        oci => oci.clone(),
    };
    StoredLayer { media_type, ..layer.clone() }
}

/// Digest and size of what was compressed, or why it was not.
type Outcome = io::Result<(Sha256, u64)>;

/// Passes a tar stream on, and writes it compressed. At its end, the outcome is there.
struct Compressing<'a> {
    tar: Box<dyn Read + Send + 'a>,
    encoder: Option<GzEncoder<HashingWriter<File>>>,
    outcome: &'a Mutex<Option<Outcome>>,
}

impl Compressing<'_> {
    fn compress(&mut self, data: &[u8]) -> io::Result<()> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        if !data.is_empty() {
            return encoder.write_all(data);
        }
        if let Some(encoder) = self.encoder.take() {
            self.settle(encoder.finish().map(HashingWriter::finish));
        }
        Ok(())
    }

    fn settle(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

impl Read for Compressing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tar.read(buffer)?;
        if let Err(error) = self.compress(buffer.get(..count).unwrap_or_default()) {
            self.settle(Err(error));
            return Err(io::Error::other("the layer's blob cannot be written"));
        }
        Ok(count)
    }
}
