//! What is shared: a tree whose root has nothing but the shares' names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use file_server_api::{Cache, Share};
use fuse_backend_rs::api::filesystem::Context;
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::api::{BackFileSystem, VFS_MAX_INO, Vfs, VfsIndex, VfsOptions};
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};
use rustix::fs::{FileType, fstat};

use crate::one_file::OneFile;

/// What a guest that alone changes a tree may keep is not to be asked again.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

const A_MOMENT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ShareError {
    #[error("a share's name is one component of a path, not {0:?}")]
    Name(String),
    #[error("share {0} comes with one descriptor")]
    Descriptors(String),
    #[error("there is a share {0} already")]
    Exists(String),
    #[error("there is no share {0}")]
    None(String),
    #[error("share {0} is neither a directory nor a regular file")]
    Kind(String),
    #[error("cannot use share {0}")]
    Open(String, #[source] io::Error),
    #[error("cannot show share {0}: {1}")]
    Mount(String, String),
}

pub(crate) struct Shares {
    tree: Arc<Vfs>,
    server: Server<Arc<Vfs>>,
    by_name: Mutex<BTreeMap<String, Held>>,
    /// Shares the guest may not write to.
    read_only: RwLock<BTreeSet<VfsIndex>>,
}

struct Held {
    index: VfsIndex,
    file_system: Arc<BackFileSystem>,
    /// By its number the share's file system finds its root again.
    _root: Arc<OwnedFd>,
}

impl Shares {
    pub(crate) fn new() -> Self {
        // A guest that writes back by itself, or opens nothing, would not see what the host changes.
        let options = VfsOptions {
            no_open: false,
            no_opendir: false,
            no_writeback: true,
            killpriv_v2: true,
            ..VfsOptions::default()
        };
        let mut tree = Vfs::new(options);
        tree.set_remove_pseudo_root();
        let tree = Arc::new(tree);
        Self {
            server: Server::new(Arc::clone(&tree)),
            tree,
            by_name: Mutex::default(),
            read_only: RwLock::default(),
        }
    }

    pub(crate) fn tree(&self) -> &Vfs {
        &self.tree
    }

    pub(crate) fn server(&self) -> &Server<Arc<Vfs>> {
        &self.server
    }

    /// Whether an inode is of a share the guest may not write to.
    pub(crate) fn is_read_only(&self, inode: u64) -> bool {
        self.read_only.read().unwrap_or_else(PoisonError::into_inner).contains(&index_of(inode))
    }

    /// lseek(2) of an open file.
    pub(crate) fn seek(&self, inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let index = index_of(inode);
        let held = by_name.values().find(|held| held.index == index);
        let file_system = held.map(|held| Arc::clone(&held.file_system));
        drop(by_name);
        let file_system = file_system.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        file_system.lseek(&Context::default(), inode & VFS_MAX_INO, handle, offset, whence)
    }

    pub(crate) fn add(&self, share: Share, root: OwnedFd) -> Result<(), ShareError> {
        let Share { name, read_only, cache } = share;
        check_name(&name)?;
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if by_name.contains_key(&name) {
            return Err(ShareError::Exists(name));
        }
        let root = Arc::new(root);
        let open = |error: io::Error| ShareError::Open(name.clone(), error);
        let kind = FileType::from_raw_mode(fstat(&*root).map_err(|error| open(error.into()))?.st_mode);
        let file_system: BackFileSystem = match kind {
            FileType::Directory => Box::new(directory(&root, cache).map_err(open)?),
            FileType::RegularFile => Box::new(OneFile::new(Arc::clone(&root), timeout(cache))),
            _ => return Err(ShareError::Kind(name)),
        };
        // No request gets to it before it is known to be read-only.
        let mut refused = self.read_only.write().unwrap_or_else(PoisonError::into_inner);
        let path = format!("/{name}");
        let mount =
            |error: fuse_backend_rs::api::vfs::VfsError| ShareError::Mount(name.clone(), error.to_string());
        let index = self.tree.mount(file_system, &path).map_err(mount)?;
        let found = self.tree.get_rootfs(&path).map_err(mount)?;
        let (file_system, _) = found.ok_or_else(|| ShareError::None(name.clone()))?;
        if read_only {
            refused.insert(index);
        }
        by_name.insert(name, Held { index, file_system, _root: root });
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), ShareError> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let held = by_name.remove(name).ok_or_else(|| ShareError::None(name.to_owned()))?;
        self.tree
            .umount(&format!("/{name}"))
            .map_err(|error| ShareError::Mount(name.to_owned(), error.to_string()))?;
        self.read_only.write().unwrap_or_else(PoisonError::into_inner).remove(&held.index);
        Ok(())
    }
}

/// Of the share an inode is of; of the root, 0.
pub(crate) fn index_of(inode: u64) -> VfsIndex {
    let [index, ..] = inode.to_be_bytes();
    index
}

fn check_name(name: &str) -> Result<(), ShareError> {
    let good = (1..=255).contains(&name.len())
        && !name.bytes().any(|byte| matches!(byte, b'/' | 0))
        && !matches!(name, "." | "..");
    if good { Ok(()) } else { Err(ShareError::Name(name.to_owned())) }
}

fn timeout(cache: Cache) -> Duration {
    match cache {
        Cache::Exclusive => FOREVER,
        Cache::Shared => A_MOMENT,
    }
}

fn directory(root: &OwnedFd, cache: Cache) -> io::Result<PassthroughFs> {
    let config = Config {
        // The dot: the root itself may not be a symbolic link, and in /proc it is one.
        root_dir: format!("/proc/self/fd/{}/.", root.as_raw_fd()),
        cache_policy: match cache {
            Cache::Exclusive => CachePolicy::Always,
            Cache::Shared => CachePolicy::Auto,
        },
        entry_timeout: timeout(cache),
        attr_timeout: timeout(cache),
        xattr: true,
        // The tree has its root before the guest says INIT.
        do_import: false,
        killpriv_v2: true,
        // Messages' data does not lie as O_DIRECT wants it; the guest's page cache is passed by all the same.
        allow_direct_io: false,
        ..Config::default()
    };
    let file_system = PassthroughFs::new(config)?;
    file_system.import()?;
    Ok(file_system)
}
