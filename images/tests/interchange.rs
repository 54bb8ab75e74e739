//! What is saved here is read by skopeo, byte for byte, and the other way round. Wants skopeo.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails so")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Command;

use images::store::Format;
use images::{Limits, Name, Store, StoredImage};
use serde_json::{Value, json};
use support::tarball::Tarball;
use support::{Fixture, GZIP, amd64, gzip, sha256};

fn skopeo(fixture: &Fixture, arguments: &[&str]) -> Vec<u8> {
    let mut skopeo = Command::new("skopeo");
    skopeo.arg("--insecure-policy").args(arguments);
    let output = skopeo.current_dir(fixture.directory.path()).output().expect("skopeo is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A layout with one image of two layers, loaded as `test:v1`.
fn fixture() -> (Fixture, Store, StoredImage) {
    let fixture = Fixture::new();
    let tars = ["one", "two"].map(|file| Tarball::default().file(file, file.as_bytes()).finish());
    let layers: Vec<Value> = tars.iter().map(|tar| fixture.blob(GZIP, &gzip(tar))).collect();
    let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar)).collect();
    let mut manifest = fixture.manifest("amd64", &layers, &diff_ids);
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "docker.io/library/test:v1" });
    fixture.index(&[manifest]);
    std::fs::write(fixture.path("image/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let store = fixture.store();
    let image = load(&fixture, &store, "image").remove(0);
    (fixture, store, image)
}

fn load(fixture: &Fixture, store: &Store, path: &str) -> Vec<StoredImage> {
    let loaded = store.load(&fixture.path(path), &amd64(), &Limits::default(), &()).unwrap();
    loaded.into_iter().map(|loaded| loaded.image).collect()
}

#[test]
fn skopeo_reads_what_is_saved_with_all_its_digests() {
    let (fixture, store, image) = fixture();
    let digest = image.manifest().digest().to_string();
    for (format, reference) in [(Format::Oci, "docker.io/library/test:v1"), (Format::Docker, "v1")] {
        let saved = File::create(fixture.path("saved.tar")).unwrap();
        store.save(&["test:v1".to_owned()], format, saved).unwrap();
        for source in ["oci-archive:saved.tar".to_owned(), format!("oci-archive:saved.tar:{reference}")] {
            let manifest = skopeo(&fixture, &["inspect", "--raw", &source]);
            assert_eq!(sha256(&manifest), digest, "{source}");
            let directory = format!("dir:copy-{format:?}");
            skopeo(&fixture, &["copy", "-q", "--preserve-digests", &source, &directory]);
            for layer in image.layers() {
                let copy =
                    std::fs::read(fixture.path(&format!("copy-{format:?}/{}", layer.digest.hex()))).unwrap();
                assert_eq!(sha256(&copy), layer.digest.to_string());
            }
        }
    }
    // As a docker archive, too: by its name, with the same configuration.
    let config = skopeo(&fixture, &["inspect", "--config", "--raw", "docker-archive:saved.tar:test:v1"]);
    assert_eq!(config.trim_ascii_end(), image.document());
    // Out of there it makes an OCI image, with a configuration of its own words over the same layers.
    skopeo(&fixture, &["copy", "-q", "docker-archive:saved.tar", "oci:unpacked:v1"]);
    let diff_ids = |image: &StoredImage| image.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
    assert_eq!(diff_ids(&load(&fixture, &store, "unpacked")[0]), diff_ids(&image));
}

#[test]
fn what_skopeo_saves_is_the_same_image_here() {
    let (fixture, _, image) = fixture();
    let other = Store::open(fixture.path("other")).unwrap();
    for (number, destination) in
        ["oci-archive:copy.tar:docker.io/library/test:v1", "docker-archive:docker.tar:test:v1"]
            .iter()
            .enumerate()
    {
        skopeo(&fixture, &["copy", "-q", "oci:image:docker.io/library/test:v1", destination]);
        let loaded = load(&fixture, &other, ["copy.tar", "docker.tar"][number]);
        assert_eq!(loaded[0].id(), image.id());
        let names: BTreeSet<String> = loaded[0].names().iter().map(Name::familiar).collect();
        assert_eq!(names, BTreeSet::from(["test:v1".to_owned()]));
    }
    other.verify().unwrap();
    // What was loaded from a docker archive can go on as anything.
    other
        .save(&["test:v1".to_owned()], Format::Docker, File::create(fixture.path("again.tar")).unwrap())
        .unwrap();
    let config = skopeo(&fixture, &["inspect", "--config", "--raw", "docker-archive:again.tar"]);
    assert_eq!(config.trim_ascii_end(), image.document());
    skopeo(&fixture, &["copy", "-q", "oci-archive:again.tar", "oci:again:v1"]);
}
