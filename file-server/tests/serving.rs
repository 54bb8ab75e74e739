//! The server as a process, in its jail, asked as a guest's kernel asks. As root, for shares have files of many owners.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "a test panics where it is wrong")]

mod client;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use client::{Guest, ROOT, long, longs, op, text, word, words};
use file_server_api::{Cache, Request};

#[test]
fn messages_are_agreed_to_be_of_128_kib() {
    let mut guest = Guest::start();
    let answer = guest.init();
    assert_eq!((word(&answer, 0), word(&answer, 8), word(&answer, 20)), (7, 128 << 10, 128 << 10));
    assert_eq!(answer[28..30], 32u16.to_ne_bytes());
    // What a guest writes is on the host when write(2) returns.
    assert_eq!(word(&answer, 12) & 1 << 16, 0);
}

#[test]
fn files_are_read_written_and_listed() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("dir")).unwrap();
    fs::write(host.path().join("dir/file"), "content").unwrap();
    let mut guest = Guest::with_share(host.path());
    assert_eq!(guest.list(ROOT).keys().collect::<Vec<_>>(), ["share"]);
    let share = guest.walk("share").unwrap().inode;
    assert_eq!(guest.list(share).keys().collect::<Vec<_>>(), ["dir"]);
    let file = guest.walk("share/dir/file").unwrap();
    assert_eq!(file.size(), 7);
    let handle = guest.open(file.inode, libc::O_RDWR).unwrap();
    assert_eq!(guest.read(file.inode, handle, 2, 4096).unwrap(), b"ntent");
    assert_eq!(guest.write(file.inode, handle, 7, b"ment").unwrap(), 4);
    assert_eq!(fs::read(host.path().join("dir/file")).unwrap(), b"contentment");
    let (made, handle) = guest.create(share, "new", libc::O_RDWR, 0o640).unwrap();
    let data = vec![7; 128 << 10];
    assert_eq!(guest.write(made.inode, handle, 0, &data).unwrap(), 128 << 10);
    assert!(guest.read(made.inode, handle, 0, 128 << 10).unwrap() == data);
    let metadata = fs::metadata(host.path().join("new")).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o7777), (128 << 10, 0o640));
}

