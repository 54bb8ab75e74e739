//! One thing done to several containers at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// What went wrong with some of them.
pub(crate) type Each<E> = Vec<E>;

/// Does it to each, all at the same time; prints those it was done to, in the order they were named.
pub(crate) async fn each<E>(wanted: &[String], act: impl AsyncFn(&str) -> Result<(), E>) -> Each<E> {
    let acts = wanted.iter().map(|name| act(name));
    let mut errors = Vec::new();
    for (name, done) in wanted.iter().zip(all(acts).await) {
        match done {
            Ok(()) => println!("{name}"),
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// Waits for all of them at the same time.
async fn all<T>(futures: impl Iterator<Item: Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<Pin<Box<_>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, done) in running.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(result) => *done = Some(result),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn all_are_at_it_at_the_same_time_and_each_error_is_kept() {
        let barrier = Barrier::new(3);
        let seen = Mutex::new(Vec::new());
        let names = ["a", "b", "c"].map(str::to_owned);
        let errors = each(&names, async |name| {
            // Passed only when all three have come.
            barrier.wait().await;
            seen.lock().unwrap().push(name.to_owned());
            if name == "b" { Err(name.to_owned()) } else { Ok(()) }
        });
        assert_eq!(errors.await, ["b"]);
        assert_eq!(seen.lock().unwrap().len(), 3);
    }
}
