//! How much memory a VM gets for the limit its container was given.

/// Memory of a VM whose container has no limit.
pub const DEFAULT_MEMORY: u64 = 512 << 20;

/// What the guest's kernel and agent keep for themselves, on top of the container's limit.
pub const GUEST_OVERHEAD: u64 = 64 << 20;

/// The least limit a container may have; below it, the kernel runs out before the container starts.
pub const MIN_MEMORY: u64 = 16 << 20;

pub(crate) const PAGE: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error("a memory limit of {0} bytes is below the {least} MiB a container needs to start", least = MIN_MEMORY >> 20)]
    TooSmall(u64),
    #[error("a memory limit of {0} bytes is more than a VM can have")]
    TooLarge(u64),
}

/// The VM's memory in bytes, a multiple of the page size, for a container limited to `limit` bytes.
pub(crate) fn vm_memory(limit: Option<u64>) -> Result<u64, MemoryError> {
    let Some(limit) = limit else { return Ok(DEFAULT_MEMORY) };
    if limit < MIN_MEMORY {
        return Err(MemoryError::TooSmall(limit));
    }
    limit
        .checked_add(GUEST_OVERHEAD)
        .and_then(|memory| memory.checked_next_multiple_of(PAGE))
        .filter(|memory| *memory <= i64::MAX as u64)
        .ok_or(MemoryError::TooLarge(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_becomes_whole_pages_with_room_for_the_guest_itself() {
        assert_eq!(vm_memory(None), Ok(DEFAULT_MEMORY));
        assert_eq!(vm_memory(Some((256 << 20) + 1)), Ok((256 << 20) + GUEST_OVERHEAD + PAGE));
    }

    #[test]
    fn limits_no_vm_can_meet_are_refused() {
        assert_eq!(vm_memory(Some(4096)), Err(MemoryError::TooSmall(4096)));
        assert_eq!(vm_memory(Some(u64::MAX)), Err(MemoryError::TooLarge(u64::MAX)));
    }
}
