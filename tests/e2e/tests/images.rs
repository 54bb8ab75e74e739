//! Imported images, mounted by the kernel, against reference unpacks by GNU tar and umoci. Wants root.

#![allow(clippy::expect_used, reason = "a test fails so")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use images::store::Commit;
use images::{ImageReference, Limits, Platform, Store};

/// A tree with some of everything a layer can hold, made in the working directory.
const MAKE_TREE: &str = r#"
    mkdir -p bin dev etc many empty-dir tmp "deep/$(printf 'd%.0s' $(seq 200))/$(printf 'e%.0s' $(seq 200))"
    chmod 1777 tmp
    head -c 300000 /dev/urandom > bin/tool; chmod 4755 bin/tool
    ln bin/tool bin/tool-again; ln bin/tool etc/tool-elsewhere
    ln -s tool bin/link; ln -s "$(printf 'x%.0s' $(seq 4000))" etc/long-link; ln -s /absolute/target etc/absolute
    mknod dev/null c 1 3; mknod dev/disk b 259 70000; mkfifo -m 600 dev/pipe
    for i in $(seq 600); do echo "$i" > "many/a-name-long-enough-that-the-directory-takes-several-blocks-$i"; done
    for name in '!' '#' '-' '...' 'with space' "$(printf '\377\001')"; do echo x > "many/$name"; done
    for size in 0 1 2047 2048 2049 4095 4096 4097 8192 100000; do head -c "$size" /dev/urandom > "etc/size-$size"; done
    truncate -s 300M sparse; for at in 0 1000000 200000000; do printf data | dd of=sparse bs=1 seek=$at conv=notrunc status=none; done
    truncate -s 1T all-hole
    echo owned > etc/owned; chown 70000:4000000000 etc/owned
    echo old > etc/old; touch -d '1950-06-01 12:00:00.25 UTC' etc/old
    echo epoch > etc/epoch; touch -d @0 etc/epoch
    echo late > etc/late; touch -d '2400-01-01 00:00:00.123456789 UTC' etc/late
    echo x > etc/xattrs; setfattr -n user.lines -v "$(printf 'a\nb=c\n')" etc/xattrs; setfattr -n trusted.t -v 0x000aff etc/xattrs
    setfattr -n user.big -v "$(printf 'v%.0s' $(seq 5000))" etc/xattrs
    echo cap > bin/capable; setcap cap_net_raw,cap_net_bind_service+ep bin/capable
    echo acl > etc/acl; setfacl -m u:1234:rw etc/acl; setfacl -d -m g:77:rx empty-dir
    touch -h -d '2020-02-02 02:02:02.5 UTC' bin/link; touch -d '2021-01-01 01:01:01 UTC' empty-dir deep
"#;

const TAR: &str = "tar --numeric-owner --xattrs --xattrs-include=*";

#[test]
fn a_layer_equals_what_tar_unpacks() {
    let work = Work::new();
    work.run("mkdir tree && cd tree", MAKE_TREE);
    // Without sparse headers, a file of holes would fill the machine.
    let without_holes = "--format=posix --exclude=./sparse --exclude=./all-hole";
    let sparse =
        ["1.0", "0.1", "0.0"].map(|version| format!("--format=posix --sparse --sparse-version={version}"));
    for options in [without_holes].into_iter().chain(sparse.iter().map(String::as_str)) {
        work.run("rm -rf reference layer.tar cache && mkdir reference", "");
        work.run(&format!("{TAR} {options} -C tree -cf layer.tar ."), "");
        check_against_tar(&work);
    }
}

#[test]
fn gnu_tars_own_format_equals_what_tar_unpacks() {
    let work = Work::new();
    work.run("mkdir tree && cd tree", MAKE_TREE);
    // This format has no attributes, no fractions of a second and no ids beyond 21 bits in octal: base-256 then.
    work.run("mkdir reference && tar --numeric-owner --format=gnu --sparse -C tree -cf layer.tar .", "");
    check_against_tar(&work);
}

fn check_against_tar(work: &Work) {
    work.run(&format!("{TAR} --same-permissions --same-owner -C reference -xf layer.tar"), "");
    work.docker_archive(&["layer.tar"]);
    let mount = work.mount(&work.import("image.tar").expect("import"));
    assert_same_trees(&work.path("reference"), &mount);
}

