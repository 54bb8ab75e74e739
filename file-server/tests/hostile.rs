//! The server as a process, in its jail, asked as a guest's kernel never would.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "a test panics where it is wrong")]

mod client;

use std::fs;
use std::os::unix::fs::symlink;

use client::{Guest, ROOT, longs, op, text, words};
use proptest::prelude::*;

#[test]
fn nothing_outside_a_share_is_reached() {
    let host = tempfile::tempdir().unwrap();
    let secret = host.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let shared = host.path().join("shared");
    fs::create_dir_all(shared.join("dir")).unwrap();
    symlink(&secret, shared.join("absolute")).unwrap();
    symlink("../secret", shared.join("relative")).unwrap();
    symlink("..", shared.join("up")).unwrap();
    symlink("/proc/self/fd", shared.join("descriptors")).unwrap();
    let mut guest = Guest::with_share(&shared);
    let share = guest.walk("share").unwrap().inode;
    let dir = guest.walk("share/dir").unwrap().inode;
    for parent in [ROOT, share, dir] {
        for name in ["..", ".", "../secret", "dir/..", "/etc/passwd", "/", ""] {
            guest.lookup(parent, name).unwrap_err();
        }
    }
    for name in ["absolute", "relative", "up", "descriptors"] {
        let link = guest.lookup(share, name).unwrap();
        assert_eq!(link.mode() & libc::S_IFMT, libc::S_IFLNK);
        assert_eq!(guest.open(link.inode, libc::O_RDONLY), Err(libc::EBADF));
        assert_eq!(guest.open(link.inode, libc::O_PATH), Err(libc::EBADF));
        guest.lookup(link.inode, "secret").unwrap_err();
        // Creation through a link, also where O_PATH would have the host forget O_EXCL and O_NOFOLLOW.
        for flags in [libc::O_RDWR, libc::O_PATH, libc::O_PATH | libc::O_DIRECTORY, libc::O_TMPFILE] {
            if let Ok((entry, handle)) = guest.create(share, name, flags, 0o600) {
                assert_eq!(entry.mode() & libc::S_IFMT, libc::S_IFLNK);
                panic!("{name} was opened as {handle}");
            }
        }
        guest.call(op::LINK, share, &[longs(&[link.inode]), text("../out")].concat()).unwrap_err();
        guest.call(op::RENAME, share, &[longs(&[dir]), text(name), text("..")].concat()).unwrap_err();
    }
    for name in ["../made", "..", "a/b", "/made"] {
        guest.create(share, name, libc::O_RDWR, 0o600).unwrap_err();
        guest.call(op::MKDIR, share, &[words(&[0o755, 0]), text(name)].concat()).unwrap_err();
        guest.call(op::UNLINK, share, &text(name)).unwrap_err();
        guest.call(op::RMDIR, share, &text(name)).unwrap_err();
    }
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 2);
}

#[test]
fn what_a_guest_makes_up_is_refused() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    let mut guest = Guest::with_share(host.path());
    let share = guest.walk("share").unwrap().inode;
    let file = guest.walk("share/file").unwrap().inode;
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    for inode in [0, 2, file + 1, file ^ 1 << 60, u64::MAX, share] {
        guest
            .call(
                op::READ,
                inode,
                &[longs(&[handle, 0]), words(&[4096, 0]), longs(&[0]), words(&[0; 2])].concat(),
            )
            .unwrap_err();
        if ![0, 2, share].contains(&inode) {
            guest.open(inode, libc::O_RDONLY).unwrap_err();
            guest.lookup(inode, "file").unwrap_err();
            guest.call(op::GETATTR, inode, &[words(&[0, 0]), longs(&[0])].concat()).unwrap_err();
        }
    }
    for handle in [0, handle + 1, u64::MAX] {
        guest.read(file, handle, 0, 4096).unwrap_err();
        guest.call(op::RELEASE, file, &[longs(&[handle]), words(&[0, 0]), longs(&[0])].concat()).unwrap_err();
    }
    // More than a message holds; nonsense in place of a request; requests cut short; requests there are none of.
    guest.read(file, handle, 0, u32::MAX).unwrap_err();
    guest.send_raw(&[7; 39]);
    let mut other_length = words(&[41, op::GETATTR]);
    other_length.extend(longs(&[99, file, 0, 0]));
    guest.send_raw(&other_length);
    assert_eq!(guest.receive(), (99, Err(libc::EIO)));
    for opcode in 0..60 {
        if ![2, op::INIT, op::BATCH_FORGET, op::DESTROY].contains(&opcode) {
            let result = guest.call(opcode, file, &[]);
            assert!(result.is_err() || [op::READLINK, op::STATFS].contains(&opcode), "{opcode}");
        }
    }
    guest.call(op::IOCTL, file, &[longs(&[handle]), words(&[0; 6])].concat()).unwrap_err();
    // And it goes on.
    assert_eq!(guest.read(file, handle, 0, 4096).unwrap(), b"content");
}

