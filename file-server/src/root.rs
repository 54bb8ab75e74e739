//! The tree's root, in which the shares are names, as far as fuse-backend-rs would tell of a share what it was when it was
//! added: looked up here, a share's attributes are what they are now, and listed, they are left out.

use std::ffi::CStr;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{ROOT_ID, stat64};
use fuse_backend_rs::api::Vfs;
use fuse_backend_rs::api::filesystem::{Context, DirEntry, FileSystem};

use crate::answer::{failure, success};
use crate::gate::{HEADER, long, word};

/// struct fuse_entry_out.
const ENTRY_LENGTH: usize = 128;

/// FUSE_LOOKUP.
pub(crate) fn look_up(unique: u64, request: &[u8], tree: &Vfs) -> Vec<u8> {
    let name = request.get(HEADER..).unwrap_or_default();
    let Ok(name) = CStr::from_bytes_until_nul(name) else { return failure(unique, libc::EINVAL) };
    let context = Context::default();
    let found = tree.lookup(&context, ROOT_ID.into(), name).and_then(|entry| {
        let (attributes, timeout) = tree.getattr(&context, entry.inode.into(), None)?;
        Ok(entry_out(entry.inode, entry.entry_timeout, &attributes, timeout))
    });
    match found {
        Ok(entry) => success(unique, &entry),
        Err(error) => failure(unique, error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// FUSE_READDIRPLUS, with entries that say no more than a name and a number.
pub(crate) fn list(unique: u64, request: &[u8], tree: &Vfs) -> Vec<u8> {
    // struct fuse_read_in.
    let (Some(offset), Some(size)) = (long(request, HEADER + 8), word(request, HEADER + 16)) else {
        return failure(unique, libc::EINVAL);
    };
    let room = usize::try_from(size.min(crate::init::MOST_DATA)).unwrap_or(0);
    let mut entries = Vec::new();
    let listed = tree.readdir(&Context::default(), ROOT_ID.into(), 0, size, offset, &mut |entry| {
        let entry = direntplus(&entry);
        if entries.len() + entry.len() > room {
            return Ok(0);
        }
        entries.extend(&entry);
        Ok(entry.len())
    });
    match listed {
        Ok(()) => success(unique, &entries),
        Err(error) => failure(unique, error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// struct fuse_direntplus, without an inode: the guest looks it up when it wants it.
fn direntplus(entry: &DirEntry<'_>) -> Vec<u8> {
    let mut out = vec![0; ENTRY_LENGTH];
    out.extend(entry.ino.to_ne_bytes());
    out.extend(entry.offset.to_ne_bytes());
    out.extend(u32::try_from(entry.name.len()).unwrap_or(0).to_ne_bytes());
    out.extend(entry.type_.to_ne_bytes());
    out.extend(entry.name);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn entry_out(inode: u64, entry_timeout: Duration, attributes: &stat64, timeout: Duration) -> Vec<u8> {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(ENTRY_LENGTH);
    for long in [inode, 0, entry_timeout.as_secs(), timeout.as_secs()] {
        out.extend(long.to_ne_bytes());
    }
    for word in [entry_timeout.subsec_nanos(), timeout.subsec_nanos()] {
        out.extend(word.to_ne_bytes());
    }
    // struct fuse_attr.
    let stat = attributes;
    for long in [inode, number(stat.st_size), number(stat.st_blocks)] {
        out.extend(long.to_ne_bytes());
    }
    for time in [stat.st_atime, stat.st_mtime, stat.st_ctime] {
        out.extend(time.to_ne_bytes());
    }
    for nanoseconds in [stat.st_atime_nsec, stat.st_mtime_nsec, stat.st_ctime_nsec] {
        out.extend(narrow(number(nanoseconds)).to_ne_bytes());
    }
    let words = [stat.st_mode, narrow(stat.st_nlink), stat.st_uid, stat.st_gid, narrow(stat.st_rdev)];
    for word in words.into_iter().chain([narrow(number(stat.st_blksize)), 0]) {
        out.extend(word.to_ne_bytes());
    }
    out
}
