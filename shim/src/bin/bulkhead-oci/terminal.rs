//! The user's terminal: raw while a container has it, and given back as it was whatever happens.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

/// The size a terminal of unknown size gets, as of old: rows, columns.
pub(crate) const DEFAULT_SIZE: (u32, u32) = (24, 80);

/// How the terminal was. Static, so that a panic's hook finds it: a panic aborts without dropping anything.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Holds the terminal on stdin in raw mode: each key is the container's.
#[derive(Debug)]
pub(crate) struct RawTerminal(());

impl RawTerminal {
    pub(crate) fn enter() -> io::Result<Self> {
        let original = tcgetattr(stdin())?;
        restore_on_panic();
        let mut raw = original.clone();
        raw.make_raw();
        *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(original);
        let terminal = Self(());
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(terminal)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(original) = ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that is gone has nothing to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &original);
    }
}

fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            report(panic);
        }));
    });
}

/// The size of whichever of our streams is a terminal.
pub(crate) fn size() -> Option<Winsize> {
    let sizes = [tcgetwinsize(stdout()), tcgetwinsize(stdin())];
    sizes.into_iter().flatten().find(|size| size.ws_row > 0 && size.ws_col > 0)
}
