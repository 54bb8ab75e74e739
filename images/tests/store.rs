//! What the store keeps, under which names, and when it lets it go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use images::store::{
    Change, Commit, FindError, Format, ImageUse, RemoveError, Removed, StoreError, TagError,
};
use images::{Limits, Name, Sha256, Store, StoredImage};
use serde_json::{Value, json};
use support::tarball::Tarball;
use support::{Fixture, GZIP, Kind, amd64, gzip, import_program, read_image, read_layer, sha256};

const TAG: &str = "org.opencontainers.image.ref.name";

fn tar(name: &str) -> Vec<u8> {
    Tarball::default().file(name, name.as_bytes()).finish()
}

/// A layout of images, each by its name and with layers of one file each.
fn layout(fixture: &Fixture, images: &[(&str, &[&str])]) {
    let entries: Vec<Value> = images
        .iter()
        .map(|(name, files)| {
            let tars: Vec<Vec<u8>> = files.iter().map(|file| tar(file)).collect();
            let layers: Vec<Value> = tars.iter().map(|tar| fixture.blob(GZIP, &gzip(tar))).collect();
            let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar)).collect();
            let mut entry = fixture.manifest("amd64", &layers, &diff_ids);
            entry["annotations"] = json!({ TAG: name });
            entry
        })
        .collect();
    fixture.index(&entries);
}

fn load(fixture: &Fixture) -> Vec<StoredImage> {
    let loaded = fixture.store().load(&fixture.path("image"), &amd64(), &Limits::default(), &()).unwrap();
    loaded.into_iter().map(|loaded| loaded.image).collect()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn unused(_: &Sha256) -> Option<ImageUse> {
    None
}

fn used(is_running: bool) -> impl Fn(&Sha256) -> Option<ImageUse> {
    move |_| Some(ImageUse { container: "web".into(), is_running })
}

/// Files in the store by their directory, without locks.
fn files(fixture: &Fixture, directory: &str) -> usize {
    fs::read_dir(fixture.path("store").join(directory)).unwrap().count()
}

fn familiar(image: &StoredImage) -> Vec<String> {
    image.names().iter().map(Name::familiar).collect()
}

#[test]
fn what_is_loaded_is_found_by_name_id_and_digest() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["base", "one"]), ("example.com/two:v2", &["base", "two"])]);
    let images = load(&fixture);
    assert_eq!(images.len(), 2);
    let store = fixture.store();
    let one = store.find("one:v1").unwrap();
    assert_eq!(familiar(&one), ["one:v1"]);
    let (id, digest) = (one.id().to_string(), one.manifest().digest().to_string());
    for text in [
        "docker.io/library/one:v1",
        &id,
        &id["sha256:".len()..],
        &id[..20],
        &format!("one@{digest}"),
        &format!("one:v1@{digest}"),
    ] {
        assert_eq!(store.find(text).unwrap().id(), one.id(), "{text}");
    }
    for text in ["one", "one:v2", "two:v2", "", "sha256:", "-", &format!("two@{digest}"), &"f".repeat(64)] {
        assert!(matches!(store.find(text), Err(FindError::Unknown(_))), "{text}");
    }
    assert_eq!(one.digests()[0].familiar(), format!("one@{digest}"));
    assert_eq!(store.list().unwrap().len(), 2);
    // The base is stored once.
    assert_eq!(files(&fixture, "layers"), 3);
    store.verify().unwrap();
}

#[test]
fn an_image_loaded_before_is_not_read_again() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["base", "one"])]);
    let first = fixture.load("image", &Limits::default()).unwrap();
    assert!(first.names().is_empty());
    for layer in first.layers() {
        fs::remove_file(fixture.path("image/blobs/sha256").join(layer.digest.hex())).unwrap();
    }
    assert_eq!(fixture.load("image", &Limits::default()).unwrap().id(), first.id());
}

#[test]
fn names_move_and_what_lost_its_name_dangles() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["one"]), ("two:v1", &["two"])]);
    load(&fixture);
    let store = fixture.store();
    let one = store.find("one:v1").unwrap();
    let tagged = store.tag("one:v1", &name("localhost:5000/a/b:new")).unwrap();
    assert_eq!(familiar(&tagged), ["one:v1", "localhost:5000/a/b:new"]);
    store.tag("two:v1", &name("one:v1")).unwrap();
    store.tag("two:v1", &name("localhost:5000/a/b:new")).unwrap();
    assert_eq!(store.find("one:v1").unwrap().id(), store.find("two:v1").unwrap().id());
    assert_eq!(store.find(&one.id().to_string()).unwrap().names(), []);
    let by_digest = format!("one@{}", one.manifest().digest());
    assert!(matches!(store.tag("two:v1", &name(&by_digest)), Err(TagError::Digest(_))));
    let collected = store.collect(&|image| image.names().is_empty(), &unused).unwrap();
    assert_eq!(collected.removed, [Removed::Deleted(one.id())]);
    assert!(collected.bytes > 0);
    store.verify().unwrap();
}

