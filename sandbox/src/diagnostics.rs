//! What a process of ours says last: its standard error.

use std::convert::Infallible;
use std::future::{pending, ready};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::guest_text;

/// How much is kept: the last bytes.
const KEPT: usize = 8 * 1024;

/// A process's standard error, of which the last [`KEPT`] bytes are kept. A process that its guest took over may write
/// anything.
pub(crate) struct Diagnostics<S> {
    source: S,
    kept: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Diagnostics<S> {
    pub(crate) fn of(source: S) -> Self {
        Self { source, kept: Vec::new() }
    }

    /// Keeps what comes. Cancelled, it loses nothing.
    pub(crate) async fn keep(&mut self) -> Infallible {
        let mut piece = [0; 1024];
        while let Ok(length @ 1..) = self.source.read(&mut piece).await {
            self.kept.extend_from_slice(piece.get(..length).unwrap_or_default());
            let excess = self.kept.len().saturating_sub(KEPT);
            self.kept.drain(..excess);
        }
        pending().await
    }

    /// With all that has come.
    pub(crate) async fn so_far(&mut self) -> String {
        tokio::select! {
            biased;
            never = self.keep() => match never {},
            () = ready(()) => {}
        }
        guest_text::console(&String::from_utf8_lossy(&self.kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_last_of_a_flood_is_kept() {
        let flood = "x".repeat(10 * KEPT) + "the end";
        let kept = Diagnostics::of(flood.as_bytes()).so_far().await;
        assert_eq!(kept.len(), KEPT);
        assert!(kept.ends_with("the end"));
    }
}
