//! The system calls each kind of thread may make, and why.

use syscall_filter::Argument::{Is, Lacks, Null};
use syscall_filter::{Call, call, not_there, when};
use vmm_api::CONTROL_FD;

const EXECUTABLE: u32 = libc::PROT_EXEC as u32;
const STDERR: u32 = libc::STDERR_FILENO as u32;
const CONTROL: u32 = CONTROL_FD as u32;
/// All there is to an eventfd's message.
const EVENTFD_LENGTH: u32 = 8;

pub(super) const EVERY_THREAD: &[Call] = &[
    // The allocator and threads' stacks; no memory becomes executable.
    call(libc::SYS_brk),
    call(libc::SYS_munmap),
    call(libc::SYS_mremap),
    when(libc::SYS_madvise, &[Is(2, libc::MADV_DONTNEED as u32)]),
    when(libc::SYS_madvise, &[Is(2, MADV_GUARD_INSTALL)]),
    when(libc::SYS_mmap, &[Lacks(2, EXECUTABLE)]),
    when(libc::SYS_mprotect, &[Lacks(2, EXECUTABLE)]),
    // Locks, channels, joining of threads.
    call(libc::SYS_futex),
    call(libc::SYS_sched_yield),
    // Doorbells, interrupts, wake-ups: eventfds all.
    when(libc::SYS_read, &[Is(2, EVENTFD_LENGTH)]),
    when(libc::SYS_write, &[Is(2, EVENTFD_LENGTH)]),
    call(libc::SYS_close),
    // Builds with debug assertions look whether what they close is open.
    when(libc::SYS_fcntl, &[Is(1, libc::F_GETFD as u32)]),
    // Timeouts, where the clock source keeps the vDSO from answering.
    call(libc::SYS_clock_gettime),
    // A signal that interrupts a wait resumes it.
    call(libc::SYS_restart_syscall),
    call(libc::SYS_rt_sigreturn),
    // The end of a thread, and of the process.
    call(libc::SYS_rt_sigprocmask),
    call(libc::SYS_sigaltstack),
    call(libc::SYS_exit),
    call(libc::SYS_exit_group),
    // A panic says why on standard error, then aborts.
    when(libc::SYS_write, &[Is(0, STDERR)]),
    when(libc::SYS_writev, &[Is(0, STDERR)]),
    call(libc::SYS_getpid),
    call(libc::SYS_gettid),
    when(libc::SYS_tgkill, &[Is(2, libc::SIGABRT as u32)]),
    // The report of a forbidden system call; to nowhere but the socket's peer.
    when(libc::SYS_sendto, &[Is(0, CONTROL), Null(4)]),
];

pub(super) const MAIN: &[Call] = &[
    // The control socket, with descriptors in both directions, and the wait for it.
    when(libc::SYS_recvmsg, &[Is(0, CONTROL)]),
    when(libc::SYS_sendmsg, &[Is(0, CONTROL)]),
    call(libc::SYS_poll),
    call(libc::SYS_ppoll),
    // A disk that is added: its file's kind, size and mode, its doorbell, its interrupts.
    call(libc::SYS_fstat),
    when(libc::SYS_newfstatat, &[Is(3, libc::AT_EMPTY_PATH as u32)]),
    when(libc::SYS_statx, &[Is(2, libc::AT_EMPTY_PATH as u32)]),
    call(libc::SYS_lseek),
    when(libc::SYS_fcntl, &[Is(1, libc::F_GETFL as u32)]),
    when(libc::SYS_fcntl, &[Is(1, libc::F_DUPFD_CLOEXEC as u32)]),
    when(libc::SYS_ioctl, &[Is(1, BLKSSZGET)]),
    when(libc::SYS_ioctl, &[Is(1, BLKGETSIZE64)]),
    call(libc::SYS_eventfd2),
    call(libc::SYS_epoll_create1),
    // A network interface: what kind of tap it has, and the timer of its limits.
    when(libc::SYS_ioctl, &[Is(1, TUNGETIFF)]),
    when(libc::SYS_ioctl, &[Is(1, TUNSETVNETHDRSZ)]),
    when(libc::SYS_ioctl, &[Is(1, FIONBIO)]),
    call(libc::SYS_timerfd_create),
    when(libc::SYS_ioctl, &[Is(1, KVM_IRQFD)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_IOEVENTFD)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_SET_GSI_ROUTING)]),
    // Its thread, which takes a filter of its own on top of this one.
    // The flags of clone3 lie in memory, which a filter can't read: libc falls back to clone.
    when(libc::SYS_clone, &[Is(0, THREAD_FLAGS)]),
    not_there(libc::SYS_clone3),
    call(libc::SYS_set_robust_list),
    call(libc::SYS_rseq),
    call(libc::SYS_sched_getaffinity),
    when(libc::SYS_prctl, &[Is(0, libc::PR_SET_NAME as u32)]),
    when(libc::SYS_prctl, &[Is(0, libc::PR_SET_NO_NEW_PRIVS as u32)]),
    when(libc::SYS_seccomp, &[Is(0, libc::SECCOMP_SET_MODE_FILTER)]),
    // A vCPU that is added.
    when(libc::SYS_ioctl, &[Is(1, KVM_CREATE_VCPU)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_SET_CPUID2)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_SET_XCRS)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_SET_MSRS)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_SET_LAPIC)]),
    // What the guest of a VM that went on has written, and the end of the log of it.
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_DIRTY_LOG)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_SET_USER_MEMORY_REGION)]),
    // The state of a VM that is saved, and its files.
    when(libc::SYS_madvise, &[Is(2, libc::MADV_COLLAPSE as u32)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_IRQCHIP)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_CLOCK)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_REGS)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_SREGS)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_MSRS)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_LAPIC)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_CPUID2)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_MP_STATE)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_VCPU_EVENTS)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_DEBUGREGS)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_XSAVE)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_GET_XCRS)]),
    call(libc::SYS_pwrite64),
    // The process that copies a running VM's memory: its start, its end, and what it does.
    call(libc::SYS_fork),
    when(libc::SYS_prctl, &[Is(0, libc::PR_SET_PDEATHSIG as u32)]),
    when(libc::SYS_setpriority, &[Is(0, libc::PRIO_PROCESS), Is(1, OWN)]),
    call(libc::SYS_pidfd_open),
    call(libc::SYS_pidfd_send_signal),
    call(libc::SYS_waitid),
    // Kicks that take the vCPUs out of the guest: see vcpu::RunningVcpus::stop.
    call(libc::SYS_tgkill),
];

