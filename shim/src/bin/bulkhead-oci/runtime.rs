//! What waits for other processes, in commands that do one thing after the other.

use std::io;

/// Does it, and lets what still blocks (input that does not come) end with the process.
pub(crate) fn wait_for<T>(doing: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(doing);
    runtime.shutdown_background();
    Ok(done)
}
