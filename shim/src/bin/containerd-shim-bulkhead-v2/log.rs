//! Lines for containerd's log, in the form of its own: they go to the bundle's `log`, which is this process's standard
//! error while it serves.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static DEBUG: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_debug(debug: bool) {
    DEBUG.store(debug, Ordering::Relaxed);
}

pub(crate) fn error(message: Arguments<'_>) {
    write("error", message);
}

pub(crate) fn debug(message: Arguments<'_>) {
    if DEBUG.load(Ordering::Relaxed) {
        write("debug", message);
    }
}

fn write(level: &str, message: Arguments<'_>) {
    let line = line(level, message);
    // Nobody may read, and the pipe be full: then nobody is to wait for it.
    let _ = io::stderr().write_all(line.as_bytes());
}

fn line(level: &str, message: Arguments<'_>) -> String {
    format!("level={level} msg={:?} runtime={}\n", message.to_string(), crate::RUNTIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let line = line("error", format_args!("a \"b\"\nc"));
        assert_eq!(line, "level=error msg=\"a \\\"b\\\"\\nc\" runtime=io.containerd.bulkhead.v2\n");
    }
}
