//! Archives by a hostile container, and honest ones.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::{Landing, UnpackError, look, pack, unpack};

struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// An entry whose name and link are taken as they are.
    fn entry(mut self, kind: EntryType, name: &str, link: &str, data: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o6755);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data.as_bytes()).unwrap();
        self
    }

    fn unpack(self, directory: &Path, name: &str) -> Result<Vec<std::path::PathBuf>, UnpackError> {
        let landing = Landing { directory: directory.to_str().unwrap().to_owned(), name: name.to_owned() };
        unpack(self.0.into_inner().unwrap().as_slice(), &landing, false)
    }
}

/// A directory to copy into, beside one that must stay as it is.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("into")).unwrap();
        fs::create_dir(directory.path().join("beside")).unwrap();
        fs::write(directory.path().join("beside/secret"), "secret").unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read_to_string(self.path("beside/secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.path("beside")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 2);
    }
}

#[test]
fn names_do_not_climb_out() {
    for name in ["../beside/new", "x/../../beside/new", "/beside/new", "x/../../../beside/secret"] {
        let machine = Machine::new();
        let error =
            Archive::new().entry(EntryType::Regular, name, "", "evil").unpack(&machine.path("into"), "x");
        // An absolute name has a first component as any other.
        assert!(matches!(error, Err(UnpackError::Outside(_))), "{name}");
        machine.assert_untouched();
    }
}

#[test]
fn links_that_were_copied_lead_nowhere() {
    for target in ["../beside", "/", "../../../../../../.."] {
        let machine = Machine::new();
        let result = Archive::new()
            .entry(EntryType::Directory, "x", "", "")
            .entry(EntryType::Symlink, "x/out", target, "")
            .entry(EntryType::Regular, "x/out/secret", "", "evil")
            .unpack(&machine.path("into"), "x");
        assert!(matches!(result, Err(UnpackError::Write { .. })), "{target}");
        machine.assert_untouched();
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_not_written_through() {
    let machine = Machine::new();
    symlink("../beside/secret", machine.path("into/x")).unwrap();
    Archive::new().entry(EntryType::Regular, "a", "", "new").unpack(&machine.path("into"), "x").unwrap();
    assert!(fs::symlink_metadata(machine.path("into/x")).unwrap().is_file());
    machine.assert_untouched();
}

#[test]
fn a_directory_changed_into_a_link_gives_nothing_its_mode() {
    let machine = Machine::new();
    let before = fs::metadata(machine.path("beside")).unwrap().mode();
    let result = Archive::new()
        .entry(EntryType::Directory, "x", "", "")
        .entry(EntryType::Directory, "x/sub", "", "")
        .entry(EntryType::Symlink, "x/sub", "../../beside", "")
        .unpack(&machine.path("into"), "x");
    assert!(matches!(result, Err(UnpackError::Kind(_))));
    assert_eq!(fs::metadata(machine.path("beside")).unwrap().mode(), before);
    machine.assert_untouched();
}

#[test]
fn hard_links_lead_only_to_what_was_copied() {
    for target in ["../beside/secret", "x/../../beside/secret", "/beside/secret", "x/out/secret"] {
        let machine = Machine::new();
        let result = Archive::new()
            .entry(EntryType::Directory, "x", "", "")
            .entry(EntryType::Symlink, "x/out", "../../beside", "")
            .entry(EntryType::Link, "x/stolen", target, "")
            .unpack(&machine.path("into"), "x");
        assert!(result.is_err(), "{target}");
        assert!(!machine.path("into/x/stolen").exists());
        machine.assert_untouched();
    }
    let machine = Machine::new();
    Archive::new()
        .entry(EntryType::Directory, "a", "", "")
        .entry(EntryType::Regular, "a/one", "", "data")
        .entry(EntryType::Link, "a/two", "a/one", "")
        .unpack(&machine.path("into"), "b")
        .unwrap();
    let inode = |name| fs::metadata(machine.path(name)).unwrap().ino();
    assert_eq!(inode("into/b/one"), inode("into/b/two"));
}

#[test]
fn devices_and_set_user_id_bits_are_left_out() {
    let machine = Machine::new();
    let skipped = Archive::new()
        .entry(EntryType::Directory, "x", "", "")
        .entry(EntryType::Block, "x/sda", "", "")
        .entry(EntryType::Regular, "x/su", "", "#!")
        .unpack(&machine.path("into"), "x")
        .unwrap();
    assert_eq!(skipped, [Path::new("x/sda")]);
    assert_eq!(fs::metadata(machine.path("into/x/su")).unwrap().mode() & 0o7777, 0o755);
    assert!(!machine.path("into/x/sda").exists());
}

#[test]
fn a_file_does_not_replace_a_directory_nor_the_other_way_round() {
    let machine = Machine::new();
    fs::create_dir(machine.path("into/x")).unwrap();
    let file = Archive::new().entry(EntryType::Regular, "a", "", "").unpack(&machine.path("into"), "x");
    assert!(matches!(file, Err(UnpackError::Kind(_))));
    fs::write(machine.path("into/y"), "").unwrap();
    let directory =
        Archive::new().entry(EntryType::Directory, "a", "", "").unpack(&machine.path("into"), "y");
    assert!(matches!(directory, Err(UnpackError::Kind(_))));
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("into/tree/sub")).unwrap();
    fs::write(machine.path("into/tree/sub/file"), "data").unwrap();
    symlink("sub/file", machine.path("into/tree/link")).unwrap();
    let found = look(machine.path("into/tree/.").to_str().unwrap(), false).unwrap();
    for (name, landed) in [(".", "into"), ("copy", "into/copy")] {
        let mut archive = Vec::new();
        pack(&found, &found.source.name, &mut archive).unwrap();
        let landing =
            Landing { directory: machine.path("into").to_str().unwrap().to_owned(), name: name.to_owned() };
        unpack(archive.as_slice(), &landing, false).unwrap();
        let landed = machine.path(landed);
        assert_eq!(fs::read_to_string(landed.join("link")).unwrap(), "data");
        let time = |path: &Path| fs::metadata(path).unwrap().mtime();
        assert_eq!(time(&landed.join("sub")), time(&machine.path("into/tree/sub")));
    }
}

#[test]
fn an_archive_that_breaks_off_is_an_error() {
    let machine = Machine::new();
    let whole = Archive::new().entry(EntryType::Regular, "a", "", "some data").0.into_inner().unwrap();
    let landing =
        Landing { directory: machine.path("into").to_str().unwrap().to_owned(), name: "x".to_owned() };
    let broken = io::BufReader::new(whole.as_slice().take(515));
    assert!(unpack(broken, &landing, false).is_err());
}
