//! Says whether this machine can run microVMs.

use std::io::{self, IsTerminal, Write};

use sandbox::host::{Check, CheckState, check};
use serde::Serialize;

use crate::args::{DoctorArgs, DoctorFormat};

/// A check as programs read it.
#[derive(Serialize)]
struct Finding<'a> {
    name: &'a str,
    state: &'static str,
    found: &'a str,
    advice: Option<&'a str>,
}

/// Whether sandboxes can run here.
pub(crate) fn doctor(args: &DoctorArgs, out: &mut io::Stdout) -> io::Result<bool> {
    let checks = check();
    let usable = checks.iter().all(|check| check.state != CheckState::Bad);
    match args.format {
        _ if args.quiet => {}
        DoctorFormat::Json => {
            serde_json::to_writer_pretty(&mut *out, &checks.iter().map(finding).collect::<Vec<_>>())?;
            writeln!(out)?;
        }
        DoctorFormat::Table => print(&checks, usable, out)?,
    }
    Ok(usable)
}

fn print(checks: &[Check], usable: bool, out: &mut io::Stdout) -> io::Result<()> {
    let coloured = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for check in checks {
        let (begin, end) = if coloured { (colour(check.state), "\x1b[0m") } else { ("", "") };
        writeln!(out, "{begin}{:<4}{end}  {}: {}", word(check.state), check.name, check.found)?;
        if let Some(advice) = &check.advice {
            writeln!(out, "      → {advice}")?;
        }
    }
    let verdict = if usable { "Sandboxes can run here." } else { "Sandboxes cannot run here." };
    writeln!(out, "\n{verdict}")
}

fn finding(check: &Check) -> Finding<'_> {
    let Check { name, state, found, advice } = check;
    Finding { name, state: word(*state), found, advice: advice.as_deref() }
}

fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Good => "ok",
        CheckState::Weak => "weak",
        CheckState::Bad => "bad",
    }
}

/// Green, yellow, red (ECMA-48 §8.3.117).
fn colour(state: CheckState) -> &'static str {
    match state {
        CheckState::Good => "\x1b[32m",
        CheckState::Weak => "\x1b[33m",
        CheckState::Bad => "\x1b[31m",
    }
}
