//! Docker's default profile, as far as x86_64 and the guest's kernel have the calls.
//!
//! What is not named here fails with EPERM. Held against moby's profile of 2025, which lets go of io_uring.

use super::profile::{Action, Condition, Filter, Operator, Profile, Rule};

/// Calls any process may make.
const ALWAYS: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown clock_adjtime
    clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod
    fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents
    getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority
    getrandom getresgid getresuid getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area
    gettid gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
    io_cancel ioctl io_destroy io_getevents io_pgetevents ioprio_get ioprio_set io_setup io_submit kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listxattr
    listxattrat llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create
    memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal
    pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64
    process_mrelease process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    sendfile sendmmsg sendmsg sendto setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid
    setresgid setresuid setreuid setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat
    statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate
    umask uname unlink unlinkat uretprobe utime utimensat utimes vfork vmsplice wait4 waitid write writev
    arch_prctl
";

/// Calls that go with a capability.
const WITH_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie lsm_get_self_attr
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl
         quotactl_fd setdomainname sethostname setns statmount syslog umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime settimeofday"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
];

/// personality(2): PER_LINUX, PER_LINUX32, each with UNAME26, and the question for the present one.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// clone(2): CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// socket(2): a container has no business with the stream to its supervisor.
const AF_VSOCK: u64 = 40;

const ENOSYS: u32 = 38;

pub(super) fn profile() -> Profile {
    let mut rules = vec![allow(ALWAYS)];
    rules.push(when(allow("socket"), AF_VSOCK, None, Operator::ScmpCmpNe));
    rules.extend(PERSONALITIES.map(|value| when(allow("personality"), value, None, Operator::ScmpCmpEq)));
    rules.extend(
        WITH_CAPABILITY.map(|(capability, calls)| Rule { includes: with(capability), ..allow(calls) }),
    );
    let no_namespaces = when(allow("clone"), NAMESPACE_FLAGS, Some(0), Operator::ScmpCmpMaskedEq);
    rules.push(Rule { excludes: with("CAP_SYS_ADMIN"), ..no_namespaces });
    // Its flags are in memory, where a filter cannot look; the C library falls back to clone.
    let not_there = Rule { action: Action::ScmpActErrno, errno_ret: Some(ENOSYS), ..allow("clone3") };
    rules.push(Rule { excludes: with("CAP_SYS_ADMIN"), ..not_there });
    Profile {
        default_action: Action::ScmpActErrno,
        default_errno_ret: Some(1),
        architectures: Some(vec!["SCMP_ARCH_X86_64".to_owned()]),
        arch_map: None,
        flags: None,
        syscalls: rules,
    }
}

fn allow(calls: &str) -> Rule {
    Rule {
        name: None,
        names: calls.split_whitespace().map(str::to_owned).collect(),
        action: Action::ScmpActAllow,
        errno_ret: None,
        args: Vec::new(),
        includes: Filter::default(),
        excludes: Filter::default(),
    }
}

/// The rule for calls whose first argument compares so.
fn when(rule: Rule, value: u64, value_two: Option<u64>, op: Operator) -> Rule {
    Rule { args: vec![Condition { index: 0, value, value_two: value_two.unwrap_or_default(), op }], ..rule }
}

fn with(capability: &str) -> Filter {
    Filter { caps: vec![capability.to_owned()], ..Filter::default() }
}
