//! Shows what images and containers take of the disk.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;

use containers::{Container, Containers, ContainersError};
use images::Store;
use images::store::{ImageUsage, StoreError, Usage};
use serde_json::{Value, json};

use super::images::{created, shown_id};
use crate::args::DfArgs;
use crate::human;
use crate::listing::{Format, Listing, ListingError};

const SUMMARY: Listing = Listing {
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    row: r"{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

const IMAGES: Listing = Listing {
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    row: r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
};

const CONTAINERS: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    row: r"{{.ID}}\t{{.Image}}\t{{.Size}}\t{{.CreatedSince}}\t{{.Status}}\t{{.Names}}",
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum DfError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error("cannot print what the disk is used for")]
    Print(#[from] io::Error),
}

pub(crate) fn df(
    store: &Store,
    containers: &Containers,
    args: &DfArgs,
    out: &mut dyn Write,
) -> Result<(), DfError> {
    let usage = store.usage()?;
    let containers = containers.list()?;
    if !args.verbose {
        return Ok(SUMMARY.print(&args.format, &summary(&usage, &containers), out)?);
    }
    let mut made = BTreeMap::<&str, usize>::new();
    for container in &containers {
        *made.entry(&container.config().image.id).or_default() += 1;
    }
    let images: Vec<_> = usage.images.iter().flat_map(|image| image_rows(image, &made)).collect();
    writeln!(out, "Images space usage:\n")?;
    IMAGES.print(&Format::Table(None), &images, out)?;
    writeln!(out, "\nContainers space usage:\n")?;
    let containers: Vec<_> = containers.iter().map(container_row).collect();
    Ok(CONTAINERS.print(&Format::Table(None), &containers, out)?)
}

fn summary(usage: &Usage, containers: &[Container]) -> Vec<Value> {
    let is_used = |image: &&ImageUsage| {
        containers.iter().any(|container| container.config().image.id == image.image.id().to_string())
    };
    let (used, unused): (Vec<_>, Vec<_>) = usage.images.iter().partition(is_used);
    // What goes when all unused images go: at least what only one of them has.
    let reclaimable = unused.iter().map(|image| image.unique).sum::<u64>() + usage.garbage;
    let (active, idle): (Vec<&Container>, Vec<&Container>) =
        containers.iter().partition(|container| container.status().state.is_running());
    let sizes =
        |containers: &[&Container]| containers.iter().map(|container| disk_usage(container)).sum::<u64>();
    let idle_size = sizes(&idle);
    vec![
        row("Images", usage.images.len(), used.len(), usage.total, reclaimable),
        row("Containers", containers.len(), active.len(), sizes(&active) + idle_size, idle_size),
    ]
}

fn row(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Value {
    let percent = if size == 0 { 0 } else { u128::from(reclaimable) * 100 / u128::from(size) };
    json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": human::size(size),
        "Reclaimable": format!("{} ({percent}%)", human::size(reclaimable)),
    })
}

fn image_rows(usage: &ImageUsage, made: &BTreeMap<&str, usize>) -> Vec<Value> {
    let image = &usage.image;
    let id = image.id().to_string();
    let row = |repository: &str, tag: &str| {
        json!({
            "Repository": repository,
            "Tag": tag,
            "ID": shown_id(image, false),
            "CreatedSince": created(image).map_or_else(|| "N/A".to_owned(), human::since),
            "Size": human::size(usage.shared + usage.unique),
            "SharedSize": human::size(usage.shared),
            "UniqueSize": human::size(usage.unique),
            "Containers": made.get(id.as_str()).copied().unwrap_or(0).to_string(),
        })
    };
    match image.names() {
        [] => vec![row("<none>", "<none>")],
        names => names
            .iter()
            .map(|name| row(&super::images::repository(name), name.tag().unwrap_or("<none>")))
            .collect(),
    }
}

fn container_row(container: &Container) -> Value {
    json!({
        "ID": container.short_id(),
        "Image": container.config().image.name,
        "Size": human::size(disk_usage(container)),
        "CreatedSince": human::since(container.config().created),
        "Status": container.status().state.name(),
        "Names": container.name(),
    })
}

/// Bytes of the blocks of a container's writable disk.
pub(super) fn disk_usage(container: &Container) -> u64 {
    // One without a disk takes nothing.
    container.disk().metadata().map_or(0, |disk| disk.blocks() * 512)
}
