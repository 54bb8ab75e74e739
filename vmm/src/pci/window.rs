//! Gives out addresses of the guest-physical window in which memory regions lie.

use std::collections::BTreeMap;
use std::ops::Range;

/// A guest maps whole pages, and KVM watches doorbells more cheaply when nothing else shares their page.
const PAGE: u64 = 4096;

pub(super) struct Window {
    range: Range<u64>,
    /// Sizes by base.
    taken: BTreeMap<u64, u64>,
}

impl Window {
    pub(super) fn new(range: Range<u64>) -> Self {
        Self { range, taken: BTreeMap::new() }
    }

    /// The lowest free place for `size` bytes, aligned to their size, or `None` if there is none.
    pub(super) fn take(&mut self, size: u64) -> Option<u64> {
        let size = size.checked_next_power_of_two()?.max(PAGE);
        let mut base = self.range.start.checked_next_multiple_of(size)?;
        for (taken, length) in &self.taken {
            if base.checked_add(size)? <= *taken {
                break;
            }
            base = base.max((taken + length).checked_next_multiple_of(size)?);
        }
        if base.checked_add(size)? > self.range.end {
            return None;
        }
        self.taken.insert(base, size);
        Some(base)
    }

    pub(super) fn give_back(&mut self, base: u64) {
        self.taken.remove(&base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_given_back_is_given_out_again() {
        let mut window = Window::new(0x1000..0x4000);
        let places: Vec<_> = std::iter::from_fn(|| window.take(16)).collect();
        assert_eq!(places, [0x1000, 0x2000, 0x3000]);
        window.give_back(0x2000);
        assert_eq!(window.take(0x1000), Some(0x2000));
        assert_eq!(window.take(1), None);
    }

    proptest! {
        #[test]
        fn places_are_aligned_inside_and_apart(requests in proptest::collection::vec((4u64..0x1_0000, any::<bool>()), 1..60)) {
            let range = 0xc000_1000..0xc010_0000;
            let mut window = Window::new(range.clone());
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (size, give_back) in requests {
                if give_back && let Some((base, _)) = held.pop() {
                    window.give_back(base);
                }
                let Some(base) = window.take(size) else { continue };
                prop_assert_eq!(base % size.next_power_of_two(), 0);
                prop_assert!(base >= range.start && base + size <= range.end);
                prop_assert!(held.iter().all(|(other, span)| base + size <= *other || other + span <= base));
                held.push((base, size));
            }
        }
    }
}
