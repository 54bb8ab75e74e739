//! Looks at each request before the file system does. fuse-backend-rs takes the guest's kernel at its word where that
//! would never say what a hostile one may; what the file system sees has passed here.

use fuse_backend_rs::abi::fuse_abi::ROOT_ID;
use fuse_backend_rs::api::VfsIndex;
use rustix::thread::set_thread_groups;

use crate::shares::{Shares, index_of};

/// struct fuse_in_header and what is in it (Linux include/uapi/linux/fuse.h).
pub(crate) const HEADER: usize = 40;
const LENGTH_AT: usize = 0;
const OPCODE_AT: usize = 4;
const UNIQUE_AT: usize = 8;
const INODE_AT: usize = 16;
/// In units of [`EXTENSION_UNIT`].
const EXTENSION_AT: usize = 36;
const EXTENSION_UNIT: usize = 8;

/// enum fuse_opcode.
mod op {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const READLINK: u32 = 5;
    pub(super) const SYMLINK: u32 = 6;
    pub(super) const MKNOD: u32 = 8;
    pub(super) const MKDIR: u32 = 9;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RMDIR: u32 = 11;
    pub(super) const RENAME: u32 = 12;
    pub(super) const LINK: u32 = 13;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const SETXATTR: u32 = 21;
    pub(super) const GETXATTR: u32 = 22;
    pub(super) const LISTXATTR: u32 = 23;
    pub(super) const REMOVEXATTR: u32 = 24;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const READDIR: u32 = 28;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const FSYNCDIR: u32 = 30;
    pub(super) const ACCESS: u32 = 34;
    pub(super) const CREATE: u32 = 35;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const FALLOCATE: u32 = 43;
    pub(super) const READDIRPLUS: u32 = 44;
    pub(super) const RENAME2: u32 = 45;
    pub(super) const LSEEK: u32 = 46;
}

/// `flags` of struct fuse_open_in and fuse_create_in.
const OPEN_FLAGS_AT: usize = HEADER;

/// `flags` of struct fuse_read_in and fuse_write_in.
const IO_FLAGS_AT: usize = HEADER + 32;

/// `size` of struct fuse_getxattr_in.
const XATTR_SIZE_AT: usize = HEADER;

/// linux/limits.h
const XATTR_SIZE_MAX: u32 = 65536;

/// The flags of open(2) that go on to the host. Not among them: `O_PATH`, with which a file's creation would follow a
/// symbolic link; `O_TMPFILE`; `O_DIRECT`, for messages' data is not aligned; `FASYNC`.
const OPEN_FLAGS: libc::c_int = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_NOFOLLOW
    | libc::O_DIRECTORY
    | libc::O_NOATIME
    | libc::O_LARGEFILE;

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The file system may see it.
    Pass {
        unique: u64,
        /// Whose member the caller also is, as far as that matters.
        groups: Option<Groups>,
    },
    /// It begins a conversation.
    Init {
        unique: u64,
    },
    /// It looks up a share, or lists them all.
    LookUp {
        unique: u64,
    },
    List {
        unique: u64,
    },
    /// It asks where a file's data or holes are, which fuse-backend-rs's tree of file systems passes on to none.
    Seek {
        unique: u64,
        inode: u64,
        handle: u64,
        offset: u64,
        whence: u32,
    },
    /// It is answered with this error.
    Refuse {
        unique: u64,
        error: i32,
    },
    /// It has no header to answer to.
    Nonsense,
}

/// Supplementary groups of the guest's process, for what is created in its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Groups(u32);

/// While it is there, the calling thread has these groups.
pub(crate) struct Taken;

impl Groups {
    pub(crate) fn take(self) -> Taken {
        // Without the group the host may refuse what the guest's kernel allows; no more is lost.
        let _ = set_thread_groups(&[rustix::thread::Gid::from_raw(self.0)]);
        Taken
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = set_thread_groups(&[]);
    }
}

/// Judges a request, and changes in it what may not stay as it is.
pub(crate) fn look_at(request: &mut [u8], shares: &Shares) -> Verdict {
    let (Some(length), Some(opcode), Some(unique), Some(inode)) = (
        word(request, LENGTH_AT),
        word(request, OPCODE_AT),
        long(request, UNIQUE_AT),
        long(request, INODE_AT),
    ) else {
        return Verdict::Nonsense;
    };
    if request.len() < HEADER {
        return Verdict::Nonsense;
    }
    let refuse = |error| Verdict::Refuse { unique, error };
    if usize::try_from(length) != Ok(request.len()) {
        return refuse(libc::EIO);
    }
    if opcode == op::INIT {
        return Verdict::Init { unique };
    }
    if let Err(error) = check(opcode, request).and_then(|()| check_root(opcode, inode)) {
        return refuse(error);
    }
    if writes(opcode, request) && shares.is_read_only(inode) {
        return refuse(libc::EROFS);
    }
    match opcode {
        op::LOOKUP if inode == ROOT_ID => return Verdict::LookUp { unique },
        op::READDIRPLUS if inode == ROOT_ID => return Verdict::List { unique },
        _ => {}
    }
    if opcode == op::LSEEK {
        let (at, whence) = (|index: usize| long(request, HEADER + 8 * index), word(request, HEADER + 16));
        return match (at(0), at(1), whence) {
            (Some(handle), Some(offset), Some(whence)) => {
                Verdict::Seek { unique, inode, handle, offset, whence }
            }
            _ => refuse(libc::EINVAL),
        };
    }
    Verdict::Pass { unique, groups: creates(opcode).then(|| groups(request)).flatten() }
}

