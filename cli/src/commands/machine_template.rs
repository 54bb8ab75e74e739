//! Makes, lists and removes the templates containers start from.

use std::io::{self, Write};

use jiff::Timestamp;
use sandbox::{
    Installation, InstallationError, LaunchError, StateDir, TemplateError, TemplateInfo, Templates,
    build_template,
};
use serde_json::{Value, json};

use crate::args::{TemplateBuildArgs, TemplateLsArgs, TemplateRmArgs, TemplateVerb};
use crate::human;
use crate::inspection::print_list;
use crate::listing::{Listing, ListingError};

const LISTING: Listing = Listing {
    headings: &[
        ("Key", "KEY"),
        ("CPUs", "CPUS"),
        ("Memory", "MEMORY"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
    ],
    row: r"{{.Key}}\t{{.CPUs}}\t{{.Memory}}\t{{.Size}}\t{{.CreatedSince}}",
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineTemplateError {
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error("cannot make a template")]
    Build(#[from] LaunchError),
    #[error(transparent)]
    Templates(#[from] TemplateError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error("cannot print the templates")]
    Print(#[from] io::Error),
}

/// Does what can be done, and gives the reasons of what cannot.
pub(crate) async fn machine_template(
    state: &StateDir,
    verb: &TemplateVerb,
    out: &mut dyn Write,
) -> Result<Vec<MachineTemplateError>, MachineTemplateError> {
    let templates = Templates::of(state);
    match verb {
        TemplateVerb::Build(args) => build(state, args, out).await.map(|()| Vec::new()),
        TemplateVerb::Ls(args) => list(&templates, args, out).map(|()| Vec::new()),
        TemplateVerb::Inspect(args) => inspect(&templates, &args.keys, out),
        TemplateVerb::Rm(args) => remove(&templates, args, out),
    }
}

async fn build(
    state: &StateDir,
    args: &TemplateBuildArgs,
    out: &mut dyn Write,
) -> Result<(), MachineTemplateError> {
    let vcpus = args.cpus.map_or(1, |cpus| cpus.vcpus());
    let made =
        build_template(&Installation::find()?, state, vcpus, args.memory.map(|memory| memory.0)).await?;
    Ok(writeln!(out, "{}", made.key)?)
}

fn list(
    templates: &Templates,
    args: &TemplateLsArgs,
    out: &mut dyn Write,
) -> Result<(), MachineTemplateError> {
    let list = templates.list()?;
    if args.quiet {
        return Ok(list.iter().try_for_each(|info| writeln!(out, "{}", info.key))?);
    }
    let rows: Vec<Value> = list.iter().map(row).collect();
    Ok(LISTING.print(&args.format, &rows, out)?)
}

fn row(info: &TemplateInfo) -> Value {
    let created = i64::try_from(info.created).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    json!({
        "Key": info.key.get(..12).unwrap_or(&info.key),
        "CPUs": info.vcpus.to_string(),
        "Memory": human::binary_size(info.memory),
        "Size": human::binary_size(info.size),
        "CreatedSince": created.map_or_else(|| "N/A".to_owned(), human::since),
    })
}

fn inspect(
    templates: &Templates,
    keys: &[String],
    out: &mut dyn Write,
) -> Result<Vec<MachineTemplateError>, MachineTemplateError> {
    let (found, errors): (Vec<_>, Vec<_>) =
        keys.iter().map(|key| templates.find(key)).partition(Result::is_ok);
    let found: Vec<TemplateInfo> = found.into_iter().flatten().collect();
    print_list(&found, out)?;
    Ok(errors.into_iter().filter_map(Result::err).map(Into::into).collect())
}

fn remove(
    templates: &Templates,
    args: &TemplateRmArgs,
    out: &mut dyn Write,
) -> Result<Vec<MachineTemplateError>, MachineTemplateError> {
    let keys = match args.all {
        true => templates.list()?.into_iter().map(|info| info.key).collect(),
        false => args.keys.clone(),
    };
    let mut errors = Vec::new();
    for key in keys {
        match templates.find(&key).and_then(|info| templates.remove(&info.key).map(|()| info)) {
            Ok(info) => writeln!(out, "{}", info.key)?,
            Err(error) => errors.push(error.into()),
        }
    }
    Ok(errors)
}
