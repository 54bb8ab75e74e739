//! Shows what running containers use: by the guest's own count, and by the host's.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use containers::{Container, Containers, ContainersError};
use sandbox::{Attached, GuestStats, HostStats, host_stats};
use serde_json::{Value, json};

use crate::args::StatsArgs;
use crate::human;
use crate::listing::{Listing, ListingError};
use crate::signals::Signals;

/// Between two readings: rates are per second.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a guest may take to answer before its container is shown without figures.
const PATIENCE: Duration = Duration::from_secs(3);

/// Clears the screen and goes to its beginning (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

const LISTING: Listing = Listing {
    headings: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
        ("HostCPUPerc", "HOST CPU %"),
        ("HostMem", "HOST MEM"),
    ],
    row: r"{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}\t{{.HostCPUPerc}}\t{{.HostMem}}",
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum StatsError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error("cannot print the figures")]
    Print(#[from] io::Error),
}

/// What a container used at one time.
#[derive(Debug, Clone, Copy)]
struct Reading {
    guest: GuestStats,
    host: HostStats,
    taken: Instant,
}

/// Ends after one list, or with a signal.
pub(crate) async fn stats(
    containers: &Containers,
    args: &StatsArgs,
    signals: &mut Signals,
    out: &mut dyn Write,
) -> Result<(), StatsError> {
    let clear = !args.no_stream && io::stdout().is_terminal();
    let shown = async {
        let mut before = readings(containers, &chosen(containers, args)?).await;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let chosen = chosen(containers, args)?;
            let now = readings(containers, &chosen).await;
            let row = |container: &Container| {
                row(container, before.get(container.id()), now.get(container.id()), args.no_trunc)
            };
            let rows: Vec<_> = chosen.iter().map(row).collect();
            if clear {
                out.write_all(CLEAR.as_bytes())?;
            }
            LISTING.print(&args.format, &rows, &mut *out)?;
            out.flush()?;
            if args.no_stream {
                return Ok(());
            }
            before = now;
        }
    };
    tokio::select! {
        biased;
        _ = signals.terminating() => Ok(()),
        shown = shown => shown,
    }
}

/// Those that are named; else those that run, or all.
fn chosen(containers: &Containers, args: &StatsArgs) -> Result<Vec<Container>, ContainersError> {
    if args.containers.is_empty() {
        let mut all = containers.list()?;
        all.retain(|container| args.all || container.status().state.is_running());
        return Ok(all);
    }
    args.containers.iter().map(|name| containers.find(name)).collect()
}

/// Of all that can be asked, at the same time, by id.
async fn readings(containers: &Containers, chosen: &[Container]) -> HashMap<String, Reading> {
    let mut asked = tokio::task::JoinSet::new();
    for container in chosen.iter().filter(|container| container.status().state.is_running()) {
        let (state, id) = (containers.state().clone(), container.id().to_owned());
        asked.spawn(async move {
            let read = tokio::time::timeout(PATIENCE, async {
                let attached = Attached::open(&state, &id).await.ok()?;
                let guest = attached.guest().stats(&id).await.ok()?;
                let host = host_stats(attached.record()).ok()?;
                Some(Reading { guest, host, taken: Instant::now() })
            });
            // One that just ended, or hangs, has no figures.
            Some((id.clone(), read.await.ok()??))
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

fn row(container: &Container, before: Option<&Reading>, now: Option<&Reading>, in_full: bool) -> Value {
    let id = if in_full { container.id() } else { container.short_id() };
    let Some(Reading { guest, host, taken }) = now else {
        return json!({
            "BlockIO": "-- / --", "CPUPerc": "--", "Container": id, "HostCPUPerc": "--", "HostMem": "--", "ID": id,
            "MemPerc": "--", "MemUsage": "-- / --", "Name": container.name(), "NetIO": "-- / --", "PIDs": "--",
        });
    };
    let limit = guest.memory.limit.unwrap_or(guest.memory_total).max(1);
    let used = guest.memory.used();
    let in_guest = before.map_or(0.0, |before| {
        percent(
            guest.cpu.usage.saturating_sub(before.guest.cpu.usage),
            guest.at.saturating_sub(before.guest.at),
        )
    });
    let on_host = before.map_or(0.0, |before| {
        percent(host.cpu.saturating_sub(before.host.cpu), taken.duration_since(before.taken))
    });
    json!({
        "BlockIO": format!("{} / {}", human::size(guest.io.read_bytes), human::size(guest.io.written_bytes)),
        "CPUPerc": format!("{in_guest:.2}%"),
        "Container": id,
        "HostCPUPerc": format!("{on_host:.2}%"),
        "HostMem": human::binary_size(host.memory),
        "ID": id,
        "MemPerc": format!("{:.2}%", used as f64 * 100.0 / limit as f64),
        "MemUsage": format!("{} / {}", human::binary_size(used), human::binary_size(limit)),
        "Name": container.name(),
        // There is no network but the loopback's.
        "NetIO": "0B / 0B",
        "PIDs": guest.pids.current.to_string(),
    })
}

/// Of one processor, as Docker counts.
fn percent(used: Duration, of: Duration) -> f64 {
    if of.is_zero() { 0.0 } else { used.as_secs_f64() * 100.0 / of.as_secs_f64() }
}
