//! Lists the sandboxes that are running.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use sandbox::{Record, RecordError, State, StateDir};
use serde::Serialize;

use crate::args::{Format, PsArgs};
use crate::id;

/// The longest command shown in part.
const MAX_COMMAND: usize = 30;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PsError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot print the list")]
    Print(#[from] io::Error),
}

/// A sandbox as programs read it.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
    image: &'a str,
    command: &'a [String],
    /// Seconds since 1970-01-01 UTC.
    created: u64,
    state: State,
    /// Of the process that keeps the sandbox, and of its VMM.
    supervisor_pid: u32,
    vmm_pid: Option<u32>,
}

pub(crate) fn ps(state: &StateDir, args: &PsArgs, out: &mut impl Write) -> Result<(), PsError> {
    let records = state.records()?;
    if args.quiet {
        for record in &records {
            writeln!(out, "{}", shown_id(record, args.no_trunc))?;
        }
        return Ok(());
    }
    match args.format {
        Format::Json => {
            let listed: Vec<_> = records.iter().map(listed).collect();
            serde_json::to_writer_pretty(&mut *out, &listed).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Format::Table => out.write_all(table(&records, args.no_trunc, now()).as_bytes())?,
    }
    Ok(())
}

fn listed(record: &Record) -> Listed<'_> {
    Listed {
        id: &record.id,
        name: &record.name,
        image: &record.image,
        command: &record.command,
        created: record.created,
        state: record.state,
        supervisor_pid: record.supervisor.pid,
        vmm_pid: record.vmm.map(|vmm| vmm.pid),
    }
}

fn table(records: &[Record], in_full: bool, now: u64) -> String {
    let head = ["ID", "IMAGE", "COMMAND", "CREATED", "STATE", "NAME"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head)
        .chain(records.iter().map(|record| {
            [
                shown_id(record, in_full).to_owned(),
                // What a file or an argument is called may hold anything, even a terminal's commands.
                record.image.escape_debug().to_string(),
                shown_command(&record.command, in_full),
                format!("{} ago", age(now.saturating_sub(record.created))),
                match record.state {
                    State::Starting => "starting".to_owned(),
                    State::Running => "running".to_owned(),
                },
                record.name.clone(),
            ]
        }))
        .collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let line = |row: &[String; 6]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn shown_id(record: &Record, in_full: bool) -> &str {
    if in_full { &record.id } else { id::short(&record.id) }
}

fn shown_command(command: &[String], in_full: bool) -> String {
    let command = command.join(" ");
    if in_full || command.chars().count() <= MAX_COMMAND {
        return format!("{command:?}");
    }
    let beginning: String = command.chars().take(MAX_COMMAND - 1).collect();
    format!("{:?}", beginning + "…")
}

fn age(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, command: &[&str]) -> Record {
        serde_json::from_value(serde_json::json!({
            "id": "0123456789abcdef0123456789abcdef", "name": name, "image": "a\u{1b}[2J.tar",
            "command": command, "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/"}, "user": "",
            "created": 1000, "state": "running", "supervisor": {"pid": 7, "started": 1},
            "vmm": {"pid": 8, "started": 2}, "identity": null,
        }))
        .unwrap()
    }

    #[test]
    fn the_table_is_aligned_and_harmless() {
        let records = [record("web", &["sh", "-c", "a command that goes on and on"]), record("a", &["true"])];
        let table = table(&records, false, 1090);
        let lines: Vec<_> = table.lines().collect();
        assert!(
            lines[1].starts_with("0123456789ab   a\\u{1b}[2J.tar   \"sh -c a command that goes on …\""),
            "{table}"
        );
        assert!(lines[2].ends_with("1 minute ago   running   a"), "{table}");
        let column = |line: &str| line.split("   ").count();
        assert!(column(lines[1]) == 6 && !table.contains('\u{1b}'));
    }

    #[test]
    fn json_has_all_a_program_needs() {
        let listed = serde_json::to_value(listed(&record("web", &["true"]))).unwrap();
        assert_eq!((&listed["state"], &listed["vmm_pid"]), (&"running".into(), &8.into()));
    }

    #[test]
    fn ages_are_in_the_largest_unit() {
        let shown = [0, 1, 59, 60, 7200, 200_000].map(age);
        assert_eq!(shown, ["0 seconds", "1 second", "59 seconds", "1 minute", "2 hours", "2 days"]);
    }
}
