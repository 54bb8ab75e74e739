//! Each test forks, for a jail is entered by a whole process and never left.

use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use vmm_api::{CONTROL_FD, ControlSocket, EndReason, Event, ExitCode, Message};

use super::seccomp::{self, Thread};
use super::{JailError, close_inherited, enter};

/// How a child ended, what it said, and what it sent on its control socket.
struct Ended {
    status: ExitStatus,
    said: String,
    control: ControlSocket,
}

/// Runs `child` in a process with one thread and a control socket; what it returns is what it said.
fn in_child(child: impl FnOnce() -> String) -> Ended {
    let (control, theirs) = ControlSocket::pair().unwrap();
    let (mut said, say) = UnixStream::pair().unwrap();
    // SAFETY: the child allocates, which glibc's fork allows for, and otherwise only makes system calls.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let theirs = OwnedFd::from(theirs);
            // SAFETY: in the child, descriptor 3 is nobody's concern but this test's.
            unsafe {
                let say = libc::fcntl(say.as_raw_fd(), libc::F_DUPFD, 100);
                libc::dup2(theirs.as_raw_fd(), CONTROL_FD);
                let words = child();
                libc::write(say, words.as_ptr().cast(), words.len());
                libc::_exit(0)
            }
        }
        pid => {
            drop((theirs, say));
            let mut words = String::new();
            said.read_to_string(&mut words).unwrap();
            let mut status = 0;
            // SAFETY: waits for the child just made.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            Ended { status: ExitStatus::from_raw(status), said: words, control }
        }
    }
}

/// Says what there is to see; /proc is gone by then, so it comes in as a descriptor.
fn enter_and_look(look: impl FnOnce(&OwnedFd) -> String) -> Option<String> {
    let ended = in_child(|| {
        let proc_self = OwnedFd::from(fs::File::open("/proc/self").unwrap());
        match enter(None) {
            Ok(()) => look(&proc_self),
            Err(JailError::Namespace(_)) => "no namespaces".to_owned(),
            Err(error) => format!("{error}: {:?}", std::error::Error::source(&error)),
        }
    });
    assert!(ended.status.success(), "{:?}: {}", ended.status, ended.said);
    // Where users may not make namespaces the lab's suite shows the same.
    (ended.said != "no namespaces").then_some(ended.said)
}

#[test]
fn the_root_is_empty_and_takes_nothing() {
    let Some(said) = enter_and_look(|_| {
        let entries: Vec<_> = fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let parent: Vec<_> = fs::read_dir("/../..").unwrap().collect();
        let made = fs::write("/file", "").unwrap_err().raw_os_error();
        format!("{} {} {:?}", entries.len(), parent.len(), made)
    }) else {
        return;
    };
    assert_eq!(said, format!("0 0 Some({})", libc::EROFS));
}

#[test]
fn no_capability_is_left_and_none_can_come_back() {
    let Some(said) = enter_and_look(status) else { return };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&said, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&said, "NoNewPrivs"), "1");
}

#[test]
fn descriptors_beyond_the_control_socket_are_closed() {
    let ended = in_child(|| {
        let kept = fs::File::open("/dev/null").unwrap();
        close_inherited().unwrap();
        let open: Vec<_> = (0..1024)
            // SAFETY: asks whether the descriptor is open, and nothing more.
            .filter(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } != -1)
            .collect();
        std::mem::forget(kept);
        // The test's own way to speak is closed too.
        let said = format!("{open:?}");
        // SAFETY: the control socket, which nothing else here owns.
        let control = ControlSocket::from(unsafe { OwnedFd::from_raw_fd(CONTROL_FD) });
        control.send(&said, &[]).unwrap();
        String::new()
    });
    assert_eq!(ended.control.receive::<String>().unwrap().0, "[0, 1, 2, 3]");
}

/// What a thread of this kind that makes this call leaves behind.
fn ends_at(thread: Thread, forbidden: impl FnOnce() + Send + 'static) -> Ended {
    in_child(move || {
        super::forbidden::report().unwrap();
        std::thread::spawn(move || {
            seccomp::confine(thread).unwrap();
            forbidden();
        })
        .join()
        .unwrap();
        "survived".to_owned()
    })
}

#[track_caller]
fn assert_reported(ended: &Ended, thread: &str, number: i64) {
    assert_eq!(ended.said, "");
    assert_eq!(ended.status.code(), Some(ExitCode::ForbiddenSystemCall as i32), "{:?}", ended.status);
    let (message, _) = ended.control.receive::<Message>().unwrap();
    let Message::Event(Event::Ended(end)) = message else { panic!("{message:?}") };
    let number = i32::try_from(number).unwrap();
    assert_eq!(end.reason, EndReason::ForbiddenSystemCall { thread: thread.to_owned(), number });
}

