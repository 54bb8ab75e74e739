//! `bulkhead-oci list`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::args::{ListArgs, SPEC_VERSION, TableOrJson};
use crate::state::{Container, Root, StateError, Status};
use crate::table;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot print the containers")]
    Print(#[from] io::Error),
    #[error("cannot encode the containers")]
    Encode(#[from] serde_json::Error),
}

/// As runc's list calls the fields, which its state calls otherwise.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    oci_version: &'static str,
    id: &'a str,
    pid: u32,
    status: Status,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'static str,
}

pub(super) fn list(root: &Root, args: &ListArgs, out: &mut impl Write) -> Result<(), Error> {
    let containers = root.all()?;
    if args.quiet {
        for container in &containers {
            writeln!(out, "{}", container.id)?;
        }
        return Ok(());
    }
    match args.format {
        TableOrJson::Json => {
            let listed: Vec<_> = containers.iter().map(listed).collect();
            writeln!(out, "{}", serde_json::to_string(&listed)?)?;
        }
        TableOrJson::Table => {
            let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED"].map(str::to_owned).to_vec();
            let rows: Vec<_> = std::iter::once(titles).chain(containers.iter().map(row)).collect();
            table::print(out, &rows)?;
        }
    }
    Ok(())
}

fn listed(container: &Container) -> Listed<'_> {
    Listed {
        oci_version: SPEC_VERSION,
        id: &container.id,
        pid: container.printed().pid(),
        status: container.status(),
        bundle: &container.bundle,
        rootfs: &container.rootfs,
        created: container.created,
        annotations: &container.annotations,
        owner: "",
    }
}

fn row(container: &Container) -> Vec<String> {
    vec![
        container.id.clone(),
        container.printed().pid().to_string(),
        container.status().to_string(),
        container.bundle.display().to_string(),
        container.created.to_string(),
    ]
}
