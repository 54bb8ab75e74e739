//! The server as a process, in its jail, asked as a guest's kernel asks.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "a test panics where it is wrong")]

mod client;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use client::{Guest, ROOT, longs, op, text, word, words};
use file_server_api::Request;

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
