//! Copies a sparse file: shared blocks where the file system can (reflink), else the data there is.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{SeekFrom, fstat, ftruncate, ioctl_ficlone, seek};
use rustix::io::{Errno, pread, pwrite};

/// Bytes of one read. A sandbox may stand meanwhile, and more would have to be zeroed first.
const PIECE: usize = 1 << 16;

/// Makes an empty file the same as another one, holes and all.
pub(crate) fn sparse_copy(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(fstat(from)?.st_size).map_err(io::Error::other)?;
    ftruncate(to, size)?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Some(start) = next(from, SeekFrom::Data(at))? {
        let end = next(from, SeekFrom::Hole(start))?.unwrap_or(size);
        copy_range(from, to, start, end, &mut buffer)?;
        at = end;
    }
    Ok(())
}

/// A copy of a disk that does not run, under a name that nothing has yet. A crash leaves the whole disk, or none.
pub fn copy_disk(from: &Path, to: &Path) -> io::Result<()> {
    let directory = to.parent().unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(directory)?;
    sparse_copy(&File::open(from)?, file.as_file())?;
    file.persist_noclobber(to)?;
    Ok(())
}

/// `None` beyond the last data.
fn next(file: &impl AsFd, what: SeekFrom) -> io::Result<Option<u64>> {
    match seek(file, what) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn copy_range(from: &impl AsFd, to: &impl AsFd, mut at: u64, end: u64, buffer: &mut [u8]) -> io::Result<()> {
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = pread(from, buffer.get_mut(..most).unwrap_or_default(), at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = buffer.get(..read).unwrap_or_default();
        while !bytes.is_empty() {
            let written = pwrite(to, bytes, at)?;
            bytes = bytes.get(written..).unwrap_or_default();
            at += written as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_reads_the_same_and_takes_no_more_room() {
        let from = tempfile::tempfile().unwrap();
        from.set_len(64 << 20).unwrap();
        from.write_all_at(&[7; 5000], 3 << 20).unwrap();
        from.write_all_at(&[8; 3 << 20], 40 << 20).unwrap();
        let to = tempfile::tempfile().unwrap();
        sparse_copy(&from, &to).unwrap();
        let meta = to.metadata().unwrap();
        assert_eq!(meta.len(), 64 << 20);
        assert!(meta.blocks() * 512 < 4 << 20);
        let (mut one, mut other) = (vec![0; 64 << 20], vec![0; 64 << 20]);
        from.read_exact_at(&mut one, 0).unwrap();
        to.read_exact_at(&mut other, 0).unwrap();
        assert!(one == other);
    }

    #[test]
    fn a_disk_is_copied_under_a_new_name_only() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        std::fs::write(&from, "a disk").unwrap();
        copy_disk(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"a disk");
        assert!(copy_disk(&from, &to).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