#[test]
fn a_read_only_share_is_not_changed() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "content").unwrap();
    let mut guest = Guest::start();
    guest.init();
    guest.share("share", host.path(), true).unwrap();
    let share = guest.walk("share").unwrap().inode;
    let file = guest.walk("share/file").unwrap().inode;
    for flags in [libc::O_RDWR, libc::O_WRONLY, libc::O_RDONLY | libc::O_TRUNC] {
        assert_eq!(guest.open(file, flags), Err(libc::EROFS));
    }
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(file, handle, 0, 4096).unwrap(), b"content");
    assert_eq!(guest.write(file, handle, 0, b"changed"), Err(libc::EROFS));
    for (opcode, inode, body) in [
        (op::CREATE, share, [words(&[libc::O_RDWR as u32, 0o600, 0, 0]), text("new")].concat()),
        (op::MKDIR, share, [words(&[0o755, 0]), text("new")].concat()),
        (op::MKNOD, share, [words(&[libc::S_IFREG | 0o600, 0, 0, 0]), text("new")].concat()),
        (op::SYMLINK, share, [text("new"), text("target")].concat()),
        (op::LINK, share, [longs(&[file]), text("new")].concat()),
        (op::UNLINK, share, text("file")),
        (op::RMDIR, share, text("file")),
        (op::RENAME, share, [longs(&[share]), text("file"), text("new")].concat()),
        (op::RENAME2, share, [longs(&[share]), words(&[0, 0]), text("file"), text("new")].concat()),
        (op::SETATTR, file, [words(&[1, 0]), vec![0; 80]].concat()),
        (op::SETXATTR, file, [words(&[1, 0]), text("user.a"), vec![1]].concat()),
        (op::REMOVEXATTR, file, text("user.a")),
        (op::FALLOCATE, file, [longs(&[handle, 0, 65536]), words(&[0, 0])].concat()),
    ] {
        assert_eq!(guest.call(opcode, inode, &body), Err(libc::EROFS), "{opcode}");
    }
    assert_eq!(fs::read(host.path().join("file")).unwrap(), b"content");
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);
}

#[test]
fn the_process_keeps_nothing_it_does_not_need() {
    let host = tempfile::tempdir().unwrap();
    let mut guest = Guest::with_share(host.path());
    guest.walk("share").unwrap();
    let own = format!("/proc/{}", guest.server.id());
    let status = fs::read_to_string(format!("{own}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, MKNOD, SETFCAP.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(set), "00000000880000df", "{set}");
    }
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    let names = |at: &str| {
        let mut names: Vec<_> = fs::read_dir(at)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&format!("{own}/root/")), ["proc"]);
    assert_eq!(names(&format!("{own}/root/proc")), ["self"]);
    assert_eq!(names(&format!("{own}/root/proc/self")), ["fd", "mountinfo"]);
    for namespace in ["mnt", "ipc", "uts"] {
        let of = |process: &str| fs::read_link(format!("{process}/ns/{namespace}")).unwrap();
        assert_ne!(of(&own), of("/proc/self"), "{namespace}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn no_message_ends_the_server_or_gets_out(
        messages in prop::collection::vec(
            (0u32..60, 0usize..6, prop::collection::vec((0usize..8, any::<u32>()), 0..24), prop::sample::select(NAMES)),
            1..60,
        ),
    ) {
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("secret"), "secret").unwrap();
        let shared = host.path().join("shared");
        fs::create_dir_all(shared.join("dir")).unwrap();
        fs::write(shared.join("file"), "content").unwrap();
        symlink("../secret", shared.join("link")).unwrap();
        let mut guest = Guest::with_share(&shared);
        let [share, dir, file, link] =
            ["share", "share/dir", "share/file", "share/link"].map(|path| guest.walk(path).unwrap().inode);
        let handle = guest.open(file, libc::O_RDWR).unwrap();
        for (opcode, inode, body, name) in messages {
            // Words that mean something at times, and a name.
            let body = body.into_iter().map(|(kind, word)| match kind {
                0..4 => 0,
                4 => handle as u32,
                5 => word % 64,
                6 => word % 8192,
                _ => word,
            });
            let body = [words(&body.collect::<Vec<_>>()), text(name), text(name)].concat();
            guest.send(opcode, [ROOT, share, dir, file, link, u64::from(opcode)][inode], &body);
        }
        guest.init();
        guest.walk("share").unwrap();
        prop_assert_eq!(fs::read(host.path().join("secret")).unwrap(), b"secret");
        prop_assert_eq!(fs::read_dir(host.path()).unwrap().count(), 2);
        prop_assert!(guest.server.try_wait().unwrap().is_none());
    }
}

const NAMES: &[&str] = &["file", "dir", "link", "new", "..", ".", "../secret", "../new", "/", "", "user.a"];