#[test]
fn removing_takes_a_name_and_with_the_last_one_the_image() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["base", "one"]), ("two:v1", &["base", "two"])]);
    load(&fixture);
    let store = fixture.store();
    let one = store.find("one:v1").unwrap();
    store.disk(&one, &Limits::default()).unwrap();
    store.tag("one:v1", &name("one:v2")).unwrap();
    assert_eq!(store.remove("one:v2", false, &unused).unwrap(), [Removed::Untagged(name("one:v2"))]);
    let removed = store.remove("one:v1", false, &unused).unwrap();
    let digest = name(&format!("one@{}", one.manifest().digest()));
    assert_eq!(
        removed,
        [Removed::Untagged(name("one:v1")), Removed::Untagged(digest), Removed::Deleted(one.id())]
    );
    assert!(matches!(store.remove("one:v1", false, &unused), Err(RemoveError::Find(_))));
    // What the other image needs is still there.
    assert_eq!((files(&fixture, "layers"), files(&fixture, "merged")), (2, 0));
    store.verify().unwrap();
    store.remove("two:v1", false, &unused).unwrap();
    assert_eq!((files(&fixture, "layers"), files(&fixture, "blobs/sha256")), (0, 0));
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn an_id_with_names_in_several_repositories_wants_force() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["one"])]);
    let one = load(&fixture).remove(0);
    let store = fixture.store();
    let id = one.id().to_string();
    store.tag("one:v1", &name("other:v1")).unwrap();
    assert!(matches!(store.remove(&id, false, &unused), Err(RemoveError::SeveralNames { .. })));
    assert_eq!(store.remove(&id, true, &unused).unwrap().len(), 5);
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn what_a_container_uses_stays() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["one"])]);
    let one = load(&fixture).remove(0);
    let store = fixture.store();
    for (is_running, force) in [(true, false), (true, true), (false, false)] {
        let error = store.remove("one:v1", force, &used(is_running)).unwrap_err();
        assert!(error.to_string().contains("web"), "{error}");
    }
    assert_eq!(store.collect(&|_| true, &used(false)).unwrap().removed, []);
    // By force, the name and the image go, but not the files under a stopped container.
    store.remove("one:v1", true, &used(false)).unwrap();
    assert!(store.list().unwrap().is_empty());
    assert!(store.collect(&|_| true, &used(false)).unwrap().bytes == 0);
    store.disk(&one, &Limits::default()).unwrap();
    assert!(store.collect(&|_| true, &unused).unwrap().bytes > 0);
    assert_eq!((files(&fixture, "layers"), files(&fixture, "blobs/sha256")), (0, 0));
}

#[test]
fn nothing_is_taken_while_the_store_is_held() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["one"])]);
    let one = load(&fixture).remove(0);
    let store = fixture.store();
    let hold = store.hold().unwrap();
    store.remove("one:v1", false, &unused).unwrap();
    store.disk(&one, &Limits::default()).unwrap();
    assert_eq!(files(&fixture, "layers"), 1);
    drop(hold);
    store.collect(&|_| false, &unused).unwrap();
    assert_eq!(files(&fixture, "layers"), 0);
}

