//! An import that is killed leaves the store whole, wherever it is killed: at each of its system calls, in turn.
//!
//! The program is `examples/import`. It is traced (ptrace(2)), and gets SIGKILL as it is about to enter its n-th
//! system call, for each n until it ends before there is an n-th one. What the store then holds under a published name
//! must be, byte for byte, what an unharmed import makes; and the next import must succeed.
//!
//! This suite is one test alone, because it waits for all children of its process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use images::{Limits, Platform, Store};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use support::tarball::Tarball;
use support::{Fixture, import_program};

/// What `PTRACE_GET_SYSCALL_INFO` calls a system call that is about to begin.
const ENTRY: u8 = 1;

#[test]
fn an_import_killed_at_any_system_call_leaves_the_store_whole() {
    let fixture = Fixture::new();
    let data: Vec<u8> = (0..300_000_u32).map(|index| (index >> 3) as u8).collect();
    let lower = Tarball::default().directory("etc").file("etc/data", &data).finish();
    let upper = Tarball::default().file("etc/.wh.data", b"").file("etc/new", b"new").finish();
    fixture.layers(&[lower, upper]);
    let reference = fixture.path("reference");
    assert!(import(&fixture, &reference, u64::MAX), "an import nobody kills succeeds");
    let whole = published(&reference);
    let mut kinds: Vec<&str> = whole.keys().filter_map(|path| path.split('/').next()).collect();
    kinds.dedup();
    assert_eq!(kinds, ["blobs", "images", "layers", "merged", "version"]);

    let mut published_early = 0;
    let mut calls = 1;
    while !import(&fixture, &fixture.path("store"), calls) {
        let store = fixture.path("store");
        for (path, content) in published(&store) {
            assert!(whole.get(&path) == Some(&content), "killed at call {calls}, {path} is not whole");
            published_early += 1;
        }
        check(&fixture, &store, calls);
        assert!(published(&store) == whole, "killed at call {calls}, the next import makes something else");
        fs::remove_dir_all(&store).unwrap();
        calls += 1;
    }
    // Were the kills all before or behind the import, nothing were proven.
    assert!(calls > 100 && published_early > 100, "{calls} calls, {published_early} files looked at");
}

/// The store can be used: it is what it says, imports and collects.
fn check(fixture: &Fixture, store: &Path, calls: u64) {
    let (limits, platform) = (Limits::default(), Platform::default());
    let store = must(Store::open(store), calls, "it does not open");
    must(store.verify(), calls, "it is not whole");
    must(store.collect(&|_| false, &|_| None), calls, "nothing can be collected");
    must(store.verify(), calls, "a collection takes too much");
    let image = store.load_unnamed(&fixture.reference("image"), &platform, &limits, &());
    must(store.disk(&must(image, calls, "no import succeeds"), &limits), calls, "there is no disk");
    must(store.verify(), calls, "the next import leaves it broken");
}

fn must<T, E: Display>(result: Result<T, E>, calls: u64, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("killed at call {calls}, {what}: {error}"))
}

/// Files of a store that have a name others look for, by their path, and their content. Locks have none.
fn published(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![store.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            match name.as_str() {
                "lock" | "locks" => (),
                unfinished if unfinished.starts_with('.') => (),
                _ if path.is_dir() => directories.push(path),
                _ => {
                    let relative = path.strip_prefix(store).unwrap().to_str().unwrap();
                    files.insert(relative.to_owned(), fs::read(&path).unwrap());
                }
            }
        }
    }
    files
}

/// Imports the fixture's image in a process of its own, killed as it is about to begin its system call of this number;
/// whether it ended before.
fn import(fixture: &Fixture, store: &Path, kill_at: u64) -> bool {
    // The shell waits until it is traced.
    let mut child = Command::new("sh")
        .args(["-c", r#"read -r line; exec "$@""#, "sh"])
        .arg(import_program())
        .args([fixture.path("image"), store.to_owned()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ended = trace(&mut child, kill_at);
    // It has been waited for; this only forgets it.
    drop(child);
    ended
}

fn trace(child: &mut Child, kill_at: u64) -> bool {
    let leader = Pid::from_raw(child.id().try_into().unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(leader, options).unwrap();
    ptrace::interrupt(leader).unwrap();
    let mut go = Some(child.stdin.take().unwrap());
    let (mut calls, mut counts) = (0, false);
    loop {
        let (pid, signal) = match waitpid(None, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::Exited(pid, code) if pid == leader => {
                assert_eq!(code, 0, "the import fails");
                return true;
            }
            WaitStatus::Signaled(pid, signal, _) if pid == leader => {
                assert_eq!(signal, Signal::SIGKILL);
                return false;
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::PtraceEvent(pid, _, event) => {
                counts |= event == nix::libc::PTRACE_EVENT_EXEC;
                (pid, None)
            }
            WaitStatus::PtraceSyscall(pid) => {
                if counts && ptrace::syscall_info(pid).is_ok_and(|info| info.op == ENTRY) {
                    calls += 1;
                    if calls == kill_at {
                        kill(leader, Signal::SIGKILL).unwrap();
                    }
                }
                (pid, None)
            }
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            status => panic!("{status:?}"),
        };
        // A thread that another's end has taken along is no more.
        let _ = ptrace::syscall(pid, signal);
        if let Some(mut go) = go.take() {
            go.write_all(b"\n").unwrap();
        }
    }
}
