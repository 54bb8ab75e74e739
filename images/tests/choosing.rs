//! The image a user means is found in every form of layout and archive.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::fs;

use images::Limits;
use serde_json::{Value, json};
use support::tarball::{Item, Tarball};
use support::{Fixture, GZIP, Kind, PLAIN, gzip, read_layer, sha256};

const TAG: &str = "org.opencontainers.image.ref.name";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image whose only layer has a file of this name.
fn image(fixture: &Fixture, architecture: &str, name: &str) -> Value {
    let tar = Tarball::default().file(name, b"").finish();
    let layer = fixture.blob(GZIP, &gzip(&tar));
    fixture.manifest(architecture, &[layer], &[sha256(&tar)])
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

fn tagged(descriptor: Value, tag: &str) -> Value {
    with(descriptor, "annotations", json!({ TAG: tag }))
}

fn platform(descriptor: Value, architecture: &str) -> Value {
    with(descriptor, "platform", json!({ "os": "linux", "architecture": architecture }))
}

fn diff_id(name: &str) -> String {
    sha256(&Tarball::default().file(name, b"").finish())
}

/// The diff_id of the only layer of what is opened, or the error.
fn opened(fixture: &Fixture, reference: &str) -> Result<String, String> {
    fixture.open(reference).map(|image| image.layers()[0].diff_id.to_string())
}

#[test]
fn a_tag_chooses_among_several() {
    let fixture = Fixture::new();
    let full = json!({ TAG: "3", "io.containerd.image.name": "docker.io/library/three:3" });
    fixture.index(&[
        tagged(image(&fixture, "amd64", "one"), "v1"),
        tagged(image(&fixture, "amd64", "two"), "docker.io/library/two:v2"),
        with(image(&fixture, "amd64", "three"), "annotations", full),
    ]);
    for (tag, name) in [("v1", "one"), ("v2", "two"), ("two:v2", "two"), ("3", "three"), ("three:3", "three")]
    {
        assert_eq!(opened(&fixture, &format!("image:{tag}")), Ok(diff_id(name)), "{tag}");
    }
    let error = opened(&fixture, "image").unwrap_err();
    for word in ["several", "v1", "docker.io/library/two:v2", "docker.io/library/three:3"] {
        assert!(error.contains(word), "{error}");
    }
    let error = opened(&fixture, "image:1").unwrap_err();
    assert!(error.contains("no image tagged \"1\"") && error.contains("v1"), "{error}");
}

#[test]
fn the_platform_chooses_within_an_index() {
    let fixture = Fixture::new();
    let attestation = with(
        image(&fixture, "unknown", "a"),
        "platform",
        json!({ "os": "unknown", "architecture": "unknown" }),
    );
    let inner = json!({ "schemaVersion": 2, "manifests": [
        platform(image(&fixture, "arm64", "arm"), "arm64"),
        attestation,
        platform(image(&fixture, "amd64", "intel"), "amd64"),
    ] });
    let index = fixture.blob(INDEX, inner.to_string().as_bytes());
    fixture.index(&[tagged(index, "latest")]);
    assert_eq!(opened(&fixture, "image"), Ok(diff_id("intel")));

    // Without platforms in the index, the configurations tell.
    fixture.index(&[image(&fixture, "arm64", "arm"), image(&fixture, "amd64", "intel")]);
    assert_eq!(opened(&fixture, "image"), Ok(diff_id("intel")));

    fixture.index(&[platform(image(&fixture, "arm64", "arm"), "arm64")]);
    let error = opened(&fixture, "image").unwrap_err();
    assert!(error.contains("not for linux/amd64") && error.contains("linux/arm64"), "{error}");
    fixture.index(&[image(&fixture, "s390x", "z")]);
    let error = opened(&fixture, "image").unwrap_err();
    assert!(error.contains("linux/s390x"), "{error}");
}

#[test]
fn indexes_within_themselves_end() {
    let fixture = Fixture::new();
    let mut index = fixture.blob(INDEX, br#"{"schemaVersion":2,"manifests":[]}"#);
    for _ in 0..10 {
        let outer = json!({ "schemaVersion": 2, "manifests": [index] });
        index = fixture.blob(INDEX, outer.to_string().as_bytes());
    }
    fixture.index(&[index]);
    assert!(opened(&fixture, "image").unwrap_err().contains("more than 4 indexes"));
}

#[test]
fn layers_may_be_plain_gzip_or_zstd() {
    let fixture = Fixture::new();
    let tars = ["plain", "gzip", "zstd"].map(|name| Tarball::default().file(name, name.as_bytes()).finish());
    let zstd = zstd::stream::encode_all(&tars[2][..], 1).unwrap();
    // Two gzip members on end, as parallel compressors write them.
    let (start, end) = tars[1].split_at(700);
    let members = [gzip(start), gzip(end)].concat();
    let layers = [
        fixture.blob(PLAIN, &tars[0]),
        fixture.blob(GZIP, &members),
        fixture.blob("application/vnd.oci.image.layer.v1.tar+zstd", &zstd),
    ];
    let diff_ids = tars.each_ref().map(|tar| sha256(tar));
    fixture.index(&[fixture.manifest("amd64", &layers, &diff_ids)]);
    let files = fixture.import(&Limits::default()).unwrap();
    for (name, file) in ["plain", "gzip", "zstd"].into_iter().zip(&files) {
        assert_eq!(read_layer(file)[name.as_bytes()].kind, Kind::File(name.as_bytes().to_vec()));
    }
    assert_eq!(fixture.cached().len(), 3);
}

#[test]
fn the_same_layer_makes_the_same_file_and_is_made_once() {
    let tar = Tarball::default().file("file", b"data").finish();
    let made = || {
        let fixture = Fixture::new();
        fixture.one_layer(&tar);
        let first = fixture.import(&Limits::default()).unwrap();
        let modified = fs::metadata(&first[0]).unwrap().modified().unwrap();
        // The blob is not even looked at when its layer is there.
        fs::remove_file(fixture.path("image/blobs/sha256").join(&sha256(&gzip(&tar))[7..])).unwrap();
        assert_eq!(fixture.import(&Limits::default()).unwrap(), first);
        assert_eq!(fs::metadata(&first[0]).unwrap().modified().unwrap(), modified);
        assert_eq!(first[0].file_stem().unwrap().to_str().unwrap(), &sha256(&tar)[7..]);
        fs::read(&first[0]).unwrap()
    };
    assert!(made() == made());
}

/// A layout's files as an archive, in the given order of their names.
fn archive(fixture: &Fixture, reverse: bool) -> Vec<u8> {
    let mut names = vec!["index.json".to_owned()];
    for entry in fs::read_dir(fixture.path("image/blobs/sha256")).unwrap() {
        names.push(format!("blobs/sha256/{}", entry.unwrap().file_name().into_string().unwrap()));
    }
    names.sort();
    if reverse {
        names.reverse();
    }
    let add = |tar: Tarball, name: &String| {
        tar.file(&format!("./{name}"), &fs::read(fixture.path("image").join(name)).unwrap())
    };
    names.iter().fold(Tarball::default().directory("./"), add).finish()
}

#[test]
fn a_layout_may_be_in_an_archive_compressed_or_not() {
    for reverse in [false, true] {
        let fixture = Fixture::new();
        fixture.one_layer(&Tarball::default().file("file", b"data").finish());
        let tar = archive(&fixture, reverse);
        let zstd = zstd::stream::encode_all(&tar[..], 1).unwrap();
        fs::remove_dir_all(fixture.path("image")).unwrap();
        for content in [gzip(&tar), zstd, tar] {
            fs::write(fixture.path("image"), content).unwrap();
            let files = fixture.import(&Limits::default()).unwrap();
            assert_eq!(read_layer(&files[0])[&b"file"[..]].kind, Kind::File(b"data".to_vec()));
            fs::remove_dir_all(fixture.path("store")).unwrap();
        }
    }
}

#[test]
fn docker_archives_are_read() {
    let fixture = Fixture::new();
    let (one, two) =
        (Tarball::default().file("one", b"").finish(), Tarball::default().file("two", b"").finish());
    let configuration = |layers: &[&[u8]]| {
        let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
        json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string()
    };
    let (first, second) = (configuration(&[&one]), configuration(&[&two, &one]));
    let manifest = json!([
        { "Config": "1.json", "RepoTags": ["first:v1"], "Layers": ["a/layer.tar"] },
        { "Config": "2.json", "RepoTags": ["second:v2", "second:latest"], "Layers": ["two.tar", "b/layer.tar"] },
    ]);
    let tar = Tarball::default()
        .file("a/layer.tar", &one)
        .item(&Item { flag: b'2', path: b"b/layer.tar", link: b"../a/layer.tar", ..Item::default() })
        .file("1.json", first.as_bytes())
        .file("2.json", second.as_bytes())
        .file("two.tar", &two)
        .file("manifest.json", manifest.to_string().as_bytes());
    fs::write(fixture.path("saved.tar"), tar.finish()).unwrap();
    assert_eq!(opened(&fixture, "saved.tar:first:v1"), Ok(sha256(&one)));
    let image = fixture.open("saved.tar:v2").unwrap();
    let diff_ids: Vec<String> = image.layers().iter().map(|layer| layer.diff_id.to_string()).collect();
    assert_eq!(diff_ids, [sha256(&two), sha256(&one)]);
    let image = fixture.load("saved.tar:v2", &Limits::default()).unwrap();
    assert!(read_layer(&fixture.layer(&image.layers()[1].diff_id)).contains_key(&b"one"[..]));
    let error = opened(&fixture, "saved.tar").unwrap_err();
    assert!(error.contains("first:v1") && error.contains("second:latest"), "{error}");
    assert!(opened(&fixture, "saved.tar:v3").unwrap_err().contains("\"v3\""));
}
