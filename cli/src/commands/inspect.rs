//! Prints all that is known of containers and images.

use std::io::{self, Write};

use containers::{Containers, ContainersError};
use images::Store;
use images::store::{FindError, StoreError};
use serde::Serialize;
use serde_json::Value;

use crate::args::{InspectArgs, Kind};
use crate::inspection::{ContainerInspection, ImageInspection, print_list};
use crate::template::{Template, TemplateError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("no such container or image: {0}; `bulkhead ps -a` and `bulkhead images` list them")]
    Neither(String),
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("cannot print what was found")]
    Print(#[from] io::Error),
}

/// In the order its fields have in Docker's answer, which a JSON value would lose.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Inspection {
    Container(Box<ContainerInspection>),
    Image(Box<ImageInspection>),
}

/// Prints what is found, and gives the reasons of what is not.
pub(crate) fn inspect(
    store: &Store,
    containers: &Containers,
    args: &InspectArgs,
    out: &mut dyn Write,
) -> Result<Vec<InspectError>, InspectError> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(template) => Some(Template::parse(template)?),
    };
    let mut errors = Vec::new();
    let mut found = Vec::new();
    for name in &args.names {
        match look(store, containers, args, name) {
            Ok(inspection) => found.push(inspection),
            Err(error) => errors.push(error),
        }
    }
    match (template, args.format.is_some()) {
        (Some(template), _) => {
            for inspection in &found {
                let value = to_value(inspection)?;
                writeln!(out, "{}", template.render(&value)?)?;
            }
        }
        (None, true) => {
            for inspection in &found {
                serde_json::to_writer(&mut *out, inspection).map_err(io::Error::from)?;
                writeln!(out)?;
            }
        }
        (None, false) => print_list(&found, out)?,
    }
    Ok(errors)
}

fn to_value(inspection: &Inspection) -> io::Result<Value> {
    Ok(serde_json::to_value(inspection)?)
}

/// A container of that name goes before an image.
fn look(
    store: &Store,
    containers: &Containers,
    args: &InspectArgs,
    name: &str,
) -> Result<Inspection, InspectError> {
    if args.kind != Some(Kind::Image) {
        match containers.find(name) {
            Ok(container) => {
                return Ok(Inspection::Container(Box::new(ContainerInspection::new(&container, args.size))));
            }
            Err(ContainersError::NotFound(_)) if args.kind.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let image = match store.find(name) {
        Ok(image) => image,
        Err(FindError::Unknown(_)) if args.kind.is_none() => {
            return Err(InspectError::Neither(name.to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let size = store.layer_sizes(&image)?.iter().sum();
    Ok(Inspection::Image(Box::new(ImageInspection::new(&image, size))))
}
