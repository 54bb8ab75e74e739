//! An image, as Docker's `image inspect` has it.

use images::StoredImage;
use serde::Serialize;
use serde_json::Value;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageInspection {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    comment: String,
    created: Option<String>,
    author: String,
    /// Byte for byte the image's own, whatever is in it.
    config: Value,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    size: u64,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    descriptor: Descriptor,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GraphDriver {
    pub(super) data: Option<Value>,
    pub(super) name: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(rename = "Type")]
    kind: &'static str,
    layers: Vec<String>,
}

/// The manifest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

impl ImageInspection {
    /// `size` is what its layers take unpacked, in bytes.
    pub(crate) fn new(image: &StoredImage, size: u64) -> Self {
        let configuration = image.configuration();
        let document: Value = serde_json::from_slice(image.document()).unwrap_or_default();
        let last = configuration.history().iter().flatten().last();
        let platform = image.platform();
        Self {
            id: image.id().to_string(),
            repo_tags: image.names().iter().map(|name| name.familiar().to_string()).collect(),
            repo_digests: image.digests().iter().map(|name| name.familiar().to_string()).collect(),
            comment: last.and_then(|step| step.comment().clone()).unwrap_or_default(),
            created: image.created().map(str::to_owned),
            author: configuration.author().clone().unwrap_or_default(),
            config: document.get("config").cloned().unwrap_or_default(),
            architecture: platform.architecture.to_string(),
            variant: platform.variant.clone(),
            os: platform.os.to_string(),
            size,
            graph_driver: GraphDriver { data: None, name: "erofs" },
            root_fs: RootFs {
                kind: "layers",
                layers: image.layers().iter().map(|layer| layer.diff_id.to_string()).collect(),
            },
            descriptor: Descriptor {
                media_type: image.manifest().media_type().to_string(),
                digest: image.manifest().digest().to_string(),
                size: image.manifest().size(),
            },
        }
    }
}
