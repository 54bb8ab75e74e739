//! OCI images into disks for microVMs: image layouts and docker or podman archives into one EROFS file per layer.
//!
//! An image comes from a stranger. Its layers are decompressed, checked and written as file system images in one pass,
//! straight from the blob: nothing is unpacked to the host's file system, and root is not needed. The layers' files
//! are named by content, made once, and shared by all that use them.
//!
//! [`Image::open`] finds an image by [`ImageReference`] and reads its documents; [`LayerCache::ensure`] gives its
//! layers' files, the lowest first.
#![forbid(unsafe_code)]

mod archive;
mod cache;
mod compression;
mod digest;
mod docker;
mod erofs;
mod image;
mod layer;
mod layout;
mod limits;
mod reference;
mod source;
mod staged;
mod tar;

pub use archive::ArchiveError;
pub use cache::{ImportCause, ImportError, Layer, LayerCache, Progress};
pub use digest::{DigestError, Sha256};
pub use erofs::XattrError;
pub use image::{Image, LayerDescriptor, OpenCause, OpenError, Platform};
pub use layer::{DecodeError, EntryError, PathError, UnpackError};
pub use limits::Limits;
pub use reference::ImageReference;
pub use tar::TarError;
