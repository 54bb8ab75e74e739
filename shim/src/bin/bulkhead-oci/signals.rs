//! The signals that reach us, to be passed on.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) const WINCH: u32 = 28;

/// What is taken: all but those that cannot be (KILL, STOP), that are about ourselves (ILL, TRAP, ABRT, BUS,
/// FPE, SEGV, PIPE, CHLD, SYS), that stop who uses a terminal in the background (TTIN, TTOU), and URG.
const FORWARDED: [u32; 17] = [1, 2, 3, 10, 12, 14, 15, 16, 18, 20, 24, 25, 26, 27, WINCH, 29, 30];

/// The real-time signals that glibc leaves to programs.
const REAL_TIME: std::ops::RangeInclusive<u32> = 34..=64;

/// Every signal from its making on is kept until asked for.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(u32, Signal)>,
}

impl Signals {
    /// Takes the signals over from their default action. Wants a Tokio runtime.
    pub(crate) fn take() -> io::Result<Self> {
        let numbers = FORWARDED.into_iter().chain(REAL_TIME);
        let streams = numbers.map(|number| Ok((number, signal(SignalKind::from_raw(number.cast_signed()))?)));
        Ok(Self { streams: streams.collect::<io::Result<_>>()? })
    }

    /// The next signal, by number. Cancelled, it loses none.
    pub(crate) async fn next(&mut self) -> u32 {
        poll_fn(|context| {
            let mut streams = self.streams.iter_mut();
            let ready =
                streams.find_map(|(number, stream)| stream.poll_recv(context).is_ready().then_some(*number));
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
