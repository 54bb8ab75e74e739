//! The beginning of a conversation: FUSE_INIT, answered here and not by fuse-backend-rs, which would offer messages of a
//! megabyte.

use fuse_backend_rs::abi::fuse_abi::{FsOptions, KERNEL_MINOR_VERSION, KERNEL_VERSION};
use fuse_backend_rs::api::Vfs;
use fuse_backend_rs::api::filesystem::FileSystem;

use crate::answer::{failure, success};
use crate::gate::{HEADER, word};

/// The most data of a request or an answer, in bytes: `vmm_api::MAX_FUSE_MESSAGE` without what is before it.
pub(crate) const MOST_DATA: u32 = 128 << 10;
const MOST_PAGES: u16 = 32;

/// How many requests the guest may have on their way that nobody waits for, as readahead.
const BACKGROUND: u16 = 64;

/// FUSE_CREATE_SUPP_GROUP: whoever creates something says of which other group it is, where that matters.
const CREATE_SUPP_GROUP: u64 = 1 << 34;
/// FUSE_INIT_EXT: flags have 64 bits.
const INIT_EXT: u64 = 1 << 30;

/// Begins anew: what a guest's kernel knew before is forgotten.
pub(crate) fn answer(unique: u64, request: &[u8], tree: &Vfs) -> Vec<u8> {
    let field = |index: usize| word(request, HEADER + 4 * index);
    let (Some(major), Some(minor), Some(readahead), Some(flags)) = (field(0), field(1), field(2), field(3))
    else {
        return failure(unique, libc::EINVAL);
    };
    if major != KERNEL_VERSION || minor < KERNEL_MINOR_VERSION {
        return failure(unique, libc::EPROTO);
    }
    let mut offered = u64::from(flags);
    if offered & INIT_EXT != 0 {
        offered |= u64::from(field(4).unwrap_or(0)) << 32;
    }
    if tree.initialized() {
        tree.destroy();
    }
    let wanted = match tree.init(FsOptions::from_bits_truncate(offered)) {
        Ok(options) => options - FsOptions::PERFILE_DAX,
        Err(error) => return failure(unique, error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let agreed = offered & (wanted.bits() | INIT_EXT | CREATE_SUPP_GROUP);
    success(unique, &out(agreed, readahead.min(MOST_DATA)))
}

/// struct fuse_init_out.
fn out(flags: u64, readahead: u32) -> Vec<u8> {
    let [low, high] = [flags & u64::from(u32::MAX), flags >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let mut out = Vec::with_capacity(64);
    for word in [KERNEL_VERSION, KERNEL_MINOR_VERSION, readahead, low] {
        out.extend(word.to_ne_bytes());
    }
    // max_background, congestion_threshold.
    out.extend(BACKGROUND.to_ne_bytes());
    out.extend((BACKGROUND / 4 * 3).to_ne_bytes());
    out.extend(MOST_DATA.to_ne_bytes()); // max_write
    out.extend(1u32.to_ne_bytes()); // time_gran: the host's times are in ns.
    out.extend(MOST_PAGES.to_ne_bytes()); // max_pages
    out.extend(0u16.to_ne_bytes()); // map_alignment
    out.extend(high.to_ne_bytes()); // flags2
    out.resize(64, 0);
    out
}
