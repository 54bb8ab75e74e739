//! The agent's own words, into the kernel's log.
//!
//! Every byte on the console costs an exit of the virtual machine, so only what an operator must know is said,
//! and the kernel's log level decides whether it reaches the console.

use std::fmt;
use std::io::Write;

/// Tells the operator that something went wrong which no answer to a call can carry.
pub fn warn(message: impl fmt::Display) {
    // Each write to /dev/kmsg is one record; <4> is KERN_WARNING (Linux Documentation/ABI/testing/dev-kmsg).
    write_record(&format!("<4>bulkhead-agent: {message}\n"));
}

/// Says why the guest is about to go down.
pub fn fatal(message: impl fmt::Display) {
    write_record(&format!("<0>bulkhead-agent: {message}\n"));
}

fn write_record(record: &str) {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .and_then(|mut kmsg| kmsg.write_all(record.as_bytes()));
    if written.is_err() {
        eprint!("{record}");
    }
}
