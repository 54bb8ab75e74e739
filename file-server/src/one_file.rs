//! A share that is one regular file: a file system whose root is that file.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{Attr, ROOT_ID, stat64};
use fuse_backend_rs::api::filesystem::{
    Context, Entry, FileSystem, GetxattrReply, ListxattrReply, OpenOptions, SetattrValid, ZeroCopyReader,
    ZeroCopyWriter,
};
use fuse_backend_rs::api::{BackendFileSystem, VFS_MAX_INO};
use rustix::fs::{
    AtFlags, FallocateFlags, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fallocate, fstat, ftruncate, getxattr, listxattr, openat, removexattr, seek, setxattr,
    utimensat,
};

pub(crate) struct OneFile {
    /// `O_PATH` or not.
    file: Arc<OwnedFd>,
    /// For how long the guest may believe what it has read.
    timeout: Duration,
    open: Mutex<BTreeMap<u64, Arc<File>>>,
    last_handle: AtomicU64,
}

impl OneFile {
    pub(crate) fn new(file: Arc<OwnedFd>, timeout: Duration) -> Self {
        Self { file, timeout, open: Mutex::default(), last_handle: AtomicU64::new(0) }
    }

    /// A path that leads to the file, also for calls that take no `O_PATH` descriptor.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    fn reopen(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags.difference(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW) | OFlags::CLOEXEC;
        Ok(openat(rustix::fs::CWD, self.path(), flags, Mode::empty())?.into())
    }

    fn opened(&self, handle: u64) -> io::Result<Arc<File>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&handle).cloned().ok_or_else(|| error(libc::EBADF))
    }

    fn attributes(&self) -> io::Result<stat64> {
        let stat = fstat(&*self.file)?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let attributes = Attr {
            ino: ROOT_ID,
            size: number(stat.st_size),
            blocks: number(stat.st_blocks),
            atime: number(stat.st_atime),
            mtime: number(stat.st_mtime),
            ctime: number(stat.st_ctime),
            atimensec: narrow(stat.st_atime_nsec),
            mtimensec: narrow(stat.st_mtime_nsec),
            ctimensec: narrow(stat.st_ctime_nsec),
            mode: stat.st_mode,
            nlink: narrow(stat.st_nlink),
            uid: stat.st_uid,
            gid: stat.st_gid,
            blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
            ..Attr::default()
        };
        Ok(attributes.into())
    }

    fn change(&self, to: &stat64, handle: Option<u64>, valid: SetattrValid) -> io::Result<()> {
        if valid.contains(SetattrValid::MODE) {
            let mode = Mode::from_raw_mode(to.st_mode);
            chmodat(rustix::fs::CWD, self.path(), mode, AtFlags::empty())?;
        }
        let uid = valid.contains(SetattrValid::UID).then(|| Uid::from_raw(to.st_uid));
        let gid = valid.contains(SetattrValid::GID).then(|| Gid::from_raw(to.st_gid));
        if uid.is_some() || gid.is_some() {
            chownat(&*self.file, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if valid.contains(SetattrValid::SIZE) {
            let size = u64::try_from(to.st_size).map_err(|_| error(libc::EINVAL))?;
            match handle {
                Some(handle) => ftruncate(self.opened(handle)?, size)?,
                None => ftruncate(self.reopen(OFlags::RDWR | OFlags::NONBLOCK)?, size)?,
            }
        }
        let time = |set, now, seconds, nanoseconds| match (valid.contains(set), valid.contains(now)) {
            (_, true) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            (true, false) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
            (false, false) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        };
        if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
            let times = Timestamps {
                last_access: time(
                    SetattrValid::ATIME,
                    SetattrValid::ATIME_NOW,
                    to.st_atime,
                    to.st_atime_nsec,
                ),
                last_modification: time(
                    SetattrValid::MTIME,
                    SetattrValid::MTIME_NOW,
                    to.st_mtime,
                    to.st_mtime_nsec,
                ),
            };
            utimensat(rustix::fs::CWD, self.path(), &times, AtFlags::empty())?;
        }
        Ok(())
    }
}

