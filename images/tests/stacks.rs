//! Stacks of layers nobody thought of show, once merged, what applying one layer after the other would leave.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use support::tarball::{Item, Tarball};
use support::{Fixture, Found, Kind, read_image};

/// What a layer has under a name: perhaps a whiteout, and perhaps a file of its own besides.
#[derive(Clone, Debug)]
struct Planned {
    is_removed: bool,
    file: Option<PlannedFile>,
}

#[derive(Clone, Debug)]
enum PlannedFile {
    Regular(Stated, Vec<u8>),
    Symlink(Stated, String),
    Fifo(Stated),
    /// A link to the layer's latest regular file, if it has one by then.
    HardLink,
    Directory(PlannedDirectory),
}

#[derive(Clone, Debug)]
struct PlannedDirectory {
    stated: Option<Stated>,
    is_opaque: bool,
    names: BTreeMap<String, Planned>,
}

/// Attributes an entry states.
#[derive(Clone, Debug)]
struct Stated {
    mode: u32,
    uid: u32,
    mtime: u32,
    xattr: Option<u8>,
}

fn stated() -> impl Strategy<Value = Stated> {
    (0..0o10_000_u32, 0..3_u32, 0..3_u32, prop::option::of(any::<u8>()))
        .prop_map(|(mode, uid, mtime, xattr)| Stated { mode, uid, mtime, xattr })
}

fn directory(names: impl Strategy<Value = Planned>) -> impl Strategy<Value = PlannedDirectory> {
    // Few names, so that the layers of a stack meet.
    let names = btree_map("[a-d]", names, 0..4);
    (prop::option::of(stated()), prop::bool::weighted(0.15), names)
        .prop_map(|(stated, is_opaque, names)| PlannedDirectory { stated, is_opaque, names })
}

fn planned(file: impl Strategy<Value = PlannedFile>) -> impl Strategy<Value = Planned> {
    (prop::bool::weighted(0.3), prop::option::weighted(0.8, file))
        .prop_map(|(is_removed, file)| Planned { is_removed, file })
}

fn layer() -> impl Strategy<Value = PlannedDirectory> {
    let size = prop_oneof![0..50_usize, 2000..2100_usize, 4000..4200_usize, 0..9000_usize];
    let leaf = prop_oneof![
        4 => (stated(), size, any::<u8>())
            .prop_map(|(stated, size, seed)| PlannedFile::Regular(stated, vec![seed; size])),
        1 => (stated(), "[a-z]{1,9}").prop_map(|(stated, target)| PlannedFile::Symlink(stated, target)),
        1 => stated().prop_map(PlannedFile::Fifo),
        1 => Just(PlannedFile::HardLink),
    ];
    let name = planned(leaf)
        .prop_recursive(3, 24, 4, |inner| planned(directory(inner).prop_map(PlannedFile::Directory)));
    directory(name)
}

/// What applying layers has left so far.
#[derive(Clone, Debug)]
enum Model {
    /// Its number tells hard links from equals.
    File {
        number: usize,
        found: Found,
    },
    Directory {
        found: Found,
        names: BTreeMap<String, Model>,
    },
}

/// Writes a layer's archive and applies it to the model.
struct Layer<'a> {
    tar: Tarball,
    next_number: &'a mut usize,
    latest: Option<(String, Model)>,
}

