//! Trees nobody thought of come out as they went in; archives nobody should write end in an error, never in a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::collections::BTreeMap;

use images::Limits;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use support::tarball::{Item, Tarball};
use support::{Fixture, Found, Kind, gzip, read_layer, round_trip, sha256};

/// A file's attributes and content; directories come with what is in them.
#[derive(Clone, Debug)]
struct Planned {
    mode: u32,
    owner: (u32, u32),
    mtime: u32,
    xattrs: BTreeMap<String, Vec<u8>>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    File(Vec<u8>),
    Symlink(String),
    CharDevice(u32, u32),
    Fifo,
    Directory(BTreeMap<String, Planned>),
}

fn name() -> impl Strategy<Value = String> {
    // Whiteouts are another matter; "." and ".." are no names.
    prop_oneof![4 => "[a-z]{1,3}", 2 => "[ -.0-~]{1,40}", 1 => "[a-c\u{e9}]{60,80}"]
        .prop_filter("a plain name", |name| !name.starts_with(".wh.") && name != "." && name != "..")
}

fn planned(content: impl Strategy<Value = Content>) -> impl Strategy<Value = Planned> {
    let id = prop_oneof![Just(0), 0..70_000_u32, any::<u32>()];
    let xattrs = btree_map("user\\.[a-z]{1,9}", vec(any::<u8>(), 0..200), 0..3);
    (0..0o10_000_u32, (id.clone(), id), prop_oneof![Just(0), any::<u32>()], xattrs, content)
        .prop_map(|(mode, owner, mtime, xattrs, content)| Planned { mode, owner, mtime, xattrs, content })
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Planned>> {
    let size = prop_oneof![0..50_usize, 1900..2200_usize, 4000..4200_usize, 0..20_000_usize];
    let leaf = prop_oneof![
        (size, any::<u8>()).prop_map(|(size, seed)| {
            Content::File((0..size).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect())
        }),
        "[a-z/.]{1,120}".prop_map(Content::Symlink),
        (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Content::CharDevice(major, minor)),
        Just(Content::Fifo),
    ];
    let file = planned(leaf).prop_recursive(4, 60, 12, |inner| {
        planned(btree_map(name(), inner, 0..12).prop_map(Content::Directory))
    });
    btree_map(name(), file, 0..12)
}

/// Writes a tree in order of names, and what must be found of it.
fn plan(
    tree: &BTreeMap<String, Planned>,
    path: &str,
    tar: &mut Tarball,
    expected: &mut BTreeMap<Vec<u8>, Found>,
) -> u32 {
    let mut directories = 0;
    for (name, file) in tree {
        let path = format!("{path}{name}");
        let mut item = Item {
            path: path.as_bytes(),
            mode: file.mode,
            uid: file.owner.0.into(),
            gid: file.owner.1.into(),
            mtime: file.mtime.into(),
            ..Item::default()
        };
        let keys: Vec<String> = file.xattrs.keys().map(|name| format!("SCHILY.xattr.{name}")).collect();
        item.pax = keys.iter().map(String::as_str).zip(file.xattrs.values().cloned()).collect();
        let (kind, mut links) = match &file.content {
            Content::File(data) => {
                item.data = data;
                (Kind::File(data.clone()), 1)
            }
            Content::Symlink(target) => {
                (item.flag, item.link) = (b'2', target.as_bytes());
                (Kind::Symlink(target.clone().into_bytes()), 1)
            }
            Content::CharDevice(major, minor) => {
                (item.flag, item.device) = (b'3', (*major, *minor));
                (Kind::CharDevice(*major, *minor), 1)
            }
            Content::Fifo => {
                item.flag = b'6';
                (Kind::Fifo, 1)
            }
            Content::Directory(_) => {
                item.flag = b'5';
                directories += 1;
                (Kind::Directory, 2)
            }
        };
        tar.add(&item);
        if let Content::Directory(inner) = &file.content {
            links += plan(inner, &format!("{path}/"), tar, expected);
        }
        let xattrs =
            file.xattrs.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone())).collect();
        let (mode, owner, mtime) = (file.mode, file.owner, (file.mtime.into(), 0));
        expected.insert(path.into_bytes(), Found { kind, mode, owner, mtime, links, xattrs });
    }
    directories
}