impl BackendFileSystem for OneFile {
    fn mount(&self) -> io::Result<(Entry, u64)> {
        let entry = Entry {
            inode: ROOT_ID,
            generation: 0,
            attr: self.attributes()?,
            attr_flags: 0,
            // It is what `mount` saw that every look-up would tell: the guest is to ask for more.
            attr_timeout: Duration::ZERO,
            entry_timeout: self.timeout,
        };
        Ok((entry, VFS_MAX_INO))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The tree passes on no inode but this file system's, of which there is one.
impl FileSystem for OneFile {
    type Inode = u64;
    type Handle = u64;

    fn destroy(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn lookup(&self, _: &Context, _: u64, _: &CStr) -> io::Result<Entry> {
        Err(error(libc::ENOTDIR))
    }

    fn getattr(&self, _: &Context, inode: u64, _: Option<u64>) -> io::Result<(stat64, Duration)> {
        check(inode)?;
        Ok((self.attributes()?, self.timeout))
    }

    fn setattr(
        &self,
        _: &Context,
        inode: u64,
        to: stat64,
        handle: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        check(inode)?;
        self.change(&to, handle, valid)?;
        Ok((self.attributes()?, self.timeout))
    }

    fn open(
        &self,
        _: &Context,
        inode: u64,
        flags: u32,
        _: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        check(inode)?;
        let file = self.reopen(OFlags::from_bits_retain(flags))?;
        let handle = self.last_handle.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(file));
        Ok((Some(handle), OpenOptions::empty(), None))
    }

    fn opendir(&self, _: &Context, _: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        Err(error(libc::ENOTDIR))
    }

    fn read(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        to: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> io::Result<usize> {
        check(inode)?;
        let size = usize::try_from(size).map_err(|_| error(libc::EINVAL))?;
        to.write_from(&mut self.opened(handle)?.as_fd().try_clone_to_owned().map(File::from)?, size, offset)
    }

    fn write(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        from: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: bool,
        _: u32,
        _: u32,
    ) -> io::Result<usize> {
        check(inode)?;
        let size = usize::try_from(size).map_err(|_| error(libc::EINVAL))?;
        from.read_to(&mut self.opened(handle)?.as_fd().try_clone_to_owned().map(File::from)?, size, offset)
    }

    fn flush(&self, _: &Context, inode: u64, handle: u64, _: u64) -> io::Result<()> {
        check(inode)?;
        self.opened(handle).map(drop)
    }

    fn fsync(&self, _: &Context, inode: u64, data_only: bool, handle: u64) -> io::Result<()> {
        check(inode)?;
        let file = self.opened(handle)?;
        if data_only { file.sync_data() } else { file.sync_all() }
    }

    fn fallocate(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        check(inode)?;
        Ok(fallocate(self.opened(handle)?, FallocateFlags::from_bits_retain(mode), offset, length)?)
    }

    fn release(
        &self,
        _: &Context,
        inode: u64,
        _: u32,
        handle: u64,
        _: bool,
        _: bool,
        _: Option<u64>,
    ) -> io::Result<()> {
        check(inode)?;
        let released = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle);
        released.map(drop).ok_or_else(|| error(libc::EBADF))
    }

    fn setxattr(&self, _: &Context, inode: u64, name: &CStr, value: &[u8], flags: u32) -> io::Result<()> {
        check(inode)?;
        Ok(setxattr(self.path(), name, value, XattrFlags::from_bits_retain(flags))?)
    }

    fn getxattr(&self, _: &Context, inode: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply> {
        check(inode)?;
        let mut value = vec![0; usize::try_from(size).map_err(|_| error(libc::EINVAL))?];
        let length = getxattr(self.path(), name, value.as_mut_slice())?;
        if size == 0 {
            return Ok(GetxattrReply::Count(u32::try_from(length).map_err(|_| error(libc::E2BIG))?));
        }
        value.truncate(length);
        Ok(GetxattrReply::Value(value))
    }

    fn listxattr(&self, _: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        check(inode)?;
        let mut names = vec![0; usize::try_from(size).map_err(|_| error(libc::EINVAL))?];
        let length = listxattr(self.path(), names.as_mut_slice())?;
        if size == 0 {
            return Ok(ListxattrReply::Count(u32::try_from(length).map_err(|_| error(libc::E2BIG))?));
        }
        names.truncate(length);
        Ok(ListxattrReply::Names(names))
    }

    fn removexattr(&self, _: &Context, inode: u64, name: &CStr) -> io::Result<()> {
        check(inode)?;
        Ok(removexattr(self.path(), name)?)
    }

    fn lseek(&self, _: &Context, inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64> {
        check(inode)?;
        let whence = match whence.cast_signed() {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(error(libc::EINVAL)),
        };
        Ok(seek(self.opened(handle)?, whence)?)
    }

    fn access(&self, _: &Context, inode: u64, _: u32) -> io::Result<()> {
        // The guest's kernel has looked at the mode.
        check(inode)
    }
}

fn check(inode: u64) -> io::Result<()> {
    if inode == ROOT_ID { Ok(()) } else { Err(error(libc::EBADF)) }
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
