//! Moves bytes between a file and guest memory without a copy in between.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

/// The kernel takes this many pieces at once (IOV_MAX); a request has fewer descriptors, yet a descriptor
/// may span memory regions.
const MOST_PIECES: usize = 1024;

/// Fills all of `into` from the file.
pub(super) fn read_at(file: &File, into: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    transfer(into, offset, |pieces, count, at| {
        // SAFETY: each piece lies in guest memory, mapped while `into` is borrowed, and the guest may
        // change that memory at any time without harm: no reference to it exists here.
        unsafe { libc::preadv(file.as_raw_fd(), pieces, count, at) }
    })
}

/// Writes all of `from` to the file.
pub(super) fn write_at(file: &File, from: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    transfer(from, offset, |pieces, count, at| {
        // SAFETY: as in `read_at`; the kernel only reads the pieces.
        unsafe { libc::pwritev(file.as_raw_fd(), pieces, count, at) }
    })
}

fn transfer(
    slices: &[VolatileSlice<'_>],
    mut offset: u64,
    call: impl Fn(*const libc::iovec, libc::c_int, libc::off_t) -> isize,
) -> io::Result<()> {
    let mut rest: Vec<VolatileSlice<'_>> = slices.to_vec();
    while !rest.is_empty() {
        let guards: Vec<_> = rest.iter().take(MOST_PIECES).map(|slice| slice.ptr_guard_mut()).collect();
        let pieces: Vec<_> = guards
            .iter()
            .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
            .collect();
        let count = libc::c_int::try_from(pieces.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let at = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let moved = match usize::try_from(call(pieces.as_ptr(), count, at)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(moved) => moved,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            },
        };
        offset += moved as u64;
        rest = skip(&rest, moved)?;
    }
    Ok(())
}

/// What is left of the slices behind the first `moved` bytes.
fn skip<'m>(slices: &[VolatileSlice<'m>], mut moved: usize) -> io::Result<Vec<VolatileSlice<'m>>> {
    let mut rest = Vec::new();
    for slice in slices {
        let done = moved.min(slice.len());
        moved -= done;
        if done < slice.len() {
            rest.push(slice.offset(done).map_err(io::Error::other)?);
        }
    }
    Ok(rest)
}
