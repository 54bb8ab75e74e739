//! A manifest or an index as the registry has it.

use oci_spec::image::MediaType;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::RegistryCause;
use crate::digest::Sha256;

/// distribution-spec, "Pushing Manifests": what every registry takes, and so what may come back.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;
/// What can be read here, the better first.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// Types that say nothing.
const GENERIC: [&str; 4] = ["", "application/json", "application/octet-stream", "text/plain"];

/// A manifest or an index, byte for byte as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// All of it; at most 4 MiB.
    pub bytes: Vec<u8>,
    /// What it calls itself; else what the registry calls it.
    pub media_type: MediaType,
    /// The digest of `bytes`, computed here.
    pub digest: Sha256,
}

/// What tells documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

impl Document {
    /// What these bytes are. `content_type` is the registry's word for it.
    pub(super) fn read(
        registry: &str,
        bytes: Vec<u8>,
        content_type: &str,
    ) -> Result<Document, RegistryCause> {
        let malformed = |reason: String| RegistryCause::Malformed {
            registry: registry.to_owned(),
            what: "manifest",
            reason,
        };
        let told = content_type.split(';').next().unwrap_or_default().trim();
        let outline: Outline =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if outline.schema_version == Some(1)
            || told.starts_with("application/vnd.docker.distribution.manifest.v1+")
        {
            return Err(RegistryCause::Schema1);
        }
        // Read as one by some and as the other by others, such a document has fooled checks (CVE-2021-41190).
        if outline.manifests.is_some() && (outline.layers.is_some() || outline.config.is_some()) {
            return Err(malformed("it is a manifest and an index at once".to_owned()));
        }
        let own = outline.media_type.as_deref().filter(|own| !own.is_empty());
        let media_type = match own.or(Some(told).filter(|told| !GENERIC.contains(told))) {
            Some(name) => MediaType::from(name),
            None if outline.manifests.is_some() => MediaType::ImageIndex,
            None => MediaType::ImageManifest,
        };
        let digest = Sha256::of(&bytes);
        Ok(Document { bytes, media_type, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(bytes: &str, content_type: &str) -> Result<String, String> {
        let read = Document::read("r.example", bytes.as_bytes().to_vec(), content_type);
        read.map(|document| document.media_type.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_document_is_what_it_calls_itself_else_what_the_registry_calls_it_else_what_it_looks_like() {
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let own = format!("{{\"schemaVersion\":2,\"mediaType\":\"{docker}\"}}");
        assert_eq!(media_type(&own, "application/json").unwrap(), docker);
        assert_eq!(media_type("{\"schemaVersion\":2}", &format!("{docker}; charset=utf-8")).unwrap(), docker);
        let index = "{\"schemaVersion\":2,\"manifests\":[]}";
        assert_eq!(media_type(index, "").unwrap(), MediaType::ImageIndex.to_string());
        let manifest = "{\"schemaVersion\":2,\"config\":{},\"layers\":[]}";
        assert_eq!(media_type(manifest, "text/plain").unwrap(), MediaType::ImageManifest.to_string());
    }

    #[test]
    fn what_cannot_be_one_is_refused() {
        assert!(media_type("{\"schemaVersion\":1,\"fsLayers\":[]}", "").unwrap_err().contains("schema 1"));
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(media_type("{}", signed).unwrap_err().contains("schema 1"));
        assert!(media_type("{\"manifests\":[],\"layers\":[]}", "").unwrap_err().contains("at once"));
        assert!(media_type("<html>", "text/html").unwrap_err().contains("malformed manifest"));
    }
}