#[test]
fn stacked_layers_equal_what_umoci_unpacks() {
    let work = Work::new();
    work.run(
        "mkdir lower upper",
        r#"
        (cd lower && mkdir -p keep gone opaque/inner replaced dir-to-file && echo 1 > keep/a && echo 2 > keep/b &&
            echo 3 > gone/x && echo 4 > opaque/old && echo 5 > opaque/inner/old && echo 6 > replaced/old &&
            echo 7 > file-to-dir && echo 8 > dir-to-file/x)
        (cd upper && mkdir -p keep opaque file-to-dir && : > keep/.wh.b && : > .wh.gone && echo new > opaque/new &&
            : > opaque/.wh..wh..opq && echo 9 > file-to-dir/x && echo 10 > dir-to-file)
        tar -C lower -cf lower.tar . && tar -C upper -cf upper.tar .
        "#,
    );
    check_against_umoci(&work, &["lower.tar", "upper.tar"]);
}

#[test]
fn directories_left_out_of_a_layer_keep_what_is_below() {
    let work = Work::new();
    work.run(
        "mkdir -p lower/tmp/deep upper/tmp/deep",
        r#"
        chmod 1777 lower/tmp; chmod 700 lower/tmp/deep; chown 7:8 lower/tmp/deep; setfattr -n user.a -v 1 lower/tmp
        touch -d '2021-01-01 01:01:01 UTC' lower/tmp/deep lower/tmp; echo new > upper/tmp/deep/file
        tar --xattrs --format=posix -C lower -cf lower.tar . && tar -C upper -cf upper.tar tmp/deep/file
        "#,
    );
    check_against_umoci(&work, &["lower.tar", "upper.tar"]);
}

#[test]
fn a_debian_image_equals_what_umoci_unpacks() {
    let work = Work::new();
    let images = std::env::var("BULKHEAD_TEST_IMAGES").expect("BULKHEAD_TEST_IMAGES names the test images");
    work.run(&format!("ln -s {images}/debian-python.tar debian.tar"), "");
    check_against_umoci(&work, &["debian.tar"]);
}

fn check_against_umoci(work: &Work, layers: &[&str]) {
    work.docker_archive(layers);
    work.run("skopeo --insecure-policy copy -q docker-archive:image.tar oci:layout:test && umoci unpack --image layout:test reference", "");
    let mount = work.mount(&work.import("layout:test").expect("import"));
    assert_same_trees(&work.path("reference/rootfs"), &mount);
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    let work = Work::new();
    work.run(
        "mkdir tree cache && head -c 4000000 /dev/urandom > tree/file && tar -C tree -cf layer.tar .",
        "",
    );
    work.run("mount -t tmpfs -o size=1m tmpfs cache", "");
    work.docker_archive(&["layer.tar"]);
    let error = work.import("image.tar").expect_err("a full disk").to_string();
    let left = work.output("find cache/blobs cache/layers cache/merged cache/images cache/names -type f");
    let used = work.output("df --output=used cache | tail -n 1");
    work.run("umount cache", "");
    assert!(error.contains("no space left"), "{error}");
    assert_eq!(left, "");
    // KiB: the store's version.
    assert_eq!(used.trim(), "4");
}

#[test]
fn a_commit_on_a_full_disk_leaves_its_base_as_it_was() {
    let work = Work::new();
    work.run(
        "mkdir small large cache && echo small > small/file && head -c 4000000 /dev/urandom > large/file",
        "",
    );
    work.run("tar -C small -cf small.tar . && tar -C large -cf large.tar .", "");
    work.run("mount -t tmpfs -o size=1m tmpfs cache", "");
    work.docker_archive(&["small.tar"]);
    work.import("image.tar").expect("import");
    let store = Store::open(work.path("cache")).expect("the store");
    let base = store.list().expect("list").remove(0);
    let files = || work.output("find cache -type f | grep -v locks/ | sort");
    let before = files();
    let layer = fs::File::open(work.path("large.tar")).expect("the layer");
    let error = store.commit(&base, layer, &Commit::default(), &Limits::default()).expect_err("a full disk");
    let (after, whole) = (files(), store.verify());
    work.run("umount cache", "");
    assert!(error.to_string().contains("no space left"), "{error}");
    assert_eq!(before, after);
    whole.expect("the store is whole");
}

/// A directory to work in; what was mounted in it is gone when it goes.
struct Work {
    directory: tempfile::TempDir,
}

