//! Merged layers show what their stack would, as another's reader of EROFS and fsck.erofs see it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::tarball::{Item, Tarball};
use support::{Fixture, Found, Kind, read_image, sha256};

/// What is on the disk of an image with these layers.
fn merge(tars: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Found> {
    let fixture = Fixture::new();
    fixture.layers(tars);
    read_disk(&fixture.merge().unwrap())
}

/// The files as one disk, checked.
fn read_disk(files: &[PathBuf]) -> BTreeMap<Vec<u8>, Found> {
    let disk = end_to_end(files);
    check(&disk);
    read_image(&disk)
}

fn end_to_end(files: &[PathBuf]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(parts.iter().all(|part| part.len() % 4096 == 0));
    parts.concat()
}

fn check(disk: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(disk).unwrap();
    let output = Command::new("fsck.erofs").arg("--extract").arg(file.path()).output().unwrap();
    assert!(output.status.success(), "fsck.erofs: {output:?}");
}

fn paths(files: &BTreeMap<Vec<u8>, Found>) -> Vec<String> {
    files.keys().skip(1).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn directory(path: &[u8], mode: u32) -> Item<'_> {
    Item { flag: b'5', path, mode, uid: 7, mtime: 99, ..Item::default() }
}

#[test]
fn the_uppermost_of_each_name_counts() {
    let data: Vec<u8> = (0..20_000_u32).map(|index| (index * 7 / 3) as u8).collect();
    let xattr = |value: &[u8]| vec![("SCHILY.xattr.user.x", value.to_vec())];
    let tars = [
        Tarball::default()
            .file("a/kept", &data)
            .file("a/replaced", b"old")
            .file("a/gone", b"")
            .file("to-dir", b"file")
            .file("to-file/child", b"")
            .item(&Item { path: b"chmod", data: &data[..5000], pax: xattr(b"old"), ..Item::default() })
            .finish(),
        Tarball::default()
            .file("a/replaced", b"new")
            .file("a/.wh.gone", b"")
            .file("to-dir/child", b"")
            .file("to-file", b"file")
            .item(&Item {
                path: b"chmod",
                data: &data[..5000],
                pax: xattr(b"new"),
                mode: 0o600,
                ..Item::default()
            })
            .finish(),
        Tarball::default()
            .file("a/gone/again", b"")
            .link(b'2', "a/link", "kept")
            .item(&Item { flag: b'3', path: b"null", device: (1, 3), ..Item::default() })
            .finish(),
    ];
    let files = merge(&tars);
    assert_eq!(
        paths(&files),
        [
            "a",
            "a/gone",
            "a/gone/again",
            "a/kept",
            "a/link",
            "a/replaced",
            "chmod",
            "null",
            "to-dir",
            "to-dir/child",
            "to-file"
        ]
    );
    let get = |path: &str| &files[path.as_bytes()];
    assert!(get("a/kept").kind == Kind::File(data.clone()));
    assert_eq!(get("a/replaced").kind, Kind::File(b"new".to_vec()));
    assert_eq!(get("a/link").kind, Kind::Symlink(b"kept".to_vec()));
    assert_eq!(get("null").kind, Kind::CharDevice(1, 3));
    assert!(get("chmod").kind == Kind::File(data[..5000].to_vec()));
    assert_eq!((get("chmod").mode, &get("chmod").xattrs[&b"user.x"[..]][..]), (0o600, &b"new"[..]));
    assert_eq!((get("a").links, files[&Vec::new()].links), (3, 4));
}

#[test]
fn directories_without_an_entry_are_as_the_layers_below_have_them() {
    let acl = ("SCHILY.xattr.system.posix_acl_default", b"acl".to_vec());
    let many = (0..300).fold(Tarball::default(), |tar, number| tar.file(&format!("many/{number:0>40}"), b""));
    let tars = [
        many.item(&Item { pax: vec![acl], ..directory(b"tmp", 0o1777) })
            .item(&directory(b".", 0o555))
            .item(&directory(b"many/zz", 0o711))
            .item(&directory(b"gone", 0o700))
            .item(&directory(b"opaque", 0o770))
            .item(&directory(b"opaque/inner", 0o700))
            .finish(),
        Tarball::default()
            .file("tmp/file", b"")
            .file("many/zz/file", b"")
            .file(".wh.gone", b"")
            .file("opaque/.wh..wh..opq", b"")
            .finish(),
        Tarball::default()
            .file("tmp/again", b"")
            .file("gone/new", b"")
            .file("opaque/inner/new", b"")
            .finish(),
    ];
    let attributes = |files: &BTreeMap<Vec<u8>, Found>, path: &str| {
        let found = &files[path.as_bytes()];
        (found.mode, found.owner.0, found.mtime.0, found.xattrs.len())
    };
    let files = merge(&tars);
    for (path, expected) in [
        ("", (0o555, 7, 99, 0)),
        ("tmp", (0o1777, 7, 99, 1)),
        ("many/zz", (0o711, 7, 99, 0)),
        ("opaque", (0o770, 7, 99, 0)),
        ("gone", (0o755, 0, 0, 0)),
        ("opaque/inner", (0o755, 0, 0, 0)),
    ] {
        assert_eq!(attributes(&files, path), expected, "{path:?}");
    }
    assert_eq!(attributes(&merge(&tars[2..]), "tmp"), (0o755, 0, 0, 0));
}

#[test]
fn a_directory_removed_and_made_again_is_another() {
    let tars = [
        Tarball::default().item(&directory(b"d", 0o700)).file("d/old", b"").finish(),
        Tarball::default().file("d/new", b"").file(".wh.d", b"").finish(),
    ];
    let files = merge(&tars);
    assert_eq!(paths(&files), ["d", "d/new"]);
    assert_eq!((files[&b"d"[..]].mode, files[&b"d"[..]].xattrs.len()), (0o755, 0));
}

#[test]
fn hard_links_count_the_names_that_show() {
    let tars = [
        Tarball::default()
            .file("a", &[7; 5000])
            .link(b'1', "b", "a")
            .link(b'1', "dir/c", "a")
            .link(b'1', "gone", "a")
            .finish(),
        Tarball::default().file(".wh.gone", b"").file("b", b"another").finish(),
    ];
    let files = merge(&tars);
    for name in ["a", "dir/c"] {
        assert_eq!(files[name.as_bytes()].links, 2, "{name}");
    }
    assert_eq!(files[&b"b"[..]].links, 1);
}

#[test]
fn holes_stay_holes() {
    let mut expected = vec![0; 3_000_000];
    expected[2_500_000..2_500_004].copy_from_slice(b"here");
    let sparse = Item {
        path: b"sparse",
        data: b"here",
        pax: vec![("GNU.sparse.size", b"3000000".to_vec()), ("GNU.sparse.map", b"2500000,4".to_vec())],
        ..Item::default()
    };
    let tars = [
        Tarball::default().file("first", &[1; 10_000]).finish(),
        Tarball::default().item(&sparse).finish(),
        Tarball::default().file("last", &[2; 10_000]).finish(),
    ];
    let fixture = Fixture::new();
    fixture.layers(&tars);
    let files = fixture.merge().unwrap();
    assert!(files.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>() < 200_000);
    assert!(read_disk(&files)[&b"sparse"[..]].kind == Kind::File(expected));
}

#[test]
fn a_layer_that_needs_no_merging_is_the_disk() {
    let fixture = Fixture::new();
    fixture.layers(&[Tarball::default().directory("dir").file("dir/file", b"data").finish()]);
    let files = fixture.merge().unwrap();
    assert!(files.len() == 1 && files[0].starts_with(fixture.path("store/layers")), "{files:?}");
    assert_eq!(paths(&read_disk(&files)), ["dir", "dir/file"]);
    for tar in [
        Tarball::default().file("implied/file", b""),
        Tarball::default().file(".wh.file", b""),
        Tarball::default().directory("dir").file("dir/.wh..wh..opq", b""),
    ] {
        fixture.layers(&[tar.finish()]);
        let files = fixture.merge().unwrap();
        assert_eq!(files.len(), 2, "{files:?}");
        assert!(read_disk(&files).values().all(|found| found.xattrs.is_empty() && found.links > 0));
        assert!(!paths(&read_disk(&files)).contains(&"file".to_owned()));
    }
}

#[test]
fn an_image_without_layers_is_an_empty_disk() {
    assert_eq!(paths(&merge(&[])), [""; 0]);
}

#[test]
fn the_same_layers_make_the_same_file_by_the_name_the_specification_gives_them() {
    let tars = [1, 2, 3].map(|number| Tarball::default().file(&format!("{number}"), b"").finish());
    let [one, two, three] = tars.each_ref().map(|tar| sha256(tar));
    let chain = sha256(format!("{} {three}", sha256(format!("{one} {two}").as_bytes())).as_bytes());
    let merged = [(); 2].map(|()| {
        let fixture = Fixture::new();
        fixture.layers(&tars);
        let files = fixture.merge().unwrap();
        assert_eq!(files[0], fixture.path("store/merged").join(format!("{}.erofs", &chain[7..])));
        assert_eq!(fixture.merge().unwrap(), files);
        fs::read(&files[0]).unwrap()
    });
    assert!(merged[0] == merged[1]);
}

#[test]
fn layers_are_shared_whatever_lies_below_them() {
    let upper = Tarball::default().file("dir/upper", b"").finish();
    let fixture = Fixture::new();
    let mut shared = Vec::new();
    for mode in [0o700, 0o711] {
        fixture.layers(&[Tarball::default().item(&directory(b"dir", mode)).finish(), upper.clone()]);
        let files = fixture.merge().unwrap();
        assert_eq!(read_disk(&files)[&b"dir"[..]].mode, mode);
        shared.push(files[2].clone());
    }
    assert_eq!(shared[0], shared[1]);
    assert_eq!(fixture.cached().len(), 3);
}

#[test]
fn a_merged_image_of_other_layer_files_is_made_anew() {
    let tars = [1, 2].map(|number| Tarball::default().file(&format!("{number}"), b"").finish());
    let fixture = Fixture::new();
    fixture.layers(&tars);
    let files = fixture.merge().unwrap();
    let whole = fs::read(&files[0]).unwrap();
    for stale in [&whole[..whole.len() - 4096], b"", &vec![0; 8192]] {
        fs::remove_file(&files[0]).unwrap();
        fs::write(&files[0], stale).unwrap();
        assert_eq!(fixture.merge().unwrap(), files);
        assert!(fs::read(&files[0]).unwrap() == whole);
    }
}

/// Replaces a layer's file.
fn overwrite(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_missing_or_damaged_layer_is_named() {
    let fixture = Fixture::new();
    let tars = [1, 2].map(|number| Tarball::default().file(&format!("{number}"), b"").finish());
    fixture.layers(&tars);
    let layers = fixture.import(&images::Limits::default()).unwrap();
    let content = fs::read(&layers[1]).unwrap();
    for damaged in [&content[..content.len() - 4096], &content[..100], b""] {
        overwrite(&layers[1], damaged);
        let error = fixture.merge().unwrap_err();
        assert!(error.contains(&sha256(&tars[1])) && error.contains("damaged"), "{error}");
    }
    fs::remove_file(&layers[1]).unwrap();
    let cache = fixture.store().layers().clone();
    let diff_ids: Vec<_> = fixture.open("image").unwrap().layers().iter().map(|l| l.diff_id).collect();
    let error = cache.merge(&diff_ids).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains(&sha256(&tars[1])), "{error}");
}

#[test]
fn damage_never_panics_nor_runs_for_ever() {
    let fixture = Fixture::new();
    let data: Vec<u8> = (0..9000_u32).map(|index| index as u8).collect();
    let lower = (0..200).fold(Tarball::default(), |tar, number| {
        tar.file(&format!("d{}/{number}", number % 7), &data[..number * 40])
    });
    let xattr = ("SCHILY.xattr.user.x", vec![1; 300]);
    let upper = Tarball::default()
        .file("d1/new", &data)
        .link(b'1', "d2/link", "d1/new")
        .link(b'2', "symlink", "target")
        .item(&Item { path: b"attributes", pax: vec![xattr], ..Item::default() });
    fixture.layers(&[lower.finish(), upper.finish()]);
    let layers = fixture.import(&images::Limits::default()).unwrap();
    let mut random = 1_u64;
    for layer in &layers {
        let mut content = Vec::new();
        fs::File::open(layer).unwrap().read_to_end(&mut content).unwrap();
        for _ in 0..200 {
            let mut damaged = content.clone();
            for _ in 0..3 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Most of the file is data: damage where the tree is.
                let at = damaged.len() - 1 - (random >> 33) as usize % damaged.len().min(16 << 10);
                damaged[at] = (random >> 24) as u8;
            }
            overwrite(layer, &damaged);
            if let Ok(files) = fixture.merge() {
                fs::remove_file(&files[0]).unwrap();
            }
        }
        overwrite(layer, &content);
    }
    check(&end_to_end(&fixture.merge().unwrap()));
}