pub(super) const VCPU: &[Call] = &[
    when(libc::SYS_ioctl, &[Is(1, KVM_RUN)]),
    // The guest programs a device's MSI-X vectors, or moves its doorbells.
    when(libc::SYS_ioctl, &[Is(1, KVM_IRQFD)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_IOEVENTFD)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_SET_GSI_ROUTING)]),
    call(libc::SYS_eventfd2),
    when(libc::SYS_fcntl, &[Is(1, libc::F_DUPFD_CLOEXEC as u32)]),
];

pub(super) const BALLOON: &[Call] = &[
    // Its doorbells and commands.
    call(libc::SYS_epoll_wait),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_ctl),
    // Free pages: those of memory that is private, which every thread may give back, and those of a file.
    when(libc::SYS_madvise, &[Is(2, libc::MADV_REMOVE as u32)]),
];

pub(super) const BLK: &[Call] = &[
    // Its doorbell and commands.
    call(libc::SYS_epoll_wait),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_ctl),
    // Requests (virtio 1.3 §5.2.6): read, write, flush, discard, write zeroes.
    call(libc::SYS_preadv),
    call(libc::SYS_pwritev),
    call(libc::SYS_fdatasync),
    call(libc::SYS_fallocate),
];

pub(super) const FS: &[Call] = &[
    // Its doorbells and commands, and the file server's socket.
    call(libc::SYS_epoll_wait),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_ctl),
    // Messages of FUSE, on a socket that has one peer; no call names an address.
    call(libc::SYS_sendmsg),
    call(libc::SYS_recvmsg),
    when(libc::SYS_recvfrom, &[Null(4)]),
];

pub(super) const MEM: &[Call] = &[
    // Its doorbell and commands. Every thread may give back memory that is private, as the room to grow into is.
    call(libc::SYS_epoll_wait),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_ctl),
];

pub(super) const NET: &[Call] = &[
    // Its tap, doorbells and commands.
    call(libc::SYS_epoll_wait),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_ctl),
    // Frames.
    call(libc::SYS_readv),
    call(libc::SYS_writev),
    // What the tap leaves to the guest, and which of its queues are in use.
    when(libc::SYS_ioctl, &[Is(1, TUNSETOFFLOAD)]),
    when(libc::SYS_ioctl, &[Is(1, TUNSETQUEUE)]),
    // Limits.
    call(libc::SYS_timerfd_settime),
    // What the kernel's vhost-net is told of the rings it serves, and a masked interrupt that it is to raise.
    when(libc::SYS_ioctl, &[Is(1, VHOST_GET_FEATURES)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_SET_FEATURES)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_SET_OWNER)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_SET_MEM_TABLE)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_SET_VRING_NUM)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_SET_VRING_ADDR)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_SET_VRING_BASE)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_GET_VRING_BASE)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_SET_VRING_KICK)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_SET_VRING_CALL)]),
    when(libc::SYS_ioctl, &[Is(1, VHOST_NET_SET_BACKEND)]),
    when(libc::SYS_ioctl, &[Is(1, KVM_IRQFD)]),
];