#[test]
fn a_forbidden_call_ends_the_process_and_is_reported() {
    for (thread, name) in [
        (Thread::Main, "main"),
        (Thread::Vcpu, "vcpu"),
        (Thread::Balloon, "balloon"),
        (Thread::Blk, "blk"),
        (Thread::Fs, "fs"),
        (Thread::Mem, "mem"),
        (Thread::Net, "net"),
        (Thread::Pmem, "pmem"),
        (Thread::Rng, "rng"),
        (Thread::Vsock, "vsock"),
    ] {
        let ended = ends_at(thread, || {
            let _ = fs::File::open("/etc/passwd");
        });
        assert_reported(&ended, name, libc::SYS_openat);
    }
}

#[test]
fn arguments_matter() {
    let ended = ends_at(Thread::Vsock, || {
        let _ = rustix::net::socketpair(
            rustix::net::AddressFamily::NETLINK,
            rustix::net::SocketType::DGRAM,
            rustix::net::SocketFlags::empty(),
            None,
        );
    });
    assert_reported(&ended, "vsock", libc::SYS_socketpair);
    let ended = ends_at(Thread::Vcpu, || {
        let standard_input = std::io::stdin();
        let _ = rustix::io::ioctl_fionbio(&standard_input, false);
    });
    assert_reported(&ended, "vcpu", libc::SYS_ioctl);
    let ended = ends_at(Thread::Rng, || {
        let (flags, protection) = (rustix::mm::MapFlags::PRIVATE, rustix::mm::ProtFlags::EXEC);
        // SAFETY: a new mapping that nothing uses.
        let _ = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), 4096, protection, flags) };
    });
    assert_reported(&ended, "rng", libc::SYS_mmap);
    let ended = ends_at(Thread::Vcpu, || advise(rustix::mm::Advice::LinuxRemove));
    assert_reported(&ended, "vcpu", libc::SYS_madvise);
    let ended = ends_at(Thread::Balloon, || {
        advise(rustix::mm::Advice::LinuxDontNeed);
        advise(rustix::mm::Advice::LinuxRemove);
        advise(rustix::mm::Advice::LinuxHugepage);
    });
    assert_reported(&ended, "balloon", libc::SYS_madvise);
}

fn advise(advice: rustix::mm::Advice) {
    // SAFETY: there are no pages.
    let _ = unsafe { rustix::mm::madvise(std::ptr::null_mut(), 0, advice) };
}

#[test]
fn the_handler_cannot_be_taken_off() {
    let ended = ends_at(Thread::Main, || {
        let _ = super::forbidden::report();
    });
    assert_reported(&ended, "main", libc::SYS_rt_sigaction);
}

#[test]
fn the_main_thread_still_starts_threads_and_these_are_confined_further() {
    let ended = ends_at(Thread::Main, || {
        let disk = std::thread::Builder::new().name("disk".to_owned()).spawn(|| {
            seccomp::confine(Thread::Blk).unwrap();
            let _ = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty());
        });
        disk.unwrap().join().unwrap();
    });
    assert_reported(&ended, "blk", libc::SYS_eventfd2);
}

#[test]
fn a_thread_may_free_what_it_likes() {
    let ended = ends_at(Thread::Rng, || {
        super::open_no_files();
        drop((0..100).map(|_| vec![1u8; 60_000]).collect::<Vec<_>>());
    });
    assert_eq!(ended.said, "survived");
}

#[test]
fn as_many_threads_as_there_are_may_allocate() {
    let ended = ends_at(Thread::Main, || {
        super::open_no_files();
        let all_there = std::sync::Barrier::new(24);
        std::thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    let memory = vec![1u8; 60_000];
                    all_there.wait();
                    drop(memory);
                });
            }
        });
    });
    assert_eq!(ended.said, "survived");
}

#[test]
fn a_panic_ends_by_its_own_signal_and_not_as_a_forbidden_call() {
    let ended = ends_at(Thread::Blk, || std::process::abort());
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT));
}

/// The child's /proc/self/status.
fn status(proc_self: &OwnedFd) -> String {
    let file = rustix::fs::openat(proc_self, "status", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    std::io::read_to_string(fs::File::from(file.unwrap())).unwrap()
}

fn field<'s>(status: &'s str, name: &str) -> &'s str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}