#[test]
fn usage_tells_what_is_shared() {
    let fixture = Fixture::new();
    let big = vec![7; 1 << 20];
    let base = Tarball::default().file("base", &big).finish();
    let entries: Vec<Value> = ["one", "two"]
        .iter()
        .map(|file| {
            let tars = [base.clone(), tar(file)];
            let layers: Vec<Value> = tars.iter().map(|tar| fixture.blob(GZIP, tar)).collect();
            let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar)).collect();
            let mut entry = fixture.manifest("amd64", &layers, &diff_ids);
            entry["annotations"] = json!({ TAG: format!("{file}:v1") });
            entry
        })
        .collect();
    fixture.index(&entries);
    load(&fixture);
    let usage = fixture.store().usage().unwrap();
    assert_eq!(usage.images.len(), 2);
    for image in &usage.images {
        // Blob and file system.
        assert!(image.shared >= 2 << 20 && image.unique > 0 && image.unique < 1 << 20, "{image:?}");
    }
    assert_eq!(usage.garbage, 0);
    assert_eq!(
        usage.total,
        usage.images[0].shared + usage.images.iter().map(|image| image.unique).sum::<u64>()
    );
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    Store::open(directory.path()).unwrap();
    fs::write(directory.path().join("version"), "2\n").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 2, .. }));
    assert!(error.to_string().contains("BULKHEAD_DATA_DIR"), "{error}");
    fs::write(directory.path().join("version"), "").unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_commit_adds_a_layer_and_keeps_what_it_does_not_know() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["base"])]);
    let base = load(&fixture).remove(0);
    let store = fixture.store();
    let commit = Commit {
        changes: Change::parse("ENV A=1").unwrap(),
        created: "2026-11-24T12:00:00Z".into(),
        created_by: "sh".into(),
        author: Some("me".into()),
        message: Some("why".into()),
    };
    let image = store.commit(&base, &tar("new")[..], &commit, &Limits::default()).unwrap();
    let again = store.commit(&base, &tar("new")[..], &commit, &Limits::default()).unwrap();
    assert_eq!(image.id(), again.id());
    assert_eq!(image.layers().len(), 2);
    assert_eq!(image.layers()[1].diff_id.to_string(), sha256(&tar("new")));
    assert_eq!(image.created(), Some("2026-11-24T12:00:00Z"));
    let document: Value = serde_json::from_slice(image.document()).unwrap();
    assert_eq!(document["config"], json!({ "Cmd": ["true"], "Env": ["A=1"] }));
    assert_eq!(document["history"][0]["comment"], "why");
    let disk = store.disk(&image, &Limits::default()).unwrap();
    let content: Vec<u8> = disk.files.iter().flat_map(|file| fs::read(file).unwrap()).collect();
    let found = read_image(&content);
    for file in ["base", "new"] {
        assert_eq!(found[file.as_bytes()].kind, Kind::File(file.as_bytes().to_vec()));
    }
    // A further commit goes on from there, and what is saved of it can be loaded elsewhere.
    let third = store.commit(&image, &tar("third")[..], &Commit::default(), &Limits::default()).unwrap();
    store.verify().unwrap();
    let mut archive = Vec::new();
    store.save(&[third.id().to_string()], Format::Docker, &mut archive).unwrap();
    fs::write(fixture.path("saved.tar"), archive).unwrap();
    let other = Store::open(fixture.path("other")).unwrap();
    let loaded = other.load(&fixture.path("saved.tar"), &amd64(), &Limits::default(), &()).unwrap();
    assert_eq!(loaded[0].image.id(), third.id());
    assert_eq!(loaded[0].image.manifest(), third.manifest());
    assert!(loaded[0].names.is_empty());
}

#[test]
fn an_archive_becomes_an_image_of_one_layer_compressed_or_not() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let changes = Change::parse("CMD [\"true\"]").unwrap();
    let commit = Commit { changes, created: "2026-11-24T12:00:00Z".into(), ..Commit::default() };
    let (plain, compressed) = (tar("root"), gzip(&tar("root")));
    let one = store.import(&plain[..], &amd64(), &commit, &Limits::default()).unwrap();
    let two = store.import(&compressed[..], &amd64(), &commit, &Limits::default()).unwrap();
    assert_eq!(one.id(), two.id());
    assert_eq!(one.platform(), amd64());
    assert!(read_layer(&fixture.layer(&one.layers()[0].diff_id)).contains_key(&b"root"[..]));
    let twice = gzip(&compressed);
    assert!(store.import(&twice[..], &amd64(), &commit, &Limits::default()).is_err());
    assert!(store.import(&b"no archive at all"[..], &amd64(), &commit, &Limits::default()).is_err());
    store.verify().unwrap();
}