#[test]
fn all_that_is_done_to_files_is_done_on_the_host() {
    let host = tempfile::tempdir().unwrap();
    let at = |name: &str| host.path().join(name);
    let mut guest = Guest::with_share(host.path());
    let share = guest.walk("share").unwrap().inode;
    // mkdir, mknod of a fifo, a socket and a device, symlink, readlink.
    let made = guest.call(op::MKDIR, share, &[words(&[0o750, 0]), text("dir")].concat()).unwrap();
    let dir = long(&made, 0);
    assert_eq!(fs::metadata(at("dir")).unwrap().mode() & 0o7777, 0o750);
    for (name, kind) in [("fifo", libc::S_IFIFO), ("socket", libc::S_IFSOCK), ("device", libc::S_IFCHR)] {
        let body = [words(&[kind | 0o600, 0x0103, 0, 0]), text(name)].concat();
        guest.call(op::MKNOD, share, &body).unwrap();
    }
    assert!(fs::metadata(at("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::metadata(at("socket")).unwrap().file_type().is_socket());
    assert_eq!(fs::metadata(at("device")).unwrap().rdev(), 0x0103);
    guest.call(op::SYMLINK, share, &[text("link"), text("/etc/passwd")].concat()).unwrap();
    let link = guest.walk("share/link").unwrap();
    assert_eq!(link.mode() & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(guest.call(op::READLINK, link.inode, &[]).unwrap(), b"/etc/passwd");
    // create, link, rename over, exchange.
    let (file, handle) = guest.create(share, "file", libc::O_RDWR, 0o4755).unwrap();
    assert_eq!(guest.write(file.inode, handle, 0, b"0123456789").unwrap(), 10);
    guest.call(op::LINK, dir, &[longs(&[file.inode]), text("hard")].concat()).unwrap();
    assert_eq!(fs::metadata(at("file")).unwrap().nlink(), 2);
    guest.call(op::RENAME, share, &[longs(&[dir]), text("file"), text("moved")].concat()).unwrap();
    assert!(at("dir/moved").exists() && !at("file").exists());
    const EXCHANGE: u32 = 2;
    let body = [longs(&[share]), words(&[EXCHANGE, 0]), text("moved"), text("fifo")].concat();
    guest.call(op::RENAME2, dir, &body).unwrap();
    assert!(fs::metadata(at("dir/moved")).unwrap().file_type().is_fifo());
    // Attributes: mode, owner, size, times.
    let valid = |bits: u32, handle: u64, size: u64, mtime: u64, mode: u32, uid: u32, gid: u32| {
        [words(&[bits, 0]), longs(&[handle, size, 0, 0, mtime, 0]), words(&[0, 0, 0, mode, 0, uid, gid, 0])]
            .concat()
    };
    guest.call(op::SETATTR, file.inode, &valid(1 | 2 | 4, 0, 0, 0, 0o100_611, 7, 8)).unwrap();
    guest.call(op::SETATTR, file.inode, &valid(8 | 1 << 6, handle, 5, 0, 0, 0, 0)).unwrap();
    guest.call(op::SETATTR, file.inode, &valid(8, 0, 6, 0, 0, 0, 0)).unwrap();
    guest.call(op::SETATTR, file.inode, &valid(1 << 5, 0, 0, 86_400, 0, 0, 0)).unwrap();
    let metadata = fs::metadata(at("fifo")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o611, 7, 8));
    assert_eq!((metadata.len(), metadata.mtime()), (6, 86_400));
    // Holes, seeking, flushing.
    guest.call(op::FALLOCATE, file.inode, &[longs(&[handle, 0, 65536]), words(&[0, 0])].concat()).unwrap();
    assert_eq!(fs::metadata(at("fifo")).unwrap().len(), 65536);
    let body = [longs(&[handle, 0]), words(&[libc::SEEK_HOLE as u32, 0])].concat();
    assert!(long(&guest.call(op::LSEEK, file.inode, &body).unwrap(), 0) <= 65536);
    guest.call(op::FLUSH, file.inode, &longs(&[handle, 0, 0])).unwrap();
    guest.call(op::FSYNC, file.inode, &[longs(&[handle]), words(&[0, 0])].concat()).unwrap();
    guest.call(op::RELEASE, file.inode, &[longs(&[handle]), words(&[0, 0]), longs(&[0])].concat()).unwrap();
    assert_eq!(guest.read(file.inode, handle, 0, 1), Err(libc::EBADF));
    assert_eq!(guest.call(op::STATFS, share, &[]).unwrap().len(), 80);
    // Away with it.
    guest.call(op::UNLINK, dir, &text("moved")).unwrap();
    guest.call(op::UNLINK, dir, &text("hard")).unwrap();
    guest.call(op::RMDIR, share, &text("dir")).unwrap();
    assert!(!at("dir").exists());
}

#[test]
fn extended_attributes_pass_with_capabilities_and_lists_among_them() {
    let host = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(host.path().join("file"), "").unwrap();
    let mut guest = Guest::with_share(host.path());
    let file = guest.walk("share/file").unwrap().inode;
    // vfs_cap_data of version 2: CAP_NET_BIND_SERVICE, permitted and effective.
    let capability = words(&[0x0200_0001, 1 << 10, 0, 0, 0]);
    // An access control list that user 1000 may read: owner, 1000, group, mask, others.
    let list: Vec<u8> = [
        words(&[2]),
        [(1u16, 6u16, !0u32), (2, 4, 1000), (4, 4, !0), (16, 4, !0), (32, 0, !0)]
            .iter()
            .flat_map(|(tag, mode, id)| {
                [&tag.to_ne_bytes()[..], &mode.to_ne_bytes(), &id.to_ne_bytes()].concat()
            })
            .collect(),
    ]
    .concat();
    for (name, value) in [("security.capability", capability), ("system.posix_acl_access", list)] {
        let size = value.len() as u32;
        let body = [words(&[size, 0]), text(name), value.clone()].concat();
        guest.call(op::SETXATTR, file, &body).unwrap();
        let asked = |size: u32| [words(&[size, 0]), text(name)].concat();
        assert_eq!(word(&guest.call(op::GETXATTR, file, &asked(0)).unwrap(), 0), size);
        assert_eq!(guest.call(op::GETXATTR, file, &asked(size)).unwrap(), value);
        assert_eq!(guest.call(op::GETXATTR, file, &asked(size - 1)), Err(libc::ERANGE));
        assert_eq!(guest.call(op::GETXATTR, file, &asked(u32::MAX)), Err(libc::E2BIG));
        let names = guest.call(op::LISTXATTR, file, &words(&[4096, 0])).unwrap();
        assert!(names.windows(name.len()).any(|window| window == name.as_bytes()));
        guest.call(op::REMOVEXATTR, file, &text(name)).unwrap();
        assert_eq!(guest.call(op::GETXATTR, file, &asked(0)), Err(libc::ENODATA));
    }
}

#[test]
fn what_is_made_belongs_to_whoever_made_it() {
    let host = tempfile::tempdir().unwrap();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o770)).unwrap();
    std::os::unix::fs::chown(host.path(), Some(0), Some(2000)).unwrap();
    let mut guest = Guest::with_share(host.path());
    let share = guest.walk("share").unwrap().inode;
    // Only as a member of the group may user 1000 write here; the guest's kernel says so.
    (guest.uid, guest.gid) = (1000, 1001);
    assert_eq!(guest.create(share, "refused", libc::O_RDWR, 0o644).unwrap_err(), libc::EACCES);
    guest.group = Some(2000);
    assert_eq!(guest.create(share, "file", libc::O_RDWR, 0o644).unwrap().0.owner(), (1000, 1001));
    guest.call(op::MKDIR, share, &[words(&[0o755, 0]), text("dir")].concat()).unwrap();
    guest.call(op::SYMLINK, share, &[text("link"), text("target")].concat()).unwrap();
    for name in ["file", "dir", "link"] {
        let metadata = fs::symlink_metadata(host.path().join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1000, 1001), "{name}");
    }
    // Nothing of it sticks to the thread.
    guest.group = None;
    assert_eq!(guest.create(share, "again", libc::O_RDWR, 0o644).unwrap_err(), libc::EACCES);
    (guest.uid, guest.gid) = (0, 0);
    assert_eq!(guest.create(share, "root", libc::O_RDWR, 0o644).unwrap().0.owner(), (0, 0));
}