pub(super) const PMEM: &[Call] = &[
    // Its doorbell and commands. The guest reads without asking.
    call(libc::SYS_epoll_wait),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_ctl),
];

pub(super) const RNG: &[Call] = &[
    // Its doorbell and commands.
    call(libc::SYS_epoll_wait),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_ctl),
    call(libc::SYS_getrandom),
];

pub(super) const VSOCK: &[Call] = &[
    // Its sockets, doorbells and commands.
    call(libc::SYS_epoll_wait),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_ctl),
    // A stream's two ends: one served here, one sent to the supervisor.
    when(libc::SYS_socketpair, &[Is(0, libc::AF_UNIX as u32)]),
    // Streams' bytes, and descriptors on the control socket; no call names an address.
    call(libc::SYS_sendmsg),
    call(libc::SYS_recvmsg),
    when(libc::SYS_sendto, &[Null(4)]),
    when(libc::SYS_recvfrom, &[Null(4)]),
    call(libc::SYS_shutdown),
];

/// What newer versions of glibc guard a thread's stack with (linux/mman.h, since Linux 6.13).
const MADV_GUARD_INSTALL: u32 = 102;

/// Of setpriority(2): who calls.
const OWN: u32 = 0;

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

// linux/kvm.h
const KVM_CREATE_VCPU: u32 = 0xae41;
const KVM_RUN: u32 = 0xae80;
const KVM_SET_MSRS: u32 = 0x4008_ae89;
const KVM_SET_LAPIC: u32 = 0x4400_ae8f;
const KVM_SET_CPUID2: u32 = 0x4008_ae90;
const KVM_SET_XCRS: u32 = 0x4188_aea7;
const KVM_SET_GSI_ROUTING: u32 = 0x4008_ae6a;
const KVM_GET_DIRTY_LOG: u32 = 0x4010_ae42;
const KVM_SET_USER_MEMORY_REGION: u32 = 0x4020_ae46;
const KVM_GET_CLOCK: u32 = 0x8030_ae7c;
const KVM_GET_REGS: u32 = 0x8090_ae81;
const KVM_GET_SREGS: u32 = 0x8138_ae83;
const KVM_GET_LAPIC: u32 = 0x8400_ae8e;
const KVM_GET_MP_STATE: u32 = 0x8004_ae98;
const KVM_GET_VCPU_EVENTS: u32 = 0x8040_ae9f;
const KVM_GET_DEBUGREGS: u32 = 0x8080_aea1;
const KVM_GET_XSAVE: u32 = 0x9000_aea4;
const KVM_GET_XCRS: u32 = 0x8188_aea6;
const KVM_GET_MSRS: u32 = 0xc008_ae88;
const KVM_GET_CPUID2: u32 = 0xc008_ae91;
const KVM_GET_IRQCHIP: u32 = 0xc208_ae62;
const KVM_IRQFD: u32 = 0x4020_ae76;
const KVM_IOEVENTFD: u32 = 0x4040_ae79;

// linux/fs.h
const BLKSSZGET: u32 = 0x1268;
const BLKGETSIZE64: u32 = 0x8008_1272;

// asm-generic/ioctls.h
const FIONBIO: u32 = 0x5421;

// linux/if_tun.h
const TUNSETOFFLOAD: u32 = 0x4004_54d0;
const TUNGETIFF: u32 = 0x8004_54d2;
const TUNSETVNETHDRSZ: u32 = 0x4004_54d8;
const TUNSETQUEUE: u32 = 0x4004_54d9;

// linux/vhost.h
const VHOST_GET_FEATURES: u32 = 0x8008_af00;
const VHOST_SET_FEATURES: u32 = 0x4008_af00;
const VHOST_SET_OWNER: u32 = 0xaf01;
const VHOST_SET_MEM_TABLE: u32 = 0x4008_af03;
const VHOST_SET_VRING_NUM: u32 = 0x4008_af10;
const VHOST_SET_VRING_ADDR: u32 = 0x4028_af11;
const VHOST_SET_VRING_BASE: u32 = 0x4008_af12;
const VHOST_GET_VRING_BASE: u32 = 0xc008_af12;
const VHOST_SET_VRING_KICK: u32 = 0x4008_af20;
const VHOST_SET_VRING_CALL: u32 = 0x4008_af21;
const VHOST_NET_SET_BACKEND: u32 = 0x4008_af30;
