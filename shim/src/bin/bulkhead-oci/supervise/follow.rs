//! A process from its making to its end: what comes to its supervisor goes on to it.

use std::os::fd::OwnedFd;

use sandbox::TerminalSize;

use super::ends;
use crate::signals::{self, Signals};

/// A process of a guest.
pub(super) trait Kept {
    type Lost;
    /// Only one that is gone cannot be told, and its end is what comes next.
    async fn signal(&self, signal: u32);
    async fn resize(&self, size: TerminalSize);
    /// Its exit code, as a shell tells it. Cancelled, it loses nothing.
    async fn ended(&self) -> Result<u8, Self::Lost>;
}

/// Passes signals on until the process has ended.
pub(super) async fn follow<K: Kept>(
    kept: &K,
    terminal: Option<&OwnedFd>,
    signals: &mut Signals,
) -> Result<u8, K::Lost> {
    let ended = kept.ended();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            biased;
            code = &mut ended => return code,
            signal = signals.next() => match (signal, terminal) {
                (signals::WINCH, Some(terminal)) => {
                    let (rows, columns) = ends::size(terminal);
                    kept.resize(TerminalSize { rows, columns }).await;
                }
                (signal, _) => kept.signal(signal).await,
            }
        }
    }
}

impl Kept for sandbox::Process {
    type Lost = sandbox::GuestError;

    async fn signal(&self, signal: u32) {
        drop(Self::signal(self, signal).await);
    }

    async fn resize(&self, size: TerminalSize) {
        drop(Self::resize(self, size).await);
    }

    async fn ended(&self) -> Result<u8, Self::Lost> {
        Ok(self.wait().await?.code)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rustix::process::{Signal, getpid, kill_process};
    use rustix::pty::{OpenptFlags, openpt, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};
    use tokio::sync::Notify;

    use super::*;

    /// Ends at the second thing it is told.
    #[derive(Default)]
    struct Fake {
        told: Mutex<Vec<String>>,
        over: Notify,
    }

    impl Fake {
        fn hear(&self, what: String) {
            let mut told = self.told.lock().unwrap();
            told.push(what);
            if told.len() == 2 {
                self.over.notify_one();
            }
        }
    }

    impl Kept for Fake {
        type Lost = ();

        async fn signal(&self, signal: u32) {
            self.hear(format!("signal {signal}"));
        }

        async fn resize(&self, size: TerminalSize) {
            self.hear(format!("{} rows of {}", size.rows, size.columns));
        }

        async fn ended(&self) -> Result<u8, ()> {
            self.over.notified().await;
            Ok(7)
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn signals_go_on_to_the_process_and_a_terminals_size_as_well() {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&terminal).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut signals = Signals::take().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        kill_process(getpid(), Signal::WINCH).unwrap();
        let fake = Fake::default();
        assert_eq!(follow(&fake, Some(&terminal), &mut signals).await, Ok(7));
        let mut told = fake.told.into_inner().unwrap();
        told.sort();
        assert_eq!(told, ["40 rows of 100", "signal 15"]);
    }
}
