//! A guest's kernel and a supervisor for tests: raw FUSE messages on one socket, requests on the other.

#![allow(dead_code, reason = "each suite needs a part")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use file_server_api::{CONTROL_FD, Cache, FUSE_FD, Failure, Reply, Request, Share, fuse_sockets};
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use vmm_api::ControlSocket;

pub(crate) mod op {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const IOCTL: u32 = 39;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
}

pub(crate) const ROOT: u64 = 1;

/// All flags there can be.
const OFFERED: u64 = !0;

pub(crate) struct Guest {
    pub(crate) fuse: OwnedFd,
    pub(crate) control: ControlSocket,
    pub(crate) server: Child,
    unique: u64,
    /// Of the shares that are added.
    pub(crate) cache: Cache,
    /// Of the process that asks.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// A group that is told beside what is created.
    pub(crate) group: Option<u32>,
}

impl Guest {
    /// A server without a share, and a guest that has not said INIT.
    pub(crate) fn start() -> Self {
        let (fuse, fuse_theirs) = fuse_sockets().unwrap();
        let (control, control_theirs) = ControlSocket::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-file-server"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let (control_raw, fuse_raw) = (control_theirs.as_fd().as_raw_fd(), fuse_theirs.as_raw_fd());
        // SAFETY: dup2 and fcntl are async-signal-safe; the descriptors are moved out of each other's way first.
        unsafe {
            command.pre_exec(move || {
                let moved = libc::fcntl(fuse_raw, libc::F_DUPFD_CLOEXEC, 100);
                let control = libc::fcntl(control_raw, libc::F_DUPFD_CLOEXEC, 100);
                if libc::dup2(control, CONTROL_FD) < 0 || libc::dup2(moved, FUSE_FD) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let server = command.spawn().unwrap();
        // A server that does not answer is a failure, and no endless wait.
        let patience = Some(std::time::Duration::from_secs(20));
        sockopt::set_socket_timeout(&fuse, sockopt::Timeout::Recv, patience).unwrap();
        sockopt::set_socket_timeout(control.as_fd(), sockopt::Timeout::Recv, patience).unwrap();
        Self { fuse, control, server, unique: 0, cache: Cache::Shared, uid: 0, gid: 0, group: None }
    }

    /// A guest that has said INIT, and sees a directory of the host as "/share".
    pub(crate) fn with_share(host: &Path) -> Self {
        let mut guest = Self::start();
        guest.init();
        guest.share("share", host, false).unwrap();
        guest
    }

    pub(crate) fn share(&self, name: &str, host: &Path, read_only: bool) -> Result<(), Failure> {
        let descriptor = open(host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let share = Share { name: name.to_owned(), read_only, cache: self.cache };
        self.ask(&Request::AddShare(share), &[descriptor])
    }

    pub(crate) fn ask(&self, request: &Request, descriptors: &[OwnedFd]) -> Result<(), Failure> {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.control.send(request, &descriptors).unwrap();
        self.control.receive::<Reply>().unwrap().0
    }

    /// The fields of the answer.
    pub(crate) fn init(&mut self) -> Vec<u8> {
        let flags = OFFERED;
        let mut body = Vec::new();
        for word in [7, 39, 1 << 20, flags as u32, (flags >> 32) as u32] {
            body.extend(u32::to_ne_bytes(word));
        }
        body.extend([0; 44]);
        self.call(op::INIT, 0, &body).unwrap()
    }

    pub(crate) fn send(&mut self, opcode: u32, inode: u64, body: &[u8]) -> u64 {
        self.unique += 2;
        let extension: Vec<u8> = match self.group {
            Some(group) if [op::CREATE, op::MKDIR, op::MKNOD, op::SYMLINK].contains(&opcode) => {
                [16, 32, 1, group].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
            }
            _ => Vec::new(),
        };
        let padding = if extension.is_empty() { 0 } else { body.len().next_multiple_of(8) - body.len() };
        let length = 40 + body.len() + padding + extension.len();
        let mut request = (length as u32).to_ne_bytes().to_vec();
        request.extend(opcode.to_ne_bytes());
        request.extend(self.unique.to_ne_bytes());
        request.extend(inode.to_ne_bytes());
        for word in [self.uid, self.gid, 1] {
            request.extend(word.to_ne_bytes());
        }
        request.extend(((extension.len() / 8) as u16).to_ne_bytes());
        request.extend([0; 2]);
        request.extend(body);
        request.extend(vec![0; padding]);
        request.extend(extension);
        self.send_raw(&request);
        self.unique
    }

    pub(crate) fn send_raw(&self, packet: &[u8]) {
        assert_eq!(send(&self.fuse, packet, SendFlags::NOSIGNAL).unwrap(), packet.len());
    }

    /// The next answer: its number, and its data or its error.
    pub(crate) fn receive(&self) -> (u64, Result<Vec<u8>, i32>) {
        let mut bytes = vec![0; 1 << 20];
        let (_, length) = recv(&self.fuse, bytes.as_mut_slice(), RecvFlags::empty()).unwrap();
        bytes.truncate(length);
        assert_eq!(word(&bytes, 0) as usize, length);
        let error = -(word(&bytes, 4) as i32);
        let unique = long(&bytes, 8);
        (unique, if error == 0 { Ok(bytes.split_off(16)) } else { Err(error) })
    }

    pub(crate) fn call(&mut self, opcode: u32, inode: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        let unique = self.send(opcode, inode, body);
        loop {
            // As the device, passes over what nobody asked for.
            let (answered, result) = self.receive();
            if answered == unique {
                return result;
            }
            assert!(answered < unique);
        }
    }

    /// The inode at the end of a path, and its attributes.
    pub(crate) fn walk(&mut self, path: &str) -> Result<Entry, i32> {
        let mut entry = Entry { inode: ROOT, valid: (0, 0), attributes: Vec::new() };
        for name in path.split('/').filter(|name| !name.is_empty()) {
            entry = self.lookup(entry.inode, name)?;
        }
        Ok(entry)
    }

    pub(crate) fn lookup(&mut self, parent: u64, name: &str) -> Result<Entry, i32> {
        self.call(op::LOOKUP, parent, &text(name)).map(Entry::of)
    }

    pub(crate) fn open(&mut self, inode: u64, flags: i32) -> Result<u64, i32> {
        let body = words(&[flags as u32, 0]);
        self.call(op::OPEN, inode, &body).map(|answer| long(&answer, 0))
    }

    pub(crate) fn read(&mut self, inode: u64, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, i32> {
        let body = [longs(&[handle, offset]), words(&[size, 0]), longs(&[0]), words(&[0, 0])].concat();
        self.call(op::READ, inode, &body)
    }

    pub(crate) fn write(&mut self, inode: u64, handle: u64, offset: u64, data: &[u8]) -> Result<u32, i32> {
        let size = data.len() as u32;
        let body = [
            &longs(&[handle, offset])[..],
            &words(&[size, 0]),
            &longs(&[0]),
            &words(&[libc::O_RDWR as u32, 0]),
            data,
        ]
        .concat();
        self.call(op::WRITE, inode, &body).map(|answer| word(&answer, 0))
    }

    /// The new file's inode and handle.
    pub(crate) fn create(
        &mut self,
        parent: u64,
        name: &str,
        flags: i32,
        mode: u32,
    ) -> Result<(Entry, u64), i32> {
        let body = [words(&[flags as u32, mode, 0, 0]), text(name)].concat();
        self.call(op::CREATE, parent, &body).map(|answer| {
            let handle = long(&answer, 128);
            (Entry::of(answer), handle)
        })
    }

    /// Names, with their inodes, of a directory.
    pub(crate) fn list(&mut self, inode: u64) -> BTreeMap<String, u64> {
        let handle = long(&self.call(op::OPENDIR, inode, &words(&[0, 0])).unwrap(), 0);
        let mut names = BTreeMap::new();
        let mut offset = 0;
        loop {
            let body = [longs(&[handle, offset]), words(&[4096, 0]), longs(&[0]), words(&[0, 0])].concat();
            let page = self.call(op::READDIR, inode, &body).unwrap();
            if page.is_empty() {
                return names;
            }
            let mut rest = page.as_slice();
            while !rest.is_empty() {
                let length = word(rest, 16) as usize;
                let name = String::from_utf8(rest[24..24 + length].to_vec()).unwrap();
                names.insert(name, long(rest, 0));
                offset = long(rest, 8);
                rest = &rest[(24 + length).next_multiple_of(8).min(rest.len())..];
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// struct fuse_entry_out.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) inode: u64,
    /// For how many seconds name and attributes are good.
    pub(crate) valid: (u64, u64),
    attributes: Vec<u8>,
}

impl Entry {
    fn of(answer: Vec<u8>) -> Self {
        let valid = (long(&answer, 16), long(&answer, 24));
        Self { inode: long(&answer, 0), valid, attributes: answer[40..128].to_vec() }
    }

    pub(crate) fn size(&self) -> u64 {
        long(&self.attributes, 8)
    }

    pub(crate) fn mode(&self) -> u32 {
        word(&self.attributes, 60)
    }

    pub(crate) fn owner(&self) -> (u32, u32) {
        (word(&self.attributes, 68), word(&self.attributes, 72))
    }
}

pub(crate) fn text(name: &str) -> Vec<u8> {
    CString::new(name).unwrap().into_bytes_with_nul()
}

pub(crate) fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

pub(crate) fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
