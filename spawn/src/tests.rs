use std::io::{Seek, Write};
use std::time::Duration;

use rustix::process::getpgrp;
use tokio::time::timeout;

use super::*;

/// A shell that runs the script, and what it writes.
fn shell(script: &str) -> (Child, OwnedFd) {
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    stdin.rewind().unwrap();
    let (read, written) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let to = written.as_fd();
    (spawn(Path::new("/bin/sh"), &[stdin.as_fd(), to, to, to], None).unwrap(), read)
}

/// What it writes, and how it ends.
async fn run(script: &str) -> (String, ExitStatus) {
    let (child, output) = shell(script);
    let status = child.wait().await.unwrap();
    (io::read_to_string(File::from(output)).unwrap(), status)
}

#[tokio::test]
async fn it_has_what_it_is_handed_and_nothing_else() {
    let said = "cd /proc/self/fd; for fd in 0 1 2 3; do test -e $fd || echo no $fd; done; echo said >&3";
    assert_eq!(run(said).await.0, "said\n");
    let (environment, _) = run("/usr/bin/env -u PWD -u OLDPWD -u SHLVL -u _; pwd").await;
    assert_eq!(environment, "/\n");
    let (group, _) = run("echo $$; cut -d' ' -f5 /proc/$$/stat").await;
    let ids: Vec<&str> = group.lines().collect();
    assert_eq!(ids[0], ids[1], "it leads no group of its own");
    assert_ne!(ids[1], getpgrp().as_raw_nonzero().to_string());
}

#[tokio::test]
async fn descriptors_change_places() {
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (r, w) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        read.push(r);
        written.push(w);
    }
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(b"for fd in 3 4 5 6 7 8 9; do echo $fd >&$fd; done").unwrap();
    stdin.rewind().unwrap();
    let (even, odd) = (written[0].as_fd(), written[1].as_fd());
    let handed = [stdin.as_fd(), odd, even, odd, even, odd, even, odd, even, odd];
    spawn(Path::new("/bin/sh"), &handed, None).unwrap().wait().await.unwrap();
    drop(written);
    let said: Vec<_> = read.into_iter().map(|pipe| io::read_to_string(File::from(pipe)).unwrap()).collect();
    assert_eq!(said, ["4\n6\n8\n", "3\n5\n7\n9\n"]);
}

#[tokio::test]
async fn its_end_is_told_as_wait_tells_it() {
    assert_eq!(run("exit 3").await.1.code(), Some(3));
    let (_, killed) = run("kill -USR1 $$").await;
    assert_eq!((killed.code(), killed.signal()), (None, Some(libc::SIGUSR1)));
}

#[tokio::test]
async fn what_cannot_be_executed_is_an_error() {
    let start = |program: &str| spawn(Path::new(program), &[], None).unwrap_err().kind();
    assert_eq!(start("/nowhere/at/all"), io::ErrorKind::NotFound);
    assert_eq!(start("/dev/null"), io::ErrorKind::PermissionDenied);
    assert_eq!(start("a\0b"), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn what_is_no_cgroup_is_an_error() {
    let directory = File::open("/").unwrap();
    let started = spawn(Path::new("/bin/true"), &[], Some(directory.as_fd()));
    assert_eq!(started.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

/// Has the kernel answer clone3(2) as profiles do that cannot look into its arguments.
fn refuse_clone3() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

    let rules = [(libc::SYS_clone3, Vec::new())].into();
    let refusal = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, TargetArch::x86_64).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

#[test]
fn where_clone3_is_refused_it_starts_all_the_same() {
    let confined = || {
        refuse_clone3();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let looks = "grep ^SigBlk /proc/self/status; cut -d' ' -f5 /proc/$$/stat; echo $$";
            let (said, status) = run(looks).await;
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines[0], "SigBlk:\t0000000000000000");
            assert_eq!(lines[1], lines[2], "it leads no group of its own");
            assert!(status.success());
            let nowhere = spawn(Path::new("/nowhere/at/all"), &[], None);
            assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
            let directory = tempfile::tempdir().unwrap();
            let no_cgroup = File::open(directory.path()).unwrap();
            let started = spawn(Path::new("/bin/true"), &[], Some(no_cgroup.as_fd()));
            assert_eq!(started.unwrap_err().kind(), io::ErrorKind::NotFound);
            // What is not the kernel's shows what is written to it.
            std::fs::write(directory.path().join("cgroup.procs"), "").unwrap();
            let child = spawn(Path::new("/bin/true"), &[], Some(no_cgroup.as_fd())).unwrap();
            assert!(child.wait().await.unwrap().success());
            assert_eq!(std::fs::read_to_string(directory.path().join("cgroup.procs")).unwrap(), "0");
        });
    };
    std::thread::spawn(confined).join().unwrap();
}

#[tokio::test]
async fn dropped_it_is_killed() {
    let (child, output) = shell("echo begun; exec sleep 1000");
    let mut begun = [0; 6];
    let mut output = File::from(output);
    output.read_exact(&mut begun).unwrap();
    assert!(timeout(Duration::from_millis(10), child.ended()).await.is_err());
    drop(child);
    assert_eq!(output.read(&mut begun).unwrap(), 0);
}
