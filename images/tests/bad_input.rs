//! What is wrong with an image is said plainly, and nothing of it is left behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::fs;

use images::Limits;
use serde_json::json;
use support::tarball::{Item, Tarball};
use support::{Fixture, GZIP, PLAIN, gzip, sha256};

/// Imports a layer that must fail, with an error that says all of `words`.
fn refuse(tar: &[u8], limits: &Limits, words: &[&str]) {
    let fixture = Fixture::new();
    fixture.one_layer(tar);
    let error = fixture.import(limits).unwrap_err();
    for word in words.iter().chain(&[sha256(tar).as_str()]) {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    assert_eq!(fixture.cached(), [""; 0], "{error}");
}

#[test]
fn entries_that_climb_out_are_refused() {
    let limits = Limits::default();
    let cases = [
        (Tarball::default().file("../escape", b""), "../escape", "climbs out"),
        (Tarball::default().file("a/../../escape", b""), "a/../../escape", "climbs out"),
        (Tarball::default().file("/etc/passwd", b""), "/etc/passwd", "absolute"),
        (Tarball::default().link(b'2', "out", "/etc").file("out/passwd", b""), "out/passwd", "\"out\""),
        (Tarball::default().link(b'2', "a/out", "..").directory("a/out/b/c"), "a/out/b/c", "\"a/out\""),
        (Tarball::default().file("file", b"").file("file/below", b""), "file/below", "not a directory"),
        (Tarball::default().link(b'1', "l", "/etc/passwd"), "\"l\"", "absolute"),
        (Tarball::default().link(b'1', "l", "../passwd"), "\"l\"", "climbs out"),
        (Tarball::default().link(b'2', "s", "/etc").link(b'1', "l", "s/passwd"), "\"l\"", "\"s\""),
        (Tarball::default().link(b'2', "out", "/").file("out/.wh.etc", b""), "out/.wh.etc", "\"out\""),
    ];
    for (tar, path, cause) in cases {
        refuse(&tar.finish(), &limits, &[path, cause]);
    }
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    let limits = Limits::default();
    let pax = |key, value: &str| Item {
        path: b"f",
        pax: vec![(key, value.as_bytes().to_vec())],
        ..Item::default()
    };
    let name = "n".repeat(256);
    let cases = [
        (Tarball::default().link(b'1', "l", "nowhere"), "\"nowhere\""),
        (Tarball::default().directory("d").link(b'1', "l", "d"), "\"d\""),
        (Tarball::default().file("", b""), "root"),
        (Tarball::default().file(&name, b""), "255"),
        (Tarball::default().link(b'2', "l", ""), "path"),
        (Tarball::default().item(&Item { flag: b'Z', path: b"odd", ..Item::default() }), "'Z'"),
        (
            Tarball::default().item(&Item { flag: b'3', path: b"d", device: (4096, 0), ..Item::default() }),
            "device",
        ),
        (Tarball::default().item(&pax("uid", "4294967296")), "user id"),
        (Tarball::default().item(&pax("uid", "-1")), "malformed"),
        (Tarball::default().item(&pax("path", "a\0b")), "NUL"),
        (Tarball::default().item(&pax("size", "18446744073709551615")), "absurd"),
        (
            Tarball::default().item(&Item { data: b"xx", ..pax("GNU.sparse.realsize", "9") }),
            "sparse file's map",
        ),
        (
            Tarball::default().item(&Item { flag: b'x', data: &vec![b'x'; 2 << 20], ..Item::default() }),
            "2097152",
        ),
    ];
    for (tar, cause) in cases {
        refuse(&tar.finish(), &limits, &[cause]);
    }
}

#[test]
fn a_layer_is_refused_beyond_its_limits() {
    let zeros = vec![0; 4 << 20];
    let tar = Tarball::default().file("zeros", &zeros).finish();
    let limits = Limits::default();
    refuse(&tar, &Limits { layer_bytes: 1 << 20, ..limits.clone() }, &["limit of 1048576 bytes"]);
    refuse(&tar, &Limits { ratio: 10, ratio_from: 1 << 20, ..limits.clone() }, &["10 times"]);
    let many = (0..100).fold(Tarball::default(), |tar, number| tar.file(&format!("{number}"), b"")).finish();
    refuse(&many, &Limits { entries: 50, ..limits.clone() }, &["limit of 50 files"]);
    refuse(&many, &Limits { metadata_bytes: 1000, ..limits.clone() }, &["limit of 1000 bytes"]);
    // Few bytes in the archive, many in the image: each hole's neighbour takes a chunk.
    let parts: Vec<String> = (0..1000_u64).map(|part| format!("{},1", part << 24)).collect();
    let sparse = Tarball::default().item(&Item {
        path: b"sparse",
        data: &[1; 1000],
        pax: vec![
            ("GNU.sparse.map", parts.join(",").into_bytes()),
            ("GNU.sparse.size", b"17592186044416".to_vec()),
        ],
        ..Item::default()
    });
    refuse(&sparse.finish(), &Limits { layer_bytes: 1 << 30, ..limits }, &["limit of 1073741824 bytes"]);
}

#[test]
fn damaged_archives_are_refused() {
    let limits = Limits::default();
    let whole = Tarball::default().file("file", &[1; 5000]).finish();
    refuse(&whole[..3000], &limits, &["truncated"]);
    refuse(&whole[..700], &limits, &["truncated"]);
    refuse(&[b'x'; 4096], &limits, &["not a tar archive"]);
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    refuse(&flipped, &limits, &["checksum"]);
}

#[test]
fn blobs_must_be_what_their_digests_say() {
    let tar = Tarball::default().file("file", b"data").finish();
    let other = Tarball::default().file("file", b"evil").finish();
    for (stored, words) in [
        (gzip(&other), ["digest does not match", "truncated"]),
        (gzip(&tar)[..60].to_vec(), ["truncated", "truncated"]),
        (b"garbage".to_vec(), ["digest does not match", "truncated"]),
    ] {
        let fixture = Fixture::new();
        let descriptor = fixture.blob(GZIP, &gzip(&tar));
        let manifest = fixture.manifest("amd64", std::slice::from_ref(&descriptor), &[sha256(&tar)]);
        fixture.index(&[manifest]);
        let hex = &descriptor["digest"].as_str().unwrap()["sha256:".len()..];
        fs::write(fixture.path("image/blobs/sha256").join(hex), stored).unwrap();
        let error = fixture.import(&Limits::default()).unwrap_err();
        assert!(words.iter().any(|word| error.contains(word)), "{error}");
        assert!(error.contains(&sha256(&tar)), "{error}");
        assert_eq!(fixture.cached(), [""; 0]);
    }
}

#[test]
fn content_must_be_what_the_configuration_says() {
    let tar = Tarball::default().file("file", b"data").finish();
    let fixture = Fixture::new();
    let layer = fixture.blob(PLAIN, &tar);
    let stated = sha256(b"something else");
    fixture.index(&[fixture.manifest("amd64", &[layer], std::slice::from_ref(&stated))]);
    let error = fixture.import(&Limits::default()).unwrap_err();
    for word in ["diff_id does not match", &stated, &sha256(&tar)] {
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(fixture.cached(), [""; 0]);
}

#[test]
fn layers_of_unknown_kinds_are_refused() {
    for media_type in [
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.docker.distribution.manifest.v1+json",
    ] {
        let fixture = Fixture::new();
        let layer = fixture.blob(media_type, b"");
        fixture.index(&[fixture.manifest("amd64", &[layer], &[sha256(b"")])]);
        let error = fixture.open("image").map(|_| ()).unwrap_err();
        assert!(error.contains(media_type), "{error}");
    }
    let fixture = Fixture::new();
    fixture.index(&[fixture.blob("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}")]);
    let error = fixture.open("image").map(|_| ()).unwrap_err();
    assert!(error.contains("v1+prettyjws"), "{error}");
}

#[test]
fn what_is_no_image_is_named() {
    let fixture = Fixture::new();
    let error = |name: &str| fixture.open(name).map(|_| ()).unwrap_err();
    assert!(error("nothing.tar").contains("no such file"), "{}", error("nothing.tar"));
    fs::create_dir(fixture.path("empty")).unwrap();
    assert!(error("empty").contains("no image"), "{}", error("empty"));
    fs::write(fixture.path("text"), "hello, this is no archive\n".repeat(100)).unwrap();
    assert!(error("text").contains("not a tar archive"), "{}", error("text"));
    fs::write(fixture.path("foreign.tar"), Tarball::default().file("README", b"hi").finish()).unwrap();
    assert!(error("foreign.tar").contains("no image"), "{}", error("foreign.tar"));
    let archive = Tarball::default().file("manifest.json", &[b' '; 9000]).finish();
    fs::write(fixture.path("cut.tar"), &archive[..2000]).unwrap();
    assert!(error("cut.tar").contains("truncated"), "{}", error("cut.tar"));
    fs::write(fixture.path("cut.tar.gz"), &gzip(&archive)[..30]).unwrap();
    assert!(error("cut.tar.gz").contains("cut.tar.gz"), "{}", error("cut.tar.gz"));
    assert!(error("/dev/null").contains("regular file"), "{}", error("/dev/null"));
}

#[test]
fn documents_that_are_wrong_are_named() {
    let fixture = Fixture::new();
    fixture.index(&[json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
        "digest": sha256(b"{}") })]);
    let error = || fixture.open("image").map(|_| ()).unwrap_err();
    assert!(error().contains("missing"), "{}", error());
    fixture.blob("", b"{}");
    assert!(error().contains("manifest is malformed"), "{}", error());
    fs::write(fixture.path("image/blobs/sha256").join(&sha256(b"{}")[7..]), "[]").unwrap();
    assert!(error().contains("does not match its digest"), "{}", error());
    fs::write(fixture.path("image/index.json"), "{").unwrap();
    assert!(error().contains("index.json is malformed"), "{}", error());
    fs::write(fixture.path("image/index.json"), vec![b' '; 5 << 20]).unwrap();
    assert!(error().contains("5242880 bytes"), "{}", error());
    let tar = Tarball::default().finish();
    fixture.index(&[fixture.manifest("amd64", &[fixture.blob(PLAIN, &tar)], &[])]);
    assert!(error().contains("0 diff_ids for 1 layers"), "{}", error());
    fixture.index(&[fixture.manifest("amd64", &[fixture.blob(PLAIN, &tar)], &["sha256:../../x".into()])]);
    assert!(error().contains("\"sha256:../../x\" is not a SHA-256 digest"), "{}", error());
}
