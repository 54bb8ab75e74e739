//! The C library's allocator, in a process whose threads may open nothing.

/// From now on memory that is freed stays the process's. To give a thread's back, the allocator of glibc reads in /proc
/// whether it may (malloc/arena.c, `check_may_shrink_heap`): a guest that has a device free enough of it would end the VM
/// by a forbidden system call.
pub fn keep_freed_memory() {
    const NEVER: libc::c_int = -1;
    // SAFETY: sets a number of the allocator (mallopt(3)). A C library that does not know it has no such habit.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER) };
}