#[test]
fn shares_come_and_go_while_the_server_runs() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    let mut guest = Guest::start();
    guest.share("1", host.path(), false).unwrap();
    guest.init();
    assert_eq!(guest.lookup(ROOT, "2").unwrap_err(), libc::ENOENT);
    guest.share("2", host.path(), true).unwrap();
    for path in ["1/file", "2/file"] {
        guest.walk(path).unwrap();
    }
    assert_eq!(guest.list(ROOT).keys().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(guest.share("2", host.path(), true).unwrap_err().message, "there is a share 2 already");
    for name in ["", ".", "..", "a/b", "/", &"x".repeat(256)] {
        assert!(guest.share(name, host.path(), true).unwrap_err().message.starts_with("a share's name is"));
    }
    let refused = guest.share("3", std::path::Path::new("/dev/null"), true).unwrap_err();
    assert_eq!(refused.message, "share 3 is neither a directory nor a regular file");
    let stale = guest.walk("2/file").unwrap().inode;
    guest.ask(&Request::RemoveShare { name: "2".into() }, &[]).unwrap();
    assert_eq!(guest.walk("2").unwrap_err(), libc::ENOENT);
    guest.open(stale, libc::O_RDONLY).unwrap_err();
    let refused = guest.ask(&Request::RemoveShare { name: "2".into() }, &[]).unwrap_err();
    assert_eq!(refused.message, "there is no share 2");
    guest.share("2", host.path(), false).unwrap();
    // No longer read-only.
    let file = guest.walk("2/file").unwrap().inode;
    guest.open(file, libc::O_RDWR).unwrap();
}

