//! Lists containers.

use std::io::{self, Write};

use containers::{Container, Containers, ContainersError, HealthState, State, Timestamp};
use sandbox::StateDir;
use serde_json::{Value, json};

use super::df::disk_usage;
use super::ps_filter::{PsFilter, PsFilterError};
use crate::args::PsArgs;
use crate::human;
use crate::listing::{Format, LABEL, Listing, ListingError};

/// The longest command shown in part.
const MAX_COMMAND: usize = 20;

const LISTING: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("SupervisorPid", "SUPERVISOR PID"),
        ("VmmPid", "VMM PID"),
    ],
    row: r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
};

const ROW_WITH_SIZE: &str =
    r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

#[derive(Debug, thiserror::Error)]
pub(crate) enum PsError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Filter(#[from] PsFilterError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error("cannot print the list")]
    Print(#[from] io::Error),
}

pub(crate) fn ps(containers: &Containers, args: &PsArgs, out: &mut impl Write) -> Result<(), PsError> {
    let listed = chosen(containers, args)?;
    if args.quiet {
        for container in &listed {
            writeln!(out, "{}", shown_id(container, args.no_trunc))?;
        }
        return Ok(());
    }
    let rows: Vec<_> = listed.iter().map(|container| row(container, containers.state(), args)).collect();
    let row = if args.size && args.format == Format::Table(None) { ROW_WITH_SIZE } else { LISTING.row };
    Ok(Listing { row, ..LISTING }.print(&args.format, &rows, out)?)
}

/// Newest first.
fn chosen(containers: &Containers, args: &PsArgs) -> Result<Vec<Container>, PsError> {
    let filter = PsFilter::new(containers, &args.filter)?;
    let last = args.last.or(args.latest.then_some(1));
    let all = args.all || last.is_some() || filter.is_about_state();
    let wanted = containers
        .list()?
        .into_iter()
        .filter(|container| (all || container.status().state.is_running()) && filter.holds(container));
    Ok(wanted.take(last.unwrap_or(usize::MAX)).collect())
}

fn row(container: &Container, state: &StateDir, args: &PsArgs) -> Value {
    let (config, status) = (container.config(), container.status());
    let record = state.find(&config.id).ok();
    let labels: Vec<_> = config.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "Command": shown_command(config.command(), args.no_trunc),
        "CreatedAt": human::time(config.created),
        "ID": shown_id(container, args.no_trunc),
        "Image": config.image.name,
        LABEL: config.labels,
        "Labels": labels.join(","),
        "LocalVolumes": "0",
        "Mounts": "",
        "Names": config.name,
        "Networks": "none",
        "Ports": "",
        "RunningFor": human::since(config.created),
        "Size": human::size(disk_usage(container)),
        "State": status.state.name(),
        "Status": shown_status(container, Timestamp::now()),
        // Of the process that keeps the container, and of its VMM, while it runs.
        "SupervisorPid": status.supervisor.map(|supervisor| supervisor.pid),
        "VmmPid": record.and_then(|record| record.vmm).map(|vmm| vmm.pid),
    })
}

/// As Docker words it: `Up 2 minutes (healthy)`, `Exited (0) 3 hours ago`.
pub(crate) fn shown_status(container: &Container, now: Timestamp) -> String {
    let status = container.status();
    let since = |time: Option<Timestamp>| {
        let seconds = now.as_second().saturating_sub(time.unwrap_or(now).as_second());
        human::duration(u64::try_from(seconds).unwrap_or(0))
    };
    match status.state {
        State::Created => "Created".to_owned(),
        State::Removing => "Removal In Progress".to_owned(),
        State::Dead => "Dead".to_owned(),
        State::Exited => format!("Exited ({}) {} ago", status.exit_code, since(status.finished)),
        State::Restarting => format!("Restarting ({}) {} ago", status.exit_code, since(status.finished)),
        State::Paused => format!("Up {} (Paused)", since(status.started)),
        State::Running => match status.health.as_ref().map(|health| health.state) {
            None => format!("Up {}", since(status.started)),
            Some(HealthState::Starting) => format!("Up {} (health: starting)", since(status.started)),
            Some(state) => format!("Up {} ({})", since(status.started), state.name()),
        },
    }
}

fn shown_id(container: &Container, in_full: bool) -> &str {
    if in_full { container.id() } else { container.short_id() }
}

fn shown_command(command: &[String], in_full: bool) -> String {
    let command = command.join(" ");
    let shown = if in_full { command } else { human::shortened(&command, MAX_COMMAND) };
    format!("\"{shown}\"")
}
