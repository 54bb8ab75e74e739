//! Signals by number, as callers name them.

use rustix::process::Signal;

/// The signals Linux knows: 1 to 64, real-time ones included.
const LAST: u32 = 64;

/// The signal with this number, if there is one.
pub(crate) fn from_number(number: u32) -> Option<Signal> {
    if !(1..=LAST).contains(&number) {
        return None;
    }
    let number = i32::try_from(number).ok()?;
    // SAFETY: the caller of from_raw_unchecked promises a signal number the kernel knows, and one that is not
    // reserved by the C library in this process. The signal goes to other processes, which is what a
    // container's user may ask for; this process never handles one of these.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_the_kernel_does_not_know_are_none() {
        assert_eq!(from_number(9), Some(Signal::KILL));
        assert!(from_number(34).is_some());
        assert_eq!(from_number(0), None);
        assert_eq!(from_number(65), None);
        assert_eq!(from_number(u32::MAX), None);
    }
}
