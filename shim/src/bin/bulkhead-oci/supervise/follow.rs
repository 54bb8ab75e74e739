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
