//! Copies guest memory to a file while the guest runs on: a child process, which sees all of it as it was at the moment
//! of fork(2), does the writing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, setpriority_process, waitid,
};
use vm_memory::GuestMemoryRegion;

use crate::memory::{self, Memory};

const PAGE: usize = 4096;

/// The most bytes of one write.
const MOST: usize = 1 << 20;

/// Of the copying process (setpriority(2)): the guest's threads run when they want to, and on a busy host it gets on.
const NICENESS: i32 = 10;

const ZEROES: [u8; PAGE] = [0; PAGE];

/// A copy on its way. Dropped before it is done, it is none.
pub struct MemoryCopy {
    child: OwnedFd,
    done: bool,
}

/// A range of guest memory, and where it goes in the file.
struct Piece {
    memory: *const u8,
    length: usize,
    /// In bytes.
    offset: u64,
}

impl MemoryCopy {
    /// Begins to copy memory to an empty file. What is zero stays a hole. Nothing may write to memory meanwhile; that
    /// is, until this returns.
    pub fn begin(memory: &Memory, file: &OwnedFd) -> io::Result<Self> {
        let pieces = pieces(memory)?;
        // SAFETY: the child does nothing but write and exit, which may be done between fork and exec in a process of
        // several threads (signal-safety(7)). The system call itself, for libc's wrapper runs handlers.
        match unsafe { libc::syscall(libc::SYS_fork) } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // It is the VMM's, and goes with it. Where that cannot be, it goes a little later.
                let _ = set_parent_process_death_signal(Some(Signal::KILL));
                // The guest comes first.
                let _ = setpriority_process(None, NICENESS);
                let status = copy(&pieces, file).err().map_or(0, Errno::raw_os_error);
                // SAFETY: ends this process, and returns nothing.
                unsafe { libc::_exit(status) }
            }
            pid => {
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::Other)?;
                Ok(Self { child: pidfd_open(pid, PidfdFlags::empty())?, done: false })
            }
        }
    }

    /// Waits for the copy's end, which polling for input announces.
    pub fn finish(mut self) -> io::Result<()> {
        self.done = true;
        let status = waitid(WaitId::PidFd(self.child.as_fd()), WaitIdOptions::EXITED)?;
        match status.and_then(|status| status.exit_status()) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("the copying process was killed")),
        }
    }
}

impl Drop for MemoryCopy {
    fn drop(&mut self) {
        if !self.done {
            // It may have ended by itself.
            let _ = pidfd_send_signal(&self.child, Signal::KILL);
            let _ = waitid(WaitId::PidFd(self.child.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

impl AsFd for MemoryCopy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

/// As `memory::ranges` lays them in a file: one behind the other.
fn pieces(memory: &Memory) -> io::Result<Vec<Piece>> {
    let mut offset = 0;
    let mut pieces = Vec::new();
    for region in memory::ram(memory) {
        let length = usize::try_from(region.len()).map_err(io::Error::other)?;
        pieces.push(Piece { memory: region.as_ptr(), length, offset });
        offset += region.len();
    }
    Ok(pieces)
}

fn copy(pieces: &[Piece], file: &OwnedFd) -> Result<(), Errno> {
    for Piece { memory, length, offset } in pieces {
        // SAFETY: the region is mapped for as long as the process, which nothing else runs in.
        let bytes = unsafe { std::slice::from_raw_parts(*memory, *length) };
        copy_piece(bytes, file, *offset)?;
    }
    Ok(())
}

fn copy_piece(bytes: &[u8], file: &OwnedFd, start: u64) -> Result<(), Errno> {
    let mut at = 0;
    while at < bytes.len() {
        let run = length_of_run(bytes, at);
        // The last page is written whatever it holds: it gives the file its length.
        let run = if run == 0 && at + PAGE >= bytes.len() { bytes.len() - at } else { run };
        if run == 0 {
            at += PAGE;
            continue;
        }
        write_all(bytes.get(at..at + run).unwrap_or_default(), file, start + at as u64)?;
        at += run;
    }
    Ok(())
}

/// How many bytes from `at` on are pages that are not zero.
fn length_of_run(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    // Compared as a whole, which libc does by as many bytes at a time as the processor can: the copy should be no burden.
    let pages = rest.chunks(PAGE).take(MOST / PAGE).take_while(|page| ZEROES.get(..page.len()) != Some(page));
    pages.map(<[u8]>::len).sum()
}

/// By rustix, whose calls are system calls and no more.
fn write_all(mut bytes: &[u8], file: &OwnedFd, mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use vm_memory::{Bytes, GuestAddress};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn copied(memory: &Memory) -> File {
        let file = tempfile::tempfile().unwrap();
        let copy = MemoryCopy::begin(memory, &file.try_clone().unwrap().into()).unwrap();
        // The guest runs on.
        memory.write_obj(9u8, GuestAddress(5 * MIB)).unwrap();
        copy.finish().unwrap();
        file
    }

    #[test]
    fn the_file_holds_memory_as_it_was_and_holes_for_what_is_zero() {
        let memory = memory::at(&[(0, 8 << 20), (64 * MIB, 4 << 20)]);
        memory.write_obj(7u8, GuestAddress(5 * MIB)).unwrap();
        memory.write_slice(&[3; 3 << 20], GuestAddress(64 * MIB + 5)).unwrap();
        let file = copied(&memory);
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 12 * MIB);
        assert!(metadata.blocks() * 512 < 4 * MIB);
        let byte = |at| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            byte[0]
        };
        assert_eq!([byte(5 * MIB), byte(8 * MIB), byte(8 * MIB + 5), byte(11 * MIB)], [7, 0, 3, 3]);
    }

    #[test]
    fn a_file_that_takes_no_more_is_an_error() {
        let memory = memory::at(&[(0, 1 << 20)]);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let copy = MemoryCopy::begin(&memory, &full.into()).unwrap();
        assert!(copy.finish().is_err());
        let read_only = File::open("/dev/null").unwrap();
        let copy = MemoryCopy::begin(&memory, &read_only.into()).unwrap();
        assert_eq!(copy.finish().unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn one_that_is_dropped_leaves_no_process() {
        let memory = memory::at(&[(0, 256 << 20)]);
        let file = tempfile::tempfile().unwrap();
        drop(MemoryCopy::begin(&memory, &file.into()).unwrap());
    }
}
