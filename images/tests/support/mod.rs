//! Images made on the spot, and what an imported layer holds, read by another's EROFS reader.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test fails so")]

pub mod tarball;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use images::{Image, ImageReference, Limits, Platform, Sha256, Store, StoredImage};
use serde_json::{Value, json};

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

/// A directory with an image layout in it, and a directory of layers beside.
pub struct Fixture {
    pub directory: tempfile::TempDir,
}

/// What `stat` would tell of a file in a layer, its data and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    pub links: u32,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

pub fn sha256(data: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, data);
    format!("sha256:{}", digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

impl Fixture {
    pub fn new() -> Self {
        Fixture { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Stores a blob of the layout; its descriptor.
    pub fn blob(&self, media_type: &str, data: &[u8]) -> Value {
        let digest = sha256(data);
        let blobs = self.path("image/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&digest["sha256:".len()..]), data).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": data.len() })
    }

    /// Stores a manifest and configuration for these layers; the manifest's descriptor.
    pub fn manifest(&self, architecture: &str, layers: &[Value], diff_ids: &[String]) -> Value {
        let configuration = json!({
            "architecture": architecture, "os": "linux", "config": { "Cmd": ["true"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config =
            self.blob("application/vnd.oci.image.config.v1+json", configuration.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
    }

    pub fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::create_dir_all(self.path("image")).unwrap();
        fs::write(self.path("image/index.json"), index.to_string()).unwrap();
    }

    /// Makes the layout of one image with one gzip layer.
    pub fn one_layer(&self, tar: &[u8]) {
        self.layers(&[tar]);
    }

    /// Makes the layout of one image with these layers, the lowest first.
    pub fn layers(&self, tars: &[impl AsRef<[u8]>]) {
        let layers: Vec<Value> = tars.iter().map(|tar| self.blob(GZIP, &gzip(tar.as_ref()))).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar.as_ref())).collect();
        self.index(&[self.manifest("amd64", &layers, &diff_ids)]);
    }

    pub fn store(&self) -> Store {
        Store::open(self.path("store")).unwrap()
    }

    /// Loads an image into the store.
    pub fn load(&self, name: &str, limits: &Limits) -> Result<StoredImage, String> {
        let loaded = self.store().load_unnamed(&self.reference(name), &amd64(), limits, &());
        loaded.map_err(|error| error.to_string())
    }

    /// Imports `image` and merges its layers; the files that are its disk.
    pub fn merge(&self) -> Result<Vec<PathBuf>, String> {
        let image = self.load("image", &Limits::default())?;
        let merged = self.store().disk(&image, &Limits::default());
        merged.map(|merged| merged.files).map_err(|error| error.to_string())
    }

    pub fn open(&self, name: &str) -> Result<Image, String> {
        Image::open(&self.reference(name), &amd64(), &Limits::default()).map_err(|error| error.to_string())
    }

    pub fn reference(&self, name: &str) -> ImageReference {
        ImageReference::parse(self.path(name).to_str().unwrap())
    }

    /// Imports `image`; the layers' files, or the error.
    pub fn import(&self, limits: &Limits) -> Result<Vec<PathBuf>, String> {
        let image = self.load("image", limits)?;
        Ok(image.layers().iter().map(|layer| self.layer(&layer.diff_id)).collect())
    }

    /// A layer's file.
    pub fn layer(&self, diff_id: &Sha256) -> PathBuf {
        self.path("store/layers").join(format!("{}.erofs", diff_id.hex()))
    }

    /// Names in the directory of layers.
    pub fn cached(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("store/layers")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

pub fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// The program of `examples/import`, which `cargo test` builds unless it is told of a single suite.
pub fn import_program() -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/import");
    assert!(path.exists(), "{} is missing: cargo build -p images --example import", path.display());
    path
}

/// Imports one tar as an image's only layer and reads it back.
pub fn round_trip(tar: &[u8]) -> BTreeMap<Vec<u8>, Found> {
    let fixture = Fixture::new();
    fixture.one_layer(tar);
    read_layer(&fixture.import(&Limits::default()).unwrap()[0])
}

/// All files of a layer by their path; the root's is empty.
pub fn read_layer(path: &Path) -> BTreeMap<Vec<u8>, Found> {
    read_image(&fs::read(path).unwrap())
}

/// All files of an EROFS image.
pub fn read_image(data: &[u8]) -> BTreeMap<Vec<u8>, Found> {
    let image = EroFS::new(SliceImage::new(data)).unwrap();
    let root = image.get_inode(image.super_block().root_inode_id()).unwrap();
    let mut files = BTreeMap::from([(Vec::new(), describe(&image, root))]);
    for entry in image.walk_dir("/").unwrap() {
        let entry = entry.unwrap();
        let path = entry.dir_entry.path();
        let path = path.as_bytes().strip_prefix(b"/").unwrap_or(path.as_bytes()).to_vec();
        // A name must be found from its directory too: by binary search, as the kernel does.
        let mut absolute = b"/".to_vec();
        absolute.extend_from_slice(&path);
        image.xattrs(typed_path::UnixPath::new(&absolute)).unwrap();
        files.insert(path, describe(&image, entry.inode));
    }
    files
}

fn describe(image: &EroFS<SliceImage<'_>>, inode: erofs_rs::types::Inode) -> Found {
    use std::os::unix::fs::PermissionsExt;
    let xattrs = image.xattrs_inode(inode).unwrap();
    let (mode, owner, mtime) =
        (inode.permissions().mode() & 0o7777, (inode.uid(), inode.gid()), inode.modified_unix());
    let links = inode.nlink();
    let kind = kind(image, inode);
    Found { kind, mode, owner, mtime, links, xattrs }
}

fn kind(image: &EroFS<SliceImage<'_>>, inode: erofs_rs::types::Inode) -> Kind {
    use rustix::fs::FileType;
    match inode.file_type() {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink(image.read_link_inode(inode).unwrap().into_vec()),
        FileType::CharacterDevice => device(&inode, Kind::CharDevice),
        FileType::BlockDevice => device(&inode, Kind::BlockDevice),
        FileType::Fifo => Kind::Fifo,
        _ => {
            // Of holes by the terabyte, which a few bytes of archive can ask for, the beginning will do.
            let size = inode.data_size().min(1 << 26) as usize;
            let file = image.open_inode_file(inode).unwrap();
            let mut data = vec![0; size];
            let mut filled = 0;
            while filled < size {
                let count = file.read_at(&mut data[filled..], filled as u64).unwrap();
                assert!(count > 0, "the file's data ends early");
                filled += count;
            }
            Kind::File(data)
        }
    }
}

fn device(inode: &erofs_rs::types::Inode, kind: fn(u32, u32) -> Kind) -> Kind {
    let (major, minor) = inode.device().unwrap();
    kind(major, minor)
}
