//! The same work on many things, several at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Does `work` on all items, `workers` at a time; the results in the items' order, or the first error. `work` is told
/// when to give up, as another has failed.
pub(super) fn for_each<T: Sync, R: Send, E: Send>(
    items: &[T],
    workers: usize,
    work: impl Fn(&T, &AtomicBool) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (results, failure) = (Mutex::new(Vec::new()), Mutex::new(None));
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            match work(item, &stop) {
                Ok(result) => lock(&results).push((index, result)),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    lock(&failure).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers.min(items.len()) {
            scope.spawn(run);
        }
        run();
    });
    match into_inner(failure) {
        Some(error) => Err(error),
        None => {
            let mut results = into_inner(results);
            results.sort_by_key(|(index, _)| *index);
            Ok(results.into_iter().map(|(_, result)| result).collect())
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_the_first_failure_ends_it() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = for_each(&items, 3, |item, _| Ok::<_, ()>(item * 2));
        assert_eq!(doubled, Ok((0..100).map(|item| item * 2).collect()));
        let failed = for_each(&items, 1, |item, _| if *item == 7 { Err(*item) } else { Ok(()) });
        assert_eq!(failed, Err(7));
        assert_eq!(for_each(&[], 3, |_: &(), _| Ok::<_, ()>(())), Ok(Vec::new()));
    }
}