#[test]
fn a_file_is_shared_alone() {
    let host = tempfile::tempdir().unwrap();
    let path = host.path().join("hosts");
    fs::write(&path, "127.0.0.1 localhost\n").unwrap();
    fs::write(host.path().join("secret"), "secret").unwrap();
    let mut guest = Guest::start();
    guest.init();
    guest.share("hosts", &path, false).unwrap();
    guest.share("same", &path, true).unwrap();
    let file = guest.walk("hosts").unwrap();
    assert_eq!((file.mode() & libc::S_IFMT, file.size()), (libc::S_IFREG, 20));
    let handle = guest.open(file.inode, libc::O_RDWR | libc::O_APPEND).unwrap();
    assert_eq!(guest.read(file.inode, handle, 4, 5).unwrap(), b"0.0.1");
    assert_eq!(guest.write(file.inode, handle, 20, b"::1 localhost\n").unwrap(), 14);
    assert_eq!(fs::read(&path).unwrap(), b"127.0.0.1 localhost\n::1 localhost\n");
    for name in ["secret", "..", "."] {
        guest.lookup(file.inode, name).unwrap_err();
    }
    guest.create(file.inode, "new", libc::O_RDWR, 0o600).unwrap_err();
    guest.call(op::OPENDIR, file.inode, &words(&[0, 0])).unwrap_err();
    // Mode, owner and size.
    let body = [words(&[1 | 2 | 4 | 8, 0]), longs(&[0, 9, 0, 0, 0, 0]), words(&[0, 0, 0, 0o600, 0, 5, 6, 0])]
        .concat();
    guest.call(op::SETATTR, file.inode, &body).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.len()), (0o600, 5, 6, 9));
    // What the host changes shows.
    fs::File::options().append(true).open(&path).unwrap().write_all(b" more").unwrap();
    let attributes = guest.call(op::GETATTR, file.inode, &[words(&[0, 0]), longs(&[0])].concat()).unwrap();
    assert_eq!(long(&attributes, 24), 14);
    let same = guest.walk("same").unwrap();
    assert_eq!(guest.open(same.inode, libc::O_RDWR), Err(libc::EROFS));
    let handle = guest.open(same.inode, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(same.inode, handle, 0, 4096).unwrap(), b"127.0.0.1 more");
}

#[test]
fn a_guest_that_starts_anew_finds_everything_again() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    let mut guest = Guest::with_share(host.path());
    let old = guest.walk("share/file").unwrap().inode;
    let handle = guest.open(old, libc::O_RDONLY).unwrap();
    guest.call(op::DESTROY, 0, &[]).unwrap();
    guest.init();
    guest.read(old, handle, 0, 4096).unwrap_err();
    let file = guest.walk("share/file").unwrap().inode;
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(file, handle, 0, 4096).unwrap(), b"content");
    // Also without a farewell.
    guest.init();
    guest.walk("share/file").unwrap();
}

#[test]
fn the_server_ends_with_its_supervisor_or_its_guest() {
    let mut guest = Guest::start();
    let (ours, _theirs) = vmm_api::ControlSocket::pair().unwrap();
    guest.control = ours;
    assert!(guest.server.wait().unwrap().success());
    let mut guest = Guest::start();
    let (ours, _theirs) = file_server_api::fuse_sockets().unwrap();
    guest.fuse = ours;
    assert!(guest.server.wait().unwrap().success());
}

#[test]
fn a_guest_that_is_alone_with_its_files_asks_once() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    const KEEP_CACHE: u32 = 2;
    for (cache, valid, kept) in [(Cache::Shared, 1, 0), (Cache::Exclusive, 24 * 60 * 60, KEEP_CACHE)] {
        let mut guest = Guest::start();
        guest.cache = cache;
        guest.init();
        guest.share("share", host.path(), false).unwrap();
        let file = guest.walk("share/file").unwrap();
        assert_eq!(file.valid, (valid, valid));
        let opened = guest.call(op::OPEN, file.inode, &words(&[0, 0])).unwrap();
        assert_eq!(word(&opened, 8), kept);
    }
}

