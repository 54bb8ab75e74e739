//! Threads that stand still while the machine they belong to is saved.

use std::sync::mpsc::{Receiver, Sender, channel};

/// Keeps a thread where it is. Dropped, it has the thread give up its work for good; see [`go_on`](Self::go_on).
#[must_use]
pub struct Hold(Sender<()>);

/// The thread's side.
pub struct Held(Receiver<()>);

/// A hold for a thread that is about to stand.
pub fn hold() -> (Hold, Held) {
    let (holder, held) = channel();
    (Hold(holder), Held(held))
}

impl Hold {
    /// Lets the thread work again.
    pub fn go_on(self) {
        // A thread that is gone has nothing to go on with.
        let _ = self.0.send(());
    }
}

impl Held {
    /// Stands still; tells whether the thread is to go on with its work.
    pub fn stand(self) -> bool {
        self.0.recv().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_thread_goes_on_when_told_and_gives_up_when_forgotten() {
        for told in [true, false] {
            let (hold, held) = hold();
            let thread = std::thread::spawn(|| held.stand());
            if told {
                hold.go_on()
            } else {
                drop(hold)
            }
            assert_eq!(thread.join().unwrap(), told);
        }
    }
}
