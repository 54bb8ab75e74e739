//! Shows the processes of a running container.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use containers::{Containers, ContainersError};
use jiff::Timestamp;
use sandbox::{AttachError, Attached, GuestError, ProcessInfo};

use crate::args::TopArgs;
use crate::listing;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TopError {
    #[error("{0:?} is no option of ps that is understood; -ef, aux and -o COLUMN,… are")]
    Option(String),
    #[error(
        "there is no column {0:?}; there are pid, ppid, uid, user, c, %cpu, stime, start, tty, time, args and comm"
    )]
    Column(String),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("cannot list the processes of container {name}")]
    Processes { name: String, source: GuestError },
    #[error("cannot print the processes")]
    Print(#[from] io::Error),
}

/// What ps(1) calls it: the format's word, the heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Uid,
    User,
    Pid,
    Ppid,
    C,
    Cpu,
    Stime,
    Start,
    Tty,
    Time,
    Cmd,
    Command,
    Comm,
}

const FULL: [Column; 8] = [
    Column::Uid,
    Column::Pid,
    Column::Ppid,
    Column::C,
    Column::Stime,
    Column::Tty,
    Column::Time,
    Column::Cmd,
];

const BSD: [Column; 7] =
    [Column::User, Column::Pid, Column::Cpu, Column::Tty, Column::Start, Column::Time, Column::Command];

pub(crate) async fn top(
    containers: &Containers,
    args: &TopArgs,
    out: &mut dyn Write,
) -> Result<(), TopError> {
    let columns = columns(&args.options)?;
    let container = containers.find(&args.container)?;
    if !container.status().state.is_running() {
        return Err(TopError::NotRunning(container.name().to_owned()));
    }
    let attached = Attached::open(containers.state(), container.id()).await?;
    let processes = attached.guest().processes(container.id()).await;
    let processes =
        processes.map_err(|source| TopError::Processes { name: container.name().to_owned(), source })?;
    let now = SystemTime::now();
    let heading = columns.iter().map(|column| column.heading().to_owned()).collect::<Vec<_>>();
    let rows =
        processes.listed.iter().map(|process| columns.iter().map(|column| column.of(process, now)).collect());
    let lines: String =
        std::iter::once(heading).chain(rows).map(|cells: Vec<String>| cells.join("\t") + "\n").collect();
    out.write_all(listing::align(&lines).as_bytes())?;
    if processes.more {
        writeln!(out, "… and more")?;
    }
    Ok(())
}

fn columns(options: &[String]) -> Result<Vec<Column>, TopError> {
    let mut columns = Vec::new();
    let mut rest = options.iter().map(String::as_str);
    while let Some(option) = rest.next() {
        match option {
            "-e" | "-A" | "-f" | "-ef" | "-eF" => {}
            "aux" | "-aux" | "axu" | "u" => columns = BSD.to_vec(),
            "-o" | "o" | "-eo" => {
                let list = rest.next().ok_or_else(|| TopError::Option(option.to_owned()))?;
                columns.extend(list.split(',').map(column).collect::<Result<Vec<_>, _>>()?);
            }
            _ => match option.strip_prefix("-o").or_else(|| option.strip_prefix("-eo")) {
                Some(list) => columns.extend(list.split(',').map(column).collect::<Result<Vec<_>, _>>()?),
                None => return Err(TopError::Option(option.to_owned())),
            },
        }
    }
    Ok(if columns.is_empty() { FULL.to_vec() } else { columns })
}

fn column(word: &str) -> Result<Column, TopError> {
    Ok(match word.trim() {
        "uid" | "euid" => Column::Uid,
        "user" | "euser" => Column::User,
        "pid" => Column::Pid,
        "ppid" => Column::Ppid,
        "c" => Column::C,
        "%cpu" | "pcpu" => Column::Cpu,
        "stime" => Column::Stime,
        "start" | "start_time" => Column::Start,
        "tty" | "tt" | "tname" => Column::Tty,
        "time" | "cputime" => Column::Time,
        "cmd" => Column::Cmd,
        "args" | "command" => Column::Command,
        "comm" | "ucmd" => Column::Comm,
        other => return Err(TopError::Column(other.to_owned())),
    })
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Self::Uid => "UID",
            Self::User => "USER",
            Self::Pid => "PID",
            Self::Ppid => "PPID",
            Self::C => "C",
            Self::Cpu => "%CPU",
            Self::Stime => "STIME",
            Self::Start => "START",
            Self::Tty => "TTY",
            Self::Time => "TIME",
            Self::Cmd => "CMD",
            Self::Command | Self::Comm => "COMMAND",
        }
    }

    fn of(self, process: &ProcessInfo, now: SystemTime) -> String {
        match self {
            Self::Uid | Self::User => process.uid.to_string(),
            Self::Pid => process.pid.to_string(),
            Self::Ppid => process.parent_pid.to_string(),
            Self::C | Self::Cpu => process.cpu_percent(now).to_string(),
            Self::Stime | Self::Start => started(process.started, now),
            Self::Tty if process.terminal.is_empty() => "?".to_owned(),
            Self::Tty => listing::escape(&process.terminal),
            Self::Time => clock(process.cpu),
            Self::Cmd | Self::Command => listing::escape(&process.command),
            Self::Comm => {
                let program = process.command.split(' ').next().unwrap_or_default();
                listing::escape(program.rsplit('/').next().unwrap_or_default())
            }
        }
    }
}

/// The time of today, or the day.
fn started(started: SystemTime, now: SystemTime) -> String {
    let recent = now.duration_since(started).unwrap_or_default() < Duration::from_secs(24 * 3600);
    let format = if recent { "%H:%M" } else { "%b%d" };
    Timestamp::try_from(started).map_or_else(|_| "?".to_owned(), |time| time.strftime(format).to_string())
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(options: &[&str]) -> Result<Vec<Column>, TopError> {
        columns(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_options_people_use_are_understood() {
        assert_eq!(chosen(&[]).unwrap(), FULL);
        assert_eq!(chosen(&["-ef"]).unwrap(), FULL);
        assert_eq!(chosen(&["aux"]).unwrap(), BSD);
        for options in [&["-o", "pid,comm"][..], &["-eo", "pid,comm"], &["-opid,comm"]] {
            assert_eq!(chosen(options).unwrap(), [Column::Pid, Column::Comm]);
        }
        assert!(matches!(chosen(&["-Z"]), Err(TopError::Option(option)) if option == "-Z"));
        assert!(matches!(chosen(&["-o", "rss"]), Err(TopError::Column(column)) if column == "rss"));
        assert!(chosen(&["-o"]).is_err());
    }

    #[test]
    fn a_process_is_shown_as_ps_would() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 10 + 3600);
        let process = ProcessInfo {
            pid: 7,
            parent_pid: 1,
            uid: 1000,
            cpu: Duration::from_secs(3725),
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 10),
            terminal: String::new(),
            command: "/bin/sh -c evil\u{1b}[2J".to_owned(),
        };
        let shown = FULL.map(|column| column.of(&process, now));
        assert_eq!(shown, ["1000", "7", "1", "103", "00:00", "?", "01:02:05", "/bin/sh -c evil\\u{1b}[2J"]);
        assert_eq!(Column::Comm.of(&process, now), "sh");
    }
}