#[test]
fn many_requests_of_many_users_are_carried_out_at_once() {
    let host = tempfile::tempdir().unwrap();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut guest = Guest::with_share(host.path());
    let share = guest.walk("share").unwrap().inode;
    for round in 0..20 {
        let mut asked = std::collections::BTreeSet::new();
        for user in 0..20 {
            (guest.uid, guest.gid) = (user * 1000, user * 100);
            let body = [words(&[0o755, 0]), text(&format!("{round}-{user}"))].concat();
            asked.insert(guest.send(op::MKDIR, share, &body));
        }
        for _ in 0..20 {
            let (answered, result) = guest.receive();
            result.unwrap();
            assert!(asked.remove(&answered));
        }
    }
    for entry in fs::read_dir(host.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let user: u32 = name.split('-').nth(1).unwrap().parse().unwrap();
        let metadata = entry.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (user * 1000, user * 100), "{name}");
    }
}

/// A lease holds up whoever opens the file, until it is given back.
fn lease(file: &fs::File, kind: i32) {
    // SAFETY: plain calls on a descriptor that is open. The signal that tells of somebody waiting is one that is ignored.
    unsafe {
        assert_eq!(libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG), 0);
        assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind), 0);
    }
}

/// linux/fcntl.h
const F_SETSIG: i32 = 10;

#[test]
fn a_request_that_takes_long_holds_up_no_other() {
    let host = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = host.path().join("slow");
    fs::write(&path, "content").unwrap();
    let mut guest = Guest::with_share(host.path());
    let slow = guest.walk("share/slow").unwrap().inode;
    let leased = fs::File::options().write(true).open(&path).unwrap();
    lease(&leased, libc::F_WRLCK);
    let mut waiting: std::collections::BTreeSet<_> =
        (0..5).map(|_| guest.send(op::OPEN, slow, &words(&[libc::O_RDONLY as u32, 0]))).collect();
    for _ in 0..10 {
        guest.walk("share/slow").unwrap();
    }
    lease(&leased, libc::F_UNLCK);
    while !waiting.is_empty() {
        let (answered, result) = guest.receive();
        result.unwrap();
        assert!(waiting.remove(&answered));
    }
}

#[test]
fn a_share_is_looked_up_as_it_is_now() {
    let host = tempfile::tempdir().unwrap();
    let mut guest = Guest::start();
    guest.cache = Cache::Exclusive;
    guest.init();
    guest.share("share", host.path(), false).unwrap();
    for mode in [0o700, 0o1777] {
        fs::set_permissions(host.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(guest.walk("share").unwrap().mode(), libc::S_IFDIR | mode);
    }
    let body = [longs(&[0, 0]), words(&[4096, 0]), longs(&[0]), words(&[0, 0])].concat();
    let listed = guest.call(op::READDIRPLUS, ROOT, &body).unwrap();
    // Not even by its inode: struct fuse_entry_out, then struct fuse_dirent.
    assert_eq!((long(&listed, 0), word(&listed, 128 + 16)), (0, 5));
    assert_eq!(&listed[128 + 24..], b"share\0\0\0");
}

#[test]
fn what_the_root_does_not_have_is_not_taken_for_what_there_is_none_of() {
    let host = tempfile::tempdir().unwrap();
    let mut guest = Guest::with_share(host.path());
    for opcode in [
        op::SETATTR,
        op::SYMLINK,
        op::MKNOD,
        op::MKDIR,
        op::UNLINK,
        op::RENAME,
        op::RENAME2,
        op::LINK,
        op::OPEN,
        op::FSYNC,
        op::SETXATTR,
        op::GETXATTR,
        op::LISTXATTR,
        op::REMOVEXATTR,
        op::FLUSH,
        op::CREATE,
        op::FALLOCATE,
        op::LSEEK,
    ] {
        assert_ne!(guest.call(opcode, ROOT, &[0; 128]).unwrap_err(), libc::ENOSYS, "{opcode}");
    }
}