/// Whether the file system may see a request like this; takes the flags it may not see.
fn check(opcode: u32, request: &mut [u8]) -> Result<(), i32> {
    match opcode {
        op::LOOKUP => match request.get(HEADER..) {
            // The way up, which Linux never asks for by name.
            Some([b'.', 0, ..] | [b'.', b'.', 0, ..]) => Err(libc::EINVAL),
            _ => Ok(()),
        },
        op::OPEN | op::OPENDIR | op::CREATE => mask_flags(request, OPEN_FLAGS_AT),
        op::READ | op::WRITE => mask_flags(request, IO_FLAGS_AT),
        op::GETXATTR | op::LISTXATTR => match word(request, XATTR_SIZE_AT) {
            Some(0..=XATTR_SIZE_MAX) => Ok(()),
            _ => Err(libc::E2BIG),
        },
        op::FORGET
        | op::GETATTR
        | op::SETATTR
        | op::READLINK
        | op::SYMLINK
        | op::MKNOD
        | op::MKDIR
        | op::UNLINK
        | op::RMDIR
        | op::RENAME
        | op::LINK
        | op::STATFS
        | op::RELEASE
        | op::FSYNC
        | op::SETXATTR
        | op::REMOVEXATTR
        | op::FLUSH
        | op::READDIR
        | op::RELEASEDIR
        | op::FSYNCDIR
        | op::ACCESS
        | op::DESTROY
        | op::BATCH_FORGET
        | op::FALLOCATE
        | op::READDIRPLUS
        | op::RENAME2
        | op::LSEEK => Ok(()),
        // The guest's kernel does without, or by other means.
        _ => Err(libc::ENOSYS),
    }
}

/// What there is to do with the directory in which the shares are names. To what else it would be asked fuse-backend-rs says
/// ENOSYS, after which Linux asks that of no share either.
fn check_root(opcode: u32, inode: u64) -> Result<(), i32> {
    match opcode {
        _ if index_of(inode) != VfsIndex::MIN => Ok(()),
        op::LOOKUP
        | op::FORGET
        | op::GETATTR
        | op::OPENDIR
        | op::READDIR
        | op::READDIRPLUS
        | op::RELEASEDIR
        | op::STATFS
        | op::ACCESS
        | op::DESTROY
        | op::BATCH_FORGET => Ok(()),
        op::GETXATTR | op::LISTXATTR => Err(libc::EOPNOTSUPP),
        _ => Err(libc::EROFS),
    }
}

fn mask_flags(request: &mut [u8], at: usize) -> Result<(), i32> {
    let flags: &mut [u8; 4] =
        request.get_mut(at..).and_then(|tail| tail.first_chunk_mut()).ok_or(libc::EINVAL)?;
    *flags = (libc::c_int::from_ne_bytes(*flags) & OPEN_FLAGS).to_ne_bytes();
    Ok(())
}

fn writes(opcode: u32, request: &[u8]) -> bool {
    match opcode {
        op::SETATTR
        | op::SYMLINK
        | op::MKNOD
        | op::MKDIR
        | op::UNLINK
        | op::RMDIR
        | op::RENAME
        | op::LINK
        | op::WRITE
        | op::SETXATTR
        | op::REMOVEXATTR
        | op::CREATE
        | op::FALLOCATE
        | op::RENAME2 => true,
        op::OPEN => word(request, OPEN_FLAGS_AT).is_none_or(|flags| {
            let flags = flags.cast_signed();
            flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0
        }),
        _ => false,
    }
}

fn creates(opcode: u32) -> bool {
    matches!(opcode, op::SYMLINK | op::MKNOD | op::MKDIR | op::CREATE)
}

/// The one group of an extension at the request's end (FUSE_CREATE_SUPP_GROUP): struct fuse_ext_header, then struct
/// fuse_supp_groups.
fn groups(request: &[u8]) -> Option<Groups> {
    const EXT_GROUPS: u32 = 32;
    let units = request.get(EXTENSION_AT..)?.first_chunk().copied().map(u16::from_ne_bytes)?;
    let length = usize::from(units) * EXTENSION_UNIT;
    let extension = request.get(request.len().checked_sub(length)?.max(HEADER)..)?;
    let (kind, count, group) = (word(extension, 4)?, word(extension, 8)?, word(extension, 12)?);
    (kind == EXT_GROUPS && count == 1).then_some(Groups(group))
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

pub(crate) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}
