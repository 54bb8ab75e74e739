//! Removes what nothing uses.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use containers::{Container, Containers, ContainersError, Snapshots};
use images::store::StoreError;
use images::{Store, StoredImage};
use jiff::Timestamp;

use super::df::disk_usage;
use super::images::created;
use super::rmi;
use crate::args::{ContainerPruneArgs, Filter, ImagePruneArgs, Moment, MomentError, PruneArgs, PruneChoice};
use crate::human;
use crate::in_use::{InUse, InUseError};
use crate::labels::{LabelFilter, labels_of};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PruneError {
    #[error("there is no filter {0:?}: label, label! and until are")]
    UnknownFilter(String),
    #[error(transparent)]
    Until(#[from] MomentError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    InUse(#[from] InUseError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot ask or tell about it")]
    Print(#[from] io::Error),
}

/// What is taken if nothing uses it.
#[derive(Default)]
struct Chosen {
    labels: Vec<LabelFilter>,
    until: Option<Timestamp>,
}

pub(crate) fn prune(
    store: &Store,
    containers: &Containers,
    snapshots: &Snapshots,
    args: &PruneArgs,
    out: &mut dyn Write,
) -> Result<(), PruneError> {
    let chosen = Chosen::new(&args.chosen)?;
    let images = if args.all {
        "all images that no container is made from"
    } else {
        "all images without a name that no container is made from"
    };
    if !confirmed(&args.chosen, &format!("  - all containers that do not run\n  - {images}\n"), out)? {
        return Ok(());
    }
    let freed = remove_containers(containers, &chosen, out)?
        + remove_images(store, containers, snapshots, &chosen, args.all, out)?;
    Ok(writeln!(out, "Total reclaimed space: {}", human::size(freed))?)
}

pub(crate) fn image_prune(
    store: &Store,
    containers: &Containers,
    snapshots: &Snapshots,
    args: &ImagePruneArgs,
    out: &mut dyn Write,
) -> Result<(), PruneError> {
    let chosen = Chosen::new(&args.chosen)?;
    let what = if args.all {
        "all images that no container is made from"
    } else {
        "all images without a name that no container is made from"
    };
    if !confirmed(&args.chosen, &format!("  - {what}\n"), out)? {
        return Ok(());
    }
    let freed = remove_images(store, containers, snapshots, &chosen, args.all, out)?;
    Ok(writeln!(out, "Total reclaimed space: {}", human::size(freed))?)
}

pub(crate) fn container_prune(
    containers: &Containers,
    args: &ContainerPruneArgs,
    out: &mut dyn Write,
) -> Result<(), PruneError> {
    let chosen = Chosen::new(&args.chosen)?;
    if !confirmed(&args.chosen, "  - all containers that do not run\n", out)? {
        return Ok(());
    }
    let freed = remove_containers(containers, &chosen, out)?;
    Ok(writeln!(out, "Total reclaimed space: {}", human::size(freed))?)
}

fn confirmed(choice: &PruneChoice, what: &str, out: &mut dyn Write) -> io::Result<bool> {
    if choice.force {
        return Ok(true);
    }
    write!(out, "WARNING! This will remove:\n{what}\nAre you sure you want to continue? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}

/// Bytes that are free again.
fn remove_containers(
    containers: &Containers,
    chosen: &Chosen,
    out: &mut dyn Write,
) -> Result<u64, PruneError> {
    let mut freed = 0;
    let mut removed = Vec::new();
    for container in containers.list()? {
        if container.status().state.is_running() || !chosen.takes_container(&container) {
            continue;
        }
        let size = disk_usage(&container);
        let claimed = match containers.claim(&container) {
            Ok(claimed) => claimed,
            // Somebody was quicker: it runs or is gone.
            Err(ContainersError::Running(_) | ContainersError::Busy(_) | ContainersError::NotFound(_)) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        containers.remove(claimed)?;
        removed.push(container.id().to_owned());
        freed += size;
    }
    if !removed.is_empty() {
        writeln!(out, "Deleted Containers:\n{}\n", removed.join("\n"))?;
    }
    Ok(freed)
}

fn remove_images(
    store: &Store,
    containers: &Containers,
    snapshots: &Snapshots,
    chosen: &Chosen,
    all: bool,
    out: &mut dyn Write,
) -> Result<u64, PruneError> {
    let in_use = InUse::look(containers, snapshots)?;
    let unwanted = |image: &StoredImage| (all || image.names().is_empty()) && chosen.takes_image(image);
    let collected = store.collect(&unwanted, &|id| in_use.of(id))?;
    if !collected.removed.is_empty() {
        writeln!(out, "Deleted Images:")?;
        rmi::report(&collected.removed, out)?;
        writeln!(out)?;
    }
    Ok(collected.bytes)
}

impl Chosen {
    fn new(choice: &PruneChoice) -> Result<Self, PruneError> {
        let mut chosen = Self::default();
        for Filter { key, value } in &choice.filter {
            match key.as_str() {
                "label" => chosen.labels.push(LabelFilter::has(value)),
                "label!" => chosen.labels.push(LabelFilter::lacks(value)),
                "until" => chosen.until = Some(value.parse::<Moment>()?.0),
                _ => return Err(PruneError::UnknownFilter(key.clone())),
            }
        }
        Ok(chosen)
    }

    fn takes_container(&self, container: &Container) -> bool {
        self.takes(&container.config().labels, Some(container.config().created))
    }

    fn takes_image(&self, image: &StoredImage) -> bool {
        self.takes(&labels_of(image), created(image))
    }

    fn takes(&self, labels: &BTreeMap<String, String>, created: Option<Timestamp>) -> bool {
        self.labels.iter().all(|label| label.holds(labels))
            && self.until.is_none_or(|until| created.is_some_and(|created| created < until))
    }
}
