//! Takes, lists, removes and moves snapshots of running containers.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use containers::{
    Containers, ContainersError, Snapshot, Snapshots, SnapshotsError, Supervisor, SupervisorError,
};
use sandbox::SnapshotFiles;
use serde_json::{Value, json};

use crate::args::{SnapshotCreateArgs, SnapshotLsArgs, SnapshotVerb};
use crate::human;
use crate::inspection::print_list;
use crate::listing::{Listing, ListingError};
use crate::output_file::{Output, OutputError};
use crate::snapshot_archive::{self, ImportError};

const LISTING: Listing = Listing {
    headings: &[
        ("Name", "NAME"),
        ("Container", "CONTAINER"),
        ("Image", "IMAGE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
    ],
    row: r"{{.Name}}\t{{.Container}}\t{{.Image}}\t{{.Size}}\t{{.CreatedSince}}",
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error("cannot print the snapshots")]
    Print(#[source] io::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("cannot write the snapshot")]
    Export(#[source] io::Error),
    #[error("cannot open {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot import the snapshot")]
    Import(#[from] ImportError),
}

/// Does what can be done, and gives the reasons of what cannot.
pub(crate) async fn snapshot(
    containers: &Containers,
    snapshots: &Snapshots,
    verb: &SnapshotVerb,
    out: &mut dyn Write,
) -> Result<Vec<SnapshotError>, SnapshotError> {
    match verb {
        SnapshotVerb::Create(args) => create(containers, snapshots, args, out).await?,
        SnapshotVerb::Ls(args) => list(snapshots, args, out)?,
        SnapshotVerb::Inspect(args) => return inspect(snapshots, &args.names, out),
        SnapshotVerb::Rm(args) => return remove(snapshots, &args.names, out),
        SnapshotVerb::Export(args) => export(snapshots, &args.name, args.output.as_deref())?,
        SnapshotVerb::Import(args) => import(snapshots, &args.file, &args.name, out)?,
    }
    Ok(Vec::new())
}

async fn create(
    containers: &Containers,
    snapshots: &Snapshots,
    args: &SnapshotCreateArgs,
    out: &mut dyn Write,
) -> Result<(), SnapshotError> {
    let container = containers.find(&args.container)?;
    let supervisor = Supervisor::connect(&container)?;
    let making = snapshots.make(&args.name)?;
    let stood = supervisor.snapshot(&SnapshotFiles::at(making.directory().to_owned())).await?;
    let made = making.finish(container.config().clone(), stood)?;
    writeln!(out, "{}", made.name).map_err(SnapshotError::Print)
}

fn list(snapshots: &Snapshots, args: &SnapshotLsArgs, out: &mut dyn Write) -> Result<(), SnapshotError> {
    let list = snapshots.list()?;
    if args.quiet {
        let printed = list.iter().try_for_each(|snapshot| writeln!(out, "{}", snapshot.name));
        return printed.map_err(SnapshotError::Print);
    }
    let rows: Vec<Value> = list.iter().map(row).collect();
    Ok(LISTING.print(&args.format, &rows, out)?)
}

fn row(snapshot: &Snapshot) -> Value {
    let container = &snapshot.about.container;
    json!({
        "Name": snapshot.name,
        "Container": container.name,
        "Image": container.image.name,
        "Size": human::binary_size(snapshot.files.size()),
        "CreatedSince": human::since(snapshot.about.created),
    })
}

fn inspect(
    snapshots: &Snapshots,
    names: &[String],
    out: &mut dyn Write,
) -> Result<Vec<SnapshotError>, SnapshotError> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match snapshots.find(name) {
            Ok(Snapshot { name, about, files }) => found.push(json!({
                "Name": name,
                "Created": about.created,
                "Processor": about.processor,
                "StoodNs": about.stood,
                "Size": files.size(),
                "Container": about.container,
            })),
            Err(error) => errors.push(error.into()),
        }
    }
    print_list(&found, out).map_err(SnapshotError::Print)?;
    Ok(errors)
}

fn remove(
    snapshots: &Snapshots,
    names: &[String],
    out: &mut dyn Write,
) -> Result<Vec<SnapshotError>, SnapshotError> {
    let mut errors = Vec::new();
    for name in names {
        match snapshots.remove(name) {
            Ok(()) => writeln!(out, "{name}").map_err(SnapshotError::Print)?,
            Err(error) => errors.push(error.into()),
        }
    }
    Ok(errors)
}

fn export(snapshots: &Snapshots, name: &str, to: Option<&Path>) -> Result<(), SnapshotError> {
    let snapshot = snapshots.find(name)?;
    let output = snapshot_archive::write(snapshot.files.directory(), Output::open(to)?);
    Ok(output.map_err(SnapshotError::Export)?.finish()?)
}

fn import(snapshots: &Snapshots, file: &str, name: &str, out: &mut dyn Write) -> Result<(), SnapshotError> {
    let from: Box<dyn Read> = match file {
        "-" => Box::new(io::stdin()),
        path => {
            Box::new(File::open(path).map_err(|source| SnapshotError::Open { path: path.into(), source })?)
        }
    };
    let making = snapshots.make(name)?;
    let about = snapshot_archive::read(from, making.directory())?;
    let made = making.finish_as(about)?;
    writeln!(out, "{}", made.name).map_err(SnapshotError::Print)
}
