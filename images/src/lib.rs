//! OCI images into disks for microVMs: image layouts and docker or podman archives into one EROFS file per layer.
//!
//! An image comes from a stranger. Its layers are decompressed, checked and written as file system images in one pass,
//! straight from the blob: nothing is unpacked to the host's file system, and root is not needed. The layers' files
//! are named by content, made once, and shared by all that use them.
//!
//! [`Store`] keeps images by name and content: pulled from a [`registry`], loaded from what [`Image`] opens by
//! [`ImageReference`], or made upon others. [`LayerCache`] makes one disk of an image's layers.
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
mod manifests;
mod merged;
mod name;
mod platform;
mod reference;
pub mod registry;
mod source;
mod stack;
mod staged;
pub mod store;
pub mod tar;

pub use archive::ArchiveError;
pub use cache::{ImportCause, Layer, LayerCache};
pub use digest::{DigestError, Sha256};
pub use erofs::XattrError;
pub use image::{Image, LayerDescriptor, OpenCause, OpenError};
pub use layer::{DecodeError, EntryError, PathError, UnpackError};
pub use limits::Limits;
pub use merged::{MergeError, MergedImage};
pub use name::{Name, NameCause, NameError};
pub use platform::{Platform, PlatformError};
pub use reference::ImageReference;
pub use store::{Store, StoredImage};
pub use tar::TarError;
