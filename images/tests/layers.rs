//! What comes out of a layer is what went in, as another's reader of EROFS sees it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::collections::BTreeMap;

use support::tarball::{Item, Tarball};
use support::{Found, Kind, round_trip};

fn get<'a>(files: &'a BTreeMap<Vec<u8>, Found>, path: &str) -> &'a Found {
    files.get(path.as_bytes()).unwrap_or_else(|| panic!("no {path} in {:?}", files.keys()))
}

fn names(files: &BTreeMap<Vec<u8>, Found>) -> Vec<String> {
    files.keys().skip(1).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn every_kind_of_file_keeps_its_attributes() {
    let item =
        |flag, path| Item { flag, path, mode: 0o6750, uid: 70_000, gid: 4_000_000_000, ..Item::default() };
    let tar = Tarball::default()
        .item(&Item { mtime: 5, ..item(b'5', b"./dir/") })
        .item(&Item { data: b"hello", mtime: 1_600_000_000, ..item(b'0', b"./dir/file") })
        .item(&Item { link: b"../target", ..item(b'2', b"dir/link") })
        .item(&Item { device: (1, 3), ..item(b'3', b"null") })
        .item(&Item { device: (259, 70_000), ..item(b'4', b"disk") })
        .item(&item(b'6', b"pipe"));
    let files = round_trip(&tar.finish());
    assert_eq!(names(&files), ["dir", "dir/file", "dir/link", "disk", "null", "pipe"]);
    for (path, found) in files.iter().skip(1) {
        assert_eq!((found.mode, found.owner), (0o6750, (70_000, 4_000_000_000)), "{path:?}");
    }
    assert_eq!(get(&files, "dir").kind, Kind::Directory);
    assert_eq!(get(&files, "dir").mtime, (5, 0));
    assert_eq!(get(&files, "dir/file").kind, Kind::File(b"hello".to_vec()));
    assert_eq!(get(&files, "dir/file").mtime, (1_600_000_000, 0));
    assert_eq!(get(&files, "dir/link").kind, Kind::Symlink(b"../target".to_vec()));
    assert_eq!(get(&files, "null").kind, Kind::CharDevice(1, 3));
    assert_eq!(get(&files, "disk").kind, Kind::BlockDevice(259, 70_000));
    assert_eq!(get(&files, "pipe").kind, Kind::Fifo);
}

#[test]
fn data_of_any_size_arrives() {
    let sizes = [0, 1, 511, 512, 513, 2047, 2048, 2049, 4095, 4096, 4097, 6143, 6144, 6145, 3_000_001];
    let data: Vec<u8> =
        (0..3_000_001_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut tar = Tarball::default();
    for size in sizes {
        tar = tar.file(&format!("{size}"), &data[..size]);
    }
    let files = round_trip(&tar.finish());
    for size in sizes {
        assert!(get(&files, &size.to_string()).kind == Kind::File(data[..size].to_vec()), "{size} bytes");
    }
}

#[test]
fn hard_links_share_one_file() {
    let tar = Tarball::default()
        .file("a", b"data")
        .link(b'1', "dir/b", "a")
        .link(b'1', "c", "./dir/b")
        .link(b'2', "symlink", "a")
        .link(b'1', "symlink2", "symlink");
    let files = round_trip(&tar.finish());
    for name in ["a", "dir/b", "c"] {
        assert_eq!(
            (get(&files, name).links, &get(&files, name).kind),
            (3, &Kind::File(b"data".to_vec())),
            "{name}"
        );
    }
    assert_eq!(get(&files, "symlink2").links, 2);
}

#[test]
fn directories_count_their_links_and_missing_ones_are_made() {
    let files = round_trip(&Tarball::default().directory("a/b").file("a/c/d/e", b"").finish());
    assert_eq!(get(&files, "a").links, 4);
    assert_eq!(get(&files, "a/b").links, 2);
    assert_eq!((get(&files, "a/c").mode, get(&files, "a/c").owner), (0o755, (0, 0)));
    assert_eq!(files[&Vec::new()].links, 3);
}

#[test]
fn names_and_targets_may_be_long() {
    let name = "n".repeat(255);
    let path = format!("{0}/{0}/{0}/{0}", name);
    let targets = [100, 3000, 4030, 4031, 4032, 4033, 4095].map(|length| "t".repeat(length));
    let mut tar = Tarball::default().file(&path, b"deep");
    for target in &targets {
        tar = tar.link(b'2', &format!("link{}", target.len()), target);
    }
    let files = round_trip(&tar.finish());
    assert_eq!(get(&files, &path).kind, Kind::File(b"deep".to_vec()));
    for target in &targets {
        let found = get(&files, &format!("link{}", target.len()));
        assert!(found.kind == Kind::Symlink(target.clone().into_bytes()), "{}", target.len());
    }
}

#[test]
fn gnu_long_names_are_joined_to_their_entry() {
    let (name, target) = ("n".repeat(200), "t".repeat(200));
    let long = |flag, data| Item { flag, path: b"././@LongLink", data, ..Item::default() };
    let tar = Tarball::default()
        .item(&long(b'L', format!("{name}\0").as_bytes()))
        .item(&long(b'K', format!("{target}\0").as_bytes()))
        .item(&Item { flag: b'2', path: b"cut", link: b"cut", ..Item::default() })
        .file("next", b"");
    let files = round_trip(&tar.finish());
    assert_eq!(names(&files), ["next".to_owned(), name.clone()]);
    assert_eq!(get(&files, &name).kind, Kind::Symlink(target.into_bytes()));
}

#[test]
fn a_directory_may_have_many_blocks_of_names() {
    let mut tar = Tarball::default();
    let mut expected: Vec<String> =
        (0..1000).map(|number| format!("many/{number:x}-{}", "x".repeat(number % 40))).collect();
    expected.extend(["!", "-", "...", ".a", "\u{ff}"].map(|name| format!("many/{name}")));
    for name in &expected {
        tar = tar.file(name, name.as_bytes());
    }
    let files = round_trip(&tar.finish());
    assert_eq!(files.len(), expected.len() + 2);
    for name in &expected {
        assert_eq!(get(&files, name).kind, Kind::File(name.clone().into_bytes()));
    }
}

#[test]
fn extended_attributes_and_times_come_from_pax_records() {
    let long = vec![b'v'; 9000];
    let xattr = |name, value: &[u8]| (name, value.to_vec());
    let item = |path, pax| Item { path, data: b"tail", pax, ..Item::default() };
    let tar = Tarball::default()
        .item(&item(
            b"file",
            vec![
                xattr("SCHILY.xattr.user.lines", b"a\n9 b=c\n"),
                xattr("SCHILY.xattr.security.capability", b"\x01\x00\x00\x02\x0a\x00"),
                xattr("SCHILY.xattr.trusted.t", b""),
                xattr("SCHILY.xattr.system.posix_acl_access", b"acl"),
                xattr("SCHILY.xattr.com.apple.quarantine", b"from elsewhere"),
                xattr("SCHILY.xattr.trusted.overlay.redirect", b"/somewhere"),
                xattr("mtime", b"1234567890.123456789"),
                xattr("uid", b"4294967295"),
            ],
        ))
        .item(&item(b"large", vec![xattr("SCHILY.xattr.user.long", &long)]))
        .item(&item(b"before", vec![xattr("mtime", b"-1.5")]))
        .item(&item(b"epoch", vec![xattr("mtime", b"0")]));
    let files = round_trip(&tar.finish());
    let file = get(&files, "file");
    let expected: [(&[u8], &[u8]); 4] = [
        (b"security.capability", b"\x01\x00\x00\x02\x0a\x00"),
        (b"system.posix_acl_access", b"acl"),
        (b"trusted.t", b""),
        (b"user.lines", b"a\n9 b=c\n"),
    ];
    assert_eq!(file.xattrs, expected.map(|(name, value)| (name.to_vec(), value.to_vec())).into());
    assert_eq!((file.mtime, file.owner.0), ((1_234_567_890, 123_456_789), u32::MAX));
    assert_eq!(get(&files, "large").xattrs[&b"user.long"[..]], long);
    assert_eq!(get(&files, "large").kind, Kind::File(b"tail".to_vec()));
    assert_eq!(get(&files, "before").mtime, (-2, 500_000_000));
    assert_eq!(get(&files, "epoch").mtime, (0, 0));
}

#[test]
fn sparse_files_of_all_pax_formats_have_their_holes() {
    let mut expected = vec![0; 3_000_000];
    expected[5000..5004].copy_from_slice(b"here");
    expected[2_999_990..2_999_996].copy_from_slice(b"farend");
    let number = |key, value: &str| (key, value.as_bytes().to_vec());
    let mut leading = b"2\n5000\n4\n2999990\n6\n".to_vec();
    leading.resize(512, 0);
    leading.extend_from_slice(b"herefarend");
    let size = || number("GNU.sparse.size", "3000000");
    let tar = Tarball::default()
        .item(&Item {
            path: b"v0.0",
            data: b"herefarend",
            pax: vec![
                size(),
                number("GNU.sparse.offset", "5000"),
                number("GNU.sparse.numbytes", "4"),
                number("GNU.sparse.offset", "2999990"),
                number("GNU.sparse.numbytes", "6"),
            ],
            ..Item::default()
        })
        .item(&Item {
            path: b"GNUSparseFile.0/v0.1",
            data: b"herefarend",
            pax: vec![
                size(),
                number("GNU.sparse.map", "5000,4,2999990,6"),
                number("GNU.sparse.name", "v0.1"),
            ],
            ..Item::default()
        })
        .item(&Item {
            path: b"v1.0",
            data: &leading,
            pax: vec![
                number("GNU.sparse.major", "1"),
                number("GNU.sparse.minor", "0"),
                number("GNU.sparse.realsize", "3000000"),
            ],
            ..Item::default()
        })
        .file("after", b"in step");
    let files = round_trip(&tar.finish());
    for name in ["v0.0", "v0.1", "v1.0"] {
        assert!(get(&files, name).kind == Kind::File(expected.clone()), "{name}");
    }
    assert_eq!(get(&files, "after").kind, Kind::File(b"in step".to_vec()));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let tar = Tarball::default()
        .file("file", b"old")
        .file("file", b"new")
        .file("to-dir", b"")
        .directory("to-dir")
        .file("to-dir/child", b"")
        .file("to-file/child", b"")
        .file("to-file", b"file")
        .file("dir/child", b"kept")
        .item(&Item { flag: b'5', path: b"dir", mode: 0o700, uid: 7, ..Item::default() });
    let files = round_trip(&tar.finish());
    assert_eq!(names(&files), ["dir", "dir/child", "file", "to-dir", "to-dir/child", "to-file"]);
    assert_eq!(get(&files, "file").kind, Kind::File(b"new".to_vec()));
    assert_eq!((get(&files, "dir").mode, get(&files, "dir").owner.0), (0o700, 7));
}

#[test]
fn whiteouts_become_what_overlayfs_knows() {
    let tar = Tarball::default()
        .directory("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .item(&Item { flag: b'5', path: b"opaque", mode: 0o711, ..Item::default() })
        .file(".wh.gone", b"")
        .file("replaced/new", b"")
        .file(".wh.replaced", b"")
        .file(".wh.replaced-later", b"")
        .file("replaced-later/new", b"")
        .file("kept", b"this layer's own")
        .file(".wh.kept", b"")
        .file(".wh..wh.plnk/1.2", b"");
    let files = round_trip(&tar.finish());
    let opaque = BTreeMap::from([(b"trusted.overlay.opaque".to_vec(), b"y".to_vec())]);
    for directory in ["opaque", "replaced", "replaced-later"] {
        assert_eq!(get(&files, directory).xattrs, opaque, "{directory}");
    }
    assert_eq!(get(&files, "opaque").mode, 0o711);
    assert_eq!(get(&files, "gone").kind, Kind::CharDevice(0, 0));
    assert_eq!(get(&files, "kept").kind, Kind::File(b"this layer's own".to_vec()));
    assert!(!files.contains_key(&b".wh.gone"[..]));
}
