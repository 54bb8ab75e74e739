//! `bulkhead-oci ps`.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::args::{PsArgs, TableOrJson};
use crate::client::{Client, ClientError};
use crate::protocol::{Ask, ProcessLine, Processes};
use crate::runtime::wait_for;
use crate::state::{Root, StateError};
use crate::table;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot print the processes")]
    Print(#[from] io::Error),
    #[error("cannot encode the processes")]
    Encode(#[from] serde_json::Error),
}

pub(super) fn ps(root: &Root, args: &PsArgs, out: &mut impl Write) -> Result<(), Error> {
    let container = root.load(&args.id)?;
    let asked = async { Client::connect(root, &container.pod, &container.id)?.ask_for(Ask::Processes).await };
    let Processes { listed, more } = wait_for(asked)??;
    match args.format {
        TableOrJson::Json => {
            let pids: Vec<_> = listed.iter().map(|process| process.pid).collect();
            writeln!(out, "{}", serde_json::to_string(&pids)?)?;
        }
        TableOrJson::Table => {
            let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
            let titles = titles.map(str::to_owned).to_vec();
            let rows: Vec<_> = std::iter::once(titles).chain(listed.iter().map(row)).collect();
            table::print(out, &rows)?;
        }
    }
    if more {
        eprintln!("there are more processes than are listed");
    }
    Ok(())
}

fn row(process: &ProcessLine) -> Vec<String> {
    let started = i64::try_from(process.started).ok().and_then(|s| Timestamp::from_second(s).ok());
    let started = started.unwrap_or_default().to_zoned(TimeZone::system()).strftime("%H:%M").to_string();
    let (hours, minutes, seconds) = (process.seconds / 3600, process.seconds / 60 % 60, process.seconds % 60);
    let terminal = if process.terminal.is_empty() { "?" } else { &process.terminal };
    vec![
        process.uid.to_string(),
        process.pid.to_string(),
        process.parent.to_string(),
        process.cpu_percent.to_string(),
        started,
        terminal.to_owned(),
        format!("{hours:02}:{minutes:02}:{seconds:02}"),
        process.command.clone(),
    ]
}
