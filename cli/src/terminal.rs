//! The user's terminal: raw while a command has it, and given back as it was whatever happens.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use sandbox::TerminalSize;

/// The size a terminal of unknown size gets, as of old.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// How the terminal was. Static, so that a panic's hook finds it: a panic aborts without dropping anything.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Holds the terminal on stdin in raw mode: each key is the command's.
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

/// Holds the terminal on stdin without echo: for secrets.
#[derive(Debug)]
pub(crate) struct NoEcho(());

impl NoEcho {
    pub(crate) fn enter() -> io::Result<Self> {
        let original = tcgetattr(stdin())?;
        restore_on_panic();
        let mut silent = original.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(original);
        let terminal = Self(());
        tcsetattr(stdin(), OptionalActions::Flush, &silent)?;
        Ok(terminal)
    }
}

impl Drop for NoEcho {
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

pub(crate) fn stdin_is_terminal() -> bool {
    isatty(stdin())
}

/// The size of whichever of our streams is a terminal.
pub(crate) fn size() -> TerminalSize {
    let sizes = [tcgetwinsize(stdout()), tcgetwinsize(stdin()), tcgetwinsize(stderr())];
    let known = sizes.into_iter().flatten().find(|size| size.ws_row > 0 && size.ws_col > 0);
    known.map_or(DEFAULT_SIZE, |size| TerminalSize { rows: size.ws_row.into(), columns: size.ws_col.into() })
}