impl Layer<'_> {
    /// The root's path is empty, all others' end in a slash.
    fn apply(&mut self, plan: &PlannedDirectory, path: &str, below: Option<Model>) -> Model {
        let (mut found, mut names) = match below {
            Some(Model::Directory { found, names }) => (found, names),
            _ => (found(None, Kind::Directory), BTreeMap::new()),
        };
        if let Some(stated) = &plan.stated {
            found = self::found(Some(stated), Kind::Directory);
            let path = if path.is_empty() { "./" } else { path };
            self.add(b'5', path, Some(stated), b"", "");
        }
        if plan.is_opaque {
            names.clear();
            self.add(b'0', &format!("{path}.wh..wh..opq"), None, b"", "");
        }
        for (name, planned) in &plan.names {
            if planned.is_removed {
                names.remove(name);
                self.add(b'0', &format!("{path}.wh.{name}"), None, b"", "");
            }
            if let Some(file) = &planned.file {
                let below = names.remove(name);
                let applied = self.apply_file(file, &format!("{path}{name}"), below);
                names.extend(applied.map(|file| (name.clone(), file)));
            }
        }
        Model::Directory { found, names }
    }

    fn apply_file(&mut self, file: &PlannedFile, path: &str, below: Option<Model>) -> Option<Model> {
        *self.next_number += 1;
        let number = *self.next_number;
        match file {
            PlannedFile::Regular(stated, data) => {
                self.add(b'0', path, Some(stated), data, "");
                let model = Model::File { number, found: found(Some(stated), Kind::File(data.clone())) };
                self.latest = Some((path.to_owned(), model.clone()));
                Some(model)
            }
            PlannedFile::Symlink(stated, target) => {
                self.add(b'2', path, Some(stated), b"", target);
                let kind = Kind::Symlink(target.clone().into_bytes());
                Some(Model::File { number, found: found(Some(stated), kind) })
            }
            PlannedFile::Fifo(stated) => {
                self.add(b'6', path, Some(stated), b"", "");
                Some(Model::File { number, found: found(Some(stated), Kind::Fifo) })
            }
            PlannedFile::HardLink => match self.latest.clone() {
                Some((target, model)) => {
                    self.add(b'1', path, None, b"", &target);
                    Some(model)
                }
                None => below,
            },
            PlannedFile::Directory(plan) if has_entries(plan, self.latest.is_some()) => {
                Some(self.apply(plan, &format!("{path}/"), below))
            }
            PlannedFile::Directory(_) => below,
        }
    }

    fn add(&mut self, flag: u8, path: &str, stated: Option<&Stated>, data: &[u8], link: &str) {
        let (mut item, link) =
            (Item { flag, path: path.as_bytes(), data, ..Item::default() }, link.as_bytes());
        item.link = link;
        if let Some(Stated { mode, uid, mtime, xattr }) = stated {
            (item.mode, item.uid, item.mtime) = (*mode, u64::from(*uid), u64::from(*mtime));
            item.pax = xattr.iter().map(|value| ("SCHILY.xattr.user.x", vec![*value])).collect();
        }
        self.tar.add(&item);
    }
}

/// Whether anything of a directory gets into the archive; one that is neither stated nor has any does not exist.
fn has_entries(plan: &PlannedDirectory, mut has_file: bool) -> bool {
    plan.stated.is_some()
        || plan.is_opaque
        || plan.names.values().any(|planned| {
            planned.is_removed
                || match &planned.file {
                    Some(PlannedFile::HardLink) => has_file,
                    Some(PlannedFile::Directory(inner)) => has_entries(inner, has_file),
                    Some(_) => {
                        has_file = true;
                        true
                    }
                    None => false,
                }
        })
}

fn found(stated: Option<&Stated>, kind: Kind) -> Found {
    let made = Stated { mode: 0o755, uid: 0, mtime: 0, xattr: None };
    let Stated { mode, uid, mtime, xattr } = stated.unwrap_or(&made).clone();
    let xattrs = xattr.iter().map(|value| (b"user.x".to_vec(), vec![*value])).collect();
    Found { kind, mode, owner: (uid, 0), mtime: (mtime.into(), 0), links: 0, xattrs }
}

/// All files of the model, as they must be found.
fn flatten(model: &Model, path: &str, links: &BTreeMap<usize, u32>, into: &mut BTreeMap<Vec<u8>, Found>) {
    match model {
        Model::File { number, found } => {
            into.insert(path.as_bytes().to_vec(), Found { links: links[number], ..found.clone() });
        }
        Model::Directory { found, names } => {
            let inner = names.values().filter(|model| matches!(model, Model::Directory { .. })).count();
            into.insert(path.as_bytes().to_vec(), Found { links: 2 + inner as u32, ..found.clone() });
            for (name, model) in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                flatten(model, &path, links, into);
            }
        }
    }
}

fn count_links(model: &Model, links: &mut BTreeMap<usize, u32>) {
    match model {
        Model::File { number, .. } => *links.entry(*number).or_default() += 1,
        Model::Directory { names, .. } => names.values().for_each(|model| count_links(model, links)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_shows_what_its_layers_leave(plans in vec(layer(), 1..5)) {
        let mut model = None;
        let mut next_number = 0;
        let mut tars = Vec::new();
        for plan in &plans {
            let mut layer = Layer { tar: Tarball::default(), next_number: &mut next_number, latest: None };
            model = Some(layer.apply(plan, "", model));
            tars.push(layer.tar.finish());
        }
        let (mut links, mut expected) = (BTreeMap::new(), BTreeMap::new());
        let model = model.unwrap();
        count_links(&model, &mut links);
        flatten(&model, "", &links, &mut expected);
        let fixture = Fixture::new();
        fixture.layers(&tars);
        let files = fixture.merge().unwrap();
        let disk: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        let found = read_image(&disk.concat());
        prop_assert!(found == expected, "found {found:#?}\nexpected {expected:#?}");
    }
}