impl Work {
    fn new() -> Self {
        Work { directory: tempfile::tempdir().expect("a directory to work in") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs shell commands that must succeed.
    fn run(&self, first: &str, then: &str) {
        self.output(&format!("{first}\n{then}"));
    }

    fn output(&self, script: &str) -> String {
        let output = Command::new("bash")
            .args(["-euc", script])
            .current_dir(self.directory.path())
            .output()
            .expect("bash runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes `image.tar`, a docker archive of these layers.
    fn docker_archive(&self, layers: &[&str]) {
        let diff_ids: Vec<String> = layers
            .iter()
            .map(|layer| {
                let sum = self.output(&format!("sha256sum < {layer}"));
                format!("sha256:{}", sum.split_whitespace().next().expect("a digest"))
            })
            .collect();
        let configuration = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let manifest =
            serde_json::json!([{ "Config": "config.json", "RepoTags": ["test:latest"], "Layers": layers }]);
        fs::write(self.path("config.json"), configuration.to_string()).expect("write");
        fs::write(self.path("manifest.json"), manifest.to_string()).expect("write");
        self.run(&format!("tar -chf image.tar manifest.json config.json {}", layers.join(" ")), "");
    }

    /// Imports an image and merges its layers; the files that are its disk.
    fn import(&self, image: &str) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
        let reference = ImageReference::parse(self.path(image).to_str().expect("UTF-8"));
        let (store, limits) = (Store::open(self.path("cache"))?, Limits::default());
        let image = store.load_unnamed(&reference, &Platform::default(), &limits, &())?;
        Ok(store.disk(&image, &limits)?.files)
    }

    /// Makes one disk of the files, has fsck.erofs check it, and mounts it.
    fn mount(&self, files: &[PathBuf]) -> PathBuf {
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        self.run("umount image 2>/dev/null || true; mkdir -p image", "");
        self.run(&format!("cat {} > disk", files.join(" ")), "fsck.erofs disk");
        self.run("mount -t erofs -o ro,loop disk image", "");
        self.path("image")
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let unmount = "for at in image cache; do mountpoint -q $at && umount $at; done; true";
        let _ = Command::new("bash").args(["-c", unmount]).current_dir(self.directory.path()).status();
    }
}

/// Compares two trees by all that `stat`, reading and listing attributes tell.
fn assert_same_trees(expected: &Path, actual: &Path) {
    let (expected, actual) = (describe(expected), describe(actual));
    assert!(expected.len() > 1, "the reference is empty");
    let mut differences = Vec::new();
    for name in expected.keys().chain(actual.keys().filter(|name| !expected.contains_key(*name))) {
        let (left, right) = (expected.get(name), actual.get(name));
        if left != right {
            differences.push(format!("{name:?}:\n  expected {left:?}\n  actual   {right:?}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// What a file is, by its path below the root. The root's own times are the mount's and the unpacking tool's.
fn describe(root: &Path) -> BTreeMap<OsString, String> {
    let mut files = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let mut names: Vec<_> = fs::read_dir(root.join(&directory))
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        names.sort();
        for name in names {
            let name = directory.join(name);
            let path = root.join(&name);
            let metadata = path.symlink_metadata().expect("stat");
            let kind = metadata.file_type();
            let first = first_names.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
            let content = if kind.is_symlink() {
                format!("to {:?}", fs::read_link(&path).expect("read link"))
            } else if kind.is_dir() {
                directories.push(name.clone());
                "directory".to_owned()
            } else if kind.is_file() {
                format!(
                    "{} bytes, {} links with {first:?}, sum {:x}",
                    metadata.len(),
                    metadata.nlink(),
                    sum(&path)
                )
            } else if kind.is_char_device() || kind.is_block_device() {
                format!("device {:x}", metadata.rdev())
            } else {
                "pipe".to_owned()
            };
            let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
            let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
            let line = format!("{mode:o} {uid}:{gid} at {seconds}.{nanoseconds:09}, {content}");
            files.insert(name.into_os_string(), line);
        }
    }
    for (name, attributes) in xattrs(root) {
        files.entry(name.into()).or_default().push_str(&attributes);
    }
    files
}

/// A sum over a file's data. Of a hole of a terabyte, only its size counts.
fn sum(path: &Path) -> u64 {
    use std::hash::{Hash, Hasher};
    use std::io::Read;
    let mut hasher = std::hash::DefaultHasher::new();
    let mut file = fs::File::open(path).expect("open");
    if file.metadata().expect("stat").len() > 1 << 35 {
        return 0;
    }
    let mut buffer = vec![0; 1 << 20];
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]).expect("read") {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            return hasher.finish();
        }
        buffer[..filled].hash(&mut hasher);
    }
}

/// All extended attributes below a directory, in hexadecimal.
fn xattrs(root: &Path) -> Vec<(String, String)> {
    let output = Command::new("getfattr")
        .args(["--recursive", "--physical", "--no-dereference", "--dump", "--match=-", "--encoding=hex", "."])
        .current_dir(root)
        .output()
        .expect("getfattr runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let blocks =
        text.split("\n\n").filter_map(|block| block.trim().strip_prefix("# file: ")?.split_once('\n'));
    let blocks = blocks.filter(|(name, _)| *name != ".");
    let mut all: Vec<(String, String)> = blocks
        .map(|(name, lines)| {
            let mut lines: Vec<&str> = lines.lines().collect();
            lines.sort_unstable();
            (name.to_owned(), lines.join(" "))
        })
        .collect();
    all.sort();
    all
}
