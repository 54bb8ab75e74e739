//! The C library's allocator, in a process whose threads may open nothing.

/// Has all threads share one arena, and memory that is freed stay the process's. glibc's allocator opens files otherwise,
/// which would end the VM by a forbidden system call: for the ninth thread it looks in /sys how many processors there are
/// (malloc/arena.c, `arena_get2`), and to give a thread's memory back it reads in /proc whether it may (`check_may_shrink_heap`).
pub fn open_no_files() {
    const NEVER: libc::c_int = -1;
    // SAFETY: sets numbers of the allocator (mallopt(3)). A C library that does not know them has no such habits.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER);
    }
}
