//! The machine's processors: the kernel begins with those its VM was launched with, and leaves others that come later
//! alone until it is told (Linux Documentation/core-api/cpu_hotplug.rst).

use std::fs;
use std::io;
use std::path::Path;

const DIRECTORY: &str = "/sys/devices/system/cpu";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessorError {
    #[error("the machine cannot have a processor {0}")]
    Missing(u32),
    #[error("processor {0} cannot be used")]
    Use(u32, #[source] io::Error),
}

/// Has the kernel use so many, and keep those beyond that it uses. Containers get them, too: none is bound to some of them.
pub(crate) async fn use_first(count: u32) -> Result<(), ProcessorError> {
    let online = tokio::task::spawn_blocking(move || bring_online(Path::new(DIRECTORY), count));
    online.await.unwrap_or_else(|panic| Err(ProcessorError::Use(count, panic.into())))
}

fn bring_online(directory: &Path, count: u32) -> Result<(), ProcessorError> {
    // The first cannot be switched off, nor on.
    for number in 1..count {
        let online = directory.join(format!("cpu{number}/online"));
        let state = fs::read_to_string(&online).map_err(|_| ProcessorError::Missing(number))?;
        if state.trim_end() == "0" {
            fs::write(&online, "1").map_err(|error| ProcessorError::Use(number, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_not_used_are_brought_online_and_no_more_than_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = |number: u32| directory.path().join(format!("cpu{number}/online"));
        for (number, state) in [(1, "1\n"), (2, "0\n"), (3, "0\n")] {
            fs::create_dir(directory.path().join(format!("cpu{number}"))).unwrap();
            fs::write(file(number), state).unwrap();
        }
        bring_online(directory.path(), 0).unwrap();
        bring_online(directory.path(), 3).unwrap();
        assert_eq!([1, 2, 3].map(|number| fs::read_to_string(file(number)).unwrap()), ["1\n", "1", "0\n"]);
        let refused = bring_online(directory.path(), u32::MAX);
        assert!(matches!(refused, Err(ProcessorError::Missing(4))), "{refused:?}");
    }
}
