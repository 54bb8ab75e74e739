//! The system calls the process may make once it is set up, and why. Any other ends it.

use std::io;

use file_server_api::{CONTROL_FD, FUSE_FD};
use syscall_filter::Argument::{Is, Lacks, Null};
use syscall_filter::{Call, call, not_there, when};

const EXECUTABLE: u32 = libc::PROT_EXEC as u32;
const STDERR: u32 = libc::STDERR_FILENO as u32;
const CONTROL: u32 = CONTROL_FD as u32;
const FUSE: u32 = FUSE_FD as u32;

const ALLOWED: &[Call] = &[
    // The two sockets; no call names an address.
    when(libc::SYS_recvmsg, &[Is(0, CONTROL)]),
    when(libc::SYS_sendmsg, &[Is(0, CONTROL)]),
    when(libc::SYS_recvfrom, &[Is(0, FUSE), Null(4)]),
    when(libc::SYS_sendto, &[Is(0, FUSE), Null(4)]),
    when(libc::SYS_write, &[Is(0, FUSE)]),
    when(libc::SYS_writev, &[Is(0, FUSE)]),
    // Files, by what is open and one name below it, or by their descriptors' paths. Nothing is opened by a handle, and no
    // program started.
    call(libc::SYS_openat),
    call(libc::SYS_close),
    call(libc::SYS_dup),
    when(libc::SYS_fcntl, &[Is(1, libc::F_GETFD as u32)]),
    when(libc::SYS_fcntl, &[Is(1, libc::F_GETFL as u32)]),
    when(libc::SYS_fcntl, &[Is(1, libc::F_SETFL as u32)]),
    when(libc::SYS_fcntl, &[Is(1, libc::F_DUPFD_CLOEXEC as u32)]),
    call(libc::SYS_fstat),
    call(libc::SYS_newfstatat),
    call(libc::SYS_statx),
    call(libc::SYS_fstatfs),
    call(libc::SYS_getdents64),
    call(libc::SYS_lseek),
    call(libc::SYS_pread64),
    call(libc::SYS_preadv),
    call(libc::SYS_pwrite64),
    call(libc::SYS_pwritev),
    call(libc::SYS_fsync),
    call(libc::SYS_fdatasync),
    call(libc::SYS_ftruncate),
    call(libc::SYS_fallocate),
    call(libc::SYS_mkdirat),
    call(libc::SYS_mknodat),
    call(libc::SYS_symlinkat),
    call(libc::SYS_readlinkat),
    call(libc::SYS_linkat),
    call(libc::SYS_unlinkat),
    call(libc::SYS_renameat2),
    call(libc::SYS_fchmod),
    call(libc::SYS_fchmodat),
    call(libc::SYS_fchownat),
    call(libc::SYS_utimensat),
    call(libc::SYS_setxattr),
    call(libc::SYS_getxattr),
    call(libc::SYS_listxattr),
    call(libc::SYS_removexattr),
    call(libc::SYS_umask),
    // A thread creates files as whom the guest says, and with less than all capabilities where they would keep a bit.
    call(libc::SYS_setresuid),
    call(libc::SYS_setresgid),
    call(libc::SYS_setgroups),
    call(libc::SYS_capget),
    call(libc::SYS_capset),
    // The allocator and threads' stacks; no memory becomes executable.
    call(libc::SYS_brk),
    call(libc::SYS_munmap),
    call(libc::SYS_mremap),
    when(libc::SYS_madvise, &[Is(2, libc::MADV_DONTNEED as u32)]),
    when(libc::SYS_madvise, &[Is(2, MADV_GUARD_INSTALL)]),
    when(libc::SYS_mmap, &[Lacks(2, EXECUTABLE)]),
    when(libc::SYS_mprotect, &[Lacks(2, EXECUTABLE)]),
    // Hash tables' seeds.
    call(libc::SYS_getrandom),
    // Threads. The flags of clone3 lie in memory, which a filter can't read: libc falls back to clone.
    when(libc::SYS_clone, &[Is(0, THREAD_FLAGS)]),
    not_there(libc::SYS_clone3),
    when(libc::SYS_rt_sigaction, &[Is(0, SIGSETXID)]),
    call(libc::SYS_set_robust_list),
    call(libc::SYS_rseq),
    call(libc::SYS_sched_getaffinity),
    call(libc::SYS_sched_yield),
    call(libc::SYS_futex),
    when(libc::SYS_prctl, &[Is(0, libc::PR_SET_NAME as u32)]),
    call(libc::SYS_rt_sigprocmask),
    call(libc::SYS_sigaltstack),
    call(libc::SYS_restart_syscall),
    call(libc::SYS_rt_sigreturn),
    call(libc::SYS_exit),
    call(libc::SYS_exit_group),
    // The pseudo file system's times, where the clock source keeps the vDSO from answering.
    call(libc::SYS_clock_gettime),
    // A panic says why on standard error, then aborts.
    when(libc::SYS_write, &[Is(0, STDERR)]),
    when(libc::SYS_writev, &[Is(0, STDERR)]),
    call(libc::SYS_getpid),
    call(libc::SYS_gettid),
    when(libc::SYS_tgkill, &[Is(2, libc::SIGABRT as u32)]),
];

/// What newer versions of glibc guard a thread's stack with (linux/mman.h, since Linux 6.13).
const MADV_GUARD_INSTALL: u32 = 102;

/// Of which glibc has a handler once there is a second thread (glibc, sysdeps/unix/sysv/linux/internal-signals.h).
const SIGSETXID: u32 = 33;

/// What libc starts a thread with (glibc, nptl/pthread_create.c).
const THREAD_FLAGS: u32 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u32;

/// Confines the calling thread and those it starts from now on.
pub(super) fn confine() -> io::Result<()> {
    syscall_filter::confine(ALLOWED.iter()).map_err(io::Error::other)
}