#[test]
fn a_docker_archive_gets_a_manifest_that_tells_its_layers_compression() {
    let fixture = Fixture::new();
    let tars = ["one", "two", "three"].map(tar);
    let blobs = [tars[0].clone(), gzip(&tars[1]), zstd::stream::encode_all(&tars[2][..], 1).unwrap()];
    let configuration = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": tars.iter().map(|tar| sha256(tar)).collect::<Vec<_>>() },
    });
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["a:1", "b:2"], "Layers": ["0", "1", "2"] }]);
    let archive = Tarball::default()
        .file("c.json", configuration.to_string().as_bytes())
        .file("manifest.json", manifest.to_string().as_bytes());
    let archive = (0..3).fold(archive, |archive, index| archive.file(&index.to_string(), &blobs[index]));
    fs::write(fixture.path("image"), archive.finish()).unwrap();
    let images = load(&fixture);
    assert_eq!(familiar(&images[0]), ["a:1", "b:2"]);
    let layers = images[0].layers();
    for (index, ending) in ["tar", "tar+gzip", "tar+zstd"].iter().enumerate() {
        assert_eq!(layers[index].digest.to_string(), sha256(&blobs[index]));
        assert!(layers[index].media_type.to_string().ends_with(ending));
    }
    // The same archive elsewhere is the same image to the last digest.
    let other = Store::open(fixture.path("other")).unwrap();
    let again = other.load(&fixture.path("image"), &amd64(), &Limits::default(), &()).unwrap();
    assert_eq!(again[0].image.manifest(), images[0].manifest());
}

#[test]
fn saved_images_are_byte_for_byte_what_was_loaded() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["base", "one"]), ("two:v1", &["base", "two"])]);
    load(&fixture);
    let store = fixture.store();
    store.tag("one:v1", &name("one:again")).unwrap();
    for format in [Format::Docker, Format::Oci] {
        let mut archive = Vec::new();
        let images = ["one:v1", "two:v1", "one:again"].map(str::to_owned);
        store.save(&images, format, &mut archive).unwrap();
        fs::write(fixture.path("saved.tar"), &archive).unwrap();
        let other = Store::open(fixture.path(&format!("other-{format:?}"))).unwrap();
        let loaded = other.load(&fixture.path("saved.tar"), &amd64(), &Limits::default(), &()).unwrap();
        let names: BTreeSet<String> =
            loaded.iter().flat_map(|loaded| loaded.names.iter().map(Name::familiar)).collect();
        assert_eq!(names, BTreeSet::from(images));
        assert_eq!(blobs(other.directory()), blobs(store.directory()));
        other.verify().unwrap();
    }
}

fn blobs(store: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    fs::read_dir(store.join("blobs/sha256")).unwrap().map(read).collect()
}

#[test]
fn a_lost_file_system_is_made_again_from_its_blob() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["base", "one"])]);
    let one = load(&fixture).remove(0);
    let path = fixture.layer(&one.layers()[0].diff_id);
    let before = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fixture.store().disk(&one, &Limits::default()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn many_at_once_do_not_harm_each_other() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["base", "one"]), ("two:v1", &["base", "two"])]);
    let (fixture, limits) = (&fixture, &Limits::default());
    std::thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || {
                let store = fixture.store();
                for round in 0..10 {
                    let mine = name(&format!("mine:{number}"));
                    let hold = store.hold().unwrap();
                    // Another's remove may come between loading and naming: then it is as if it was never loaded.
                    let image = loop {
                        let loaded = store.load(&fixture.path("image"), &amd64(), limits, &()).unwrap();
                        match store.tag(&loaded[round % 2].image.id().to_string(), &mine) {
                            Ok(image) => break image,
                            Err(TagError::Find(FindError::Unknown(_))) => {}
                            Err(error) => panic!("{error}"),
                        }
                    };
                    store.disk(&image, limits).unwrap();
                    drop(hold);
                    // By its own name, each still has its image whatever the others take away.
                    store.disk(&store.find(&mine.to_string()).unwrap(), limits).unwrap();
                    let _ = store.remove("one:v1", true, &unused);
                    store.collect(&|image| image.names().is_empty(), &unused).unwrap();
                }
            });
        }
    });
    fixture.store().verify().unwrap();
}

#[test]
fn processes_that_make_the_same_image_at_once_all_succeed() {
    let fixture = Fixture::new();
    layout(&fixture, &[("one:v1", &["base", "one"])]);
    let importing: Vec<_> = (0..8)
        .map(|_| {
            let mut program = Command::new(import_program());
            program
                .args([fixture.path("image"), fixture.path("store")])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let outputs: BTreeSet<Vec<u8>> = importing
        .into_iter()
        .map(|program| {
            let output = program.wait_with_output().unwrap();
            assert!(output.status.success());
            output.stdout
        })
        .collect();
    assert_eq!(outputs.len(), 1);
    assert_eq!((files(&fixture, "layers"), files(&fixture, "merged"), files(&fixture, "images")), (2, 1, 1));
    fixture.store().verify().unwrap();
}