/// Imports an archive as it is; digests match, so whatever it holds is looked at.
fn import(tar: &[u8]) -> (Result<Vec<std::path::PathBuf>, String>, Fixture) {
    let fixture = Fixture::new();
    fixture.one_layer(tar);
    let limits = Limits { layer_bytes: 64 << 20, entries: 1000, ..Limits::default() };
    (fixture.import(&limits), fixture)
}

/// An import may be refused, but must not leave anything, nor make an image that cannot be read.
fn check_import(tar: &[u8]) {
    let (result, fixture) = import(tar);
    match result {
        Ok(layers) => drop(read_layer(&layers[0])),
        Err(error) => assert!(fixture.cached().is_empty(), "{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_out_as_it_went_in(tree in tree()) {
        let (mut tar, mut expected) = (Tarball::default(), BTreeMap::new());
        plan(&tree, "", &mut tar, &mut expected);
        let mut found = round_trip(&tar.finish());
        found.remove(&Vec::new());
        prop_assert!(found == expected, "found {found:#?}\nexpected {expected:#?}");
    }

    #[test]
    fn damaged_archives_never_panic(tree in tree(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut tar = Tarball::default();
        plan(&tree, "", &mut tar, &mut BTreeMap::new());
        let mut bytes = tar.finish();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
            repair_checksum(&mut bytes, at);
        }
        check_import(&bytes);
    }

    #[test]
    fn odd_records_never_panic(
        flag in prop::sample::select(b"0123456L KSxg".to_vec()),
        records in vec((prop::sample::select(KEYS.to_vec()), value()), 0..6),
        data in vec(any::<u8>(), 0..1500),
        path in "[a-c./\u{0}]{0,12}",
    ) {
        let item = Item { flag, path: path.as_bytes(), link: b"a", data: &data, pax: records, ..Item::default() };
        check_import(&Tarball::default().file("a", b"data").item(&item).file("z", b"").finish());
    }

    #[test]
    fn damaged_blobs_never_pass(at in any::<prop::sample::Index>(), bit in 0..8) {
        let tar = Tarball::default().file("file", &[7; 3000]).finish();
        let fixture = Fixture::new();
        fixture.one_layer(&tar);
        let mut blob = gzip(&tar);
        let path = fixture.path("image/blobs/sha256").join(&sha256(&blob)[7..]);
        let at = at.index(blob.len());
        blob[at] ^= 1_u8 << bit;
        std::fs::write(path, blob).unwrap();
        let error = fixture.import(&Limits::default()).unwrap_err();
        prop_assert!(error.contains("digest does not match"), "{error}");
        prop_assert!(fixture.cached().is_empty());
    }
}

const KEYS: [&str; 13] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "mtime",
    "GNU.sparse.major",
    "GNU.sparse.realsize",
    "GNU.sparse.size",
    "GNU.sparse.map",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.sparse.name",
    "SCHILY.xattr.user.x",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[0-9,.-]{0,22}".prop_map(String::into_bytes),
        any::<u64>().prop_map(|value| value.to_string().into_bytes()),
        (0..3000_u32).prop_map(|value| value.to_string().into_bytes()),
        vec(any::<u8>(), 0..300),
    ]
}

/// Makes the checksum of the block around a byte right, if it has one: past it is where the parser's faults would be.
fn repair_checksum(bytes: &mut [u8], at: usize) {
    let start = at / 512 * 512;
    let Some(block) = bytes.get_mut(start..start + 512) else { return };
    if &block[257..262] == b"ustar" {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:07o}").as_bytes());
    }
}
