//! Sends a signal to the command of running sandboxes.

use sandbox::{AttachError, Attached, GuestError, StateDir};

use crate::args::{KillArgs, Signal};

#[derive(Debug, thiserror::Error)]
pub(crate) enum KillError {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("cannot send {signal} to sandbox {sandbox}")]
    Signal { signal: Signal, sandbox: String, source: GuestError },
}

/// Tries each, and reports those that could not be told.
pub(crate) async fn kill(state: &StateDir, args: &KillArgs) -> Vec<KillError> {
    let mut errors = Vec::new();
    for sandbox in &args.sandboxes {
        match signal(state, sandbox, args.signal).await {
            Ok(()) => println!("{sandbox}"),
            Err(error) => errors.push(error),
        }
    }
    errors
}

async fn signal(state: &StateDir, sandbox: &str, signal: Signal) -> Result<(), KillError> {
    let attached = Attached::open(state, sandbox).await?;
    let container_id = &attached.record().id;
    let told = attached.guest().existing(container_id, "").signal(signal.number()).await;
    match told {
        // It ended of the signal before it could answer.
        Err(GuestError::Gone | GuestError::Ended(_)) | Ok(()) => Ok(()),
        Err(source) => Err(KillError::Signal { signal, sandbox: sandbox.to_owned(), source }),
    }
}
