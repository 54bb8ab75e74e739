//! `bulkhead-oci update`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::args::UpdateArgs;
use crate::blob::{self, BlobError};
use crate::client::{Client, ClientError};
use crate::protocol::Ask;
use crate::runtime::wait_for;
use crate::state::{Root, StateError, Status};

/// In runc's words, where it has any.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot read the resources from {}", path.display())]
    Resources { path: PathBuf, source: BlobError },
    #[error("invalid value for {option}: {value:?} is no number of bytes")]
    Bytes { option: &'static str, value: String },
    #[error("the resources are none of the specification's")]
    Malformed(#[source] serde_json::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot wait for the container's supervisor")]
    Runtime(#[from] io::Error),
}

pub(super) fn update(root: &Root, args: &UpdateArgs) -> Result<(), Error> {
    let container = root.load(&args.id)?;
    if container.status() == Status::Stopped {
        return Err(ClientError::NotRunning.into());
    }
    let resources = match &args.resources {
        Some(path) => read(path).map_err(|source| Error::Resources { path: path.clone(), source })?,
        None => said(args)?,
    };
    let ask = Ask::Update(Box::new(resources));
    let asked = async { Client::connect(root, &container.pod, &container.id)?.ask(ask).await };
    Ok(wait_for(asked)??)
}

fn read(path: &Path) -> Result<LinuxResources, BlobError> {
    if path == Path::new("-") { blob::parse(io::stdin().lock()) } else { blob::parse(File::open(path)?) }
}

/// What the command line says, and nothing else.
fn said(args: &UpdateArgs) -> Result<LinuxResources, Error> {
    let memory = [
        ("limit", bytes("memory", args.memory.as_deref())?),
        ("reservation", bytes("memory-reservation", args.memory_reservation.as_deref())?),
        // As for cgroups of version 1: no limit of memory is none of swap either.
        (
            "swap",
            match (args.memory.as_deref(), args.memory_swap.as_deref()) {
                (Some("-1"), None) => Some(-1),
                (_, swap) => bytes("memory-swap", swap)?,
            },
        ),
    ];
    let resources = json!({
        "memory": object(memory.map(|(name, value)| (name, value.map(Value::from)))),
        "cpu": object([
            ("shares", args.cpu_share.map(Value::from)),
            ("quota", args.cpu_quota.map(Value::from)),
            ("burst", args.cpu_burst.map(Value::from)),
            ("period", args.cpu_period.map(Value::from)),
            ("realtimeRuntime", args.cpu_rt_runtime.map(Value::from)),
            ("realtimePeriod", args.cpu_rt_period.map(Value::from)),
            ("idle", args.cpu_idle.map(Value::from)),
            ("cpus", args.cpuset_cpus.clone().map(Value::from)),
            ("mems", args.cpuset_mems.clone().map(Value::from)),
        ]),
        "blockIO": object([("weight", args.blkio_weight.map(Value::from))]),
        "pids": object([("limit", args.pids_limit.map(Value::from))]),
    });
    serde_json::from_value(resources).map_err(Error::Malformed)
}

/// Null where nothing is said.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let said: Map<String, Value> = said.collect();
    if said.is_empty() { Value::Null } else { Value::Object(said) }
}

/// With a unit of 1024s, as Docker writes them; -1 stands for no limit.
fn bytes(option: &'static str, text: Option<&str>) -> Result<Option<i64>, Error> {
    let Some(text) = text else { return Ok(None) };
    match parse_bytes(text) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error::Bytes { option, value: text.to_owned() }),
    }
}

fn parse_bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn said_by(line: &str) -> Result<LinuxResources, Error> {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Update(args) => said(&args),
            _ => panic!(),
        }
    }

    #[test]
    fn only_what_is_said_is_changed() {
        let resources = said_by("x update --memory 512M --cpu-quota 50000 --pids-limit -1 web").unwrap();
        assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(512 << 20));
        assert_eq!(resources.memory().as_ref().unwrap().swap(), None);
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(50_000), None));
        assert!(resources.block_io().is_none());
        let nothing = said_by("x update web").unwrap();
        assert!(nothing.memory().is_none() && nothing.cpu().is_none() && nothing.pids().is_none());
    }

    #[test]
    fn no_limit_of_memory_is_none_of_swap() {
        let memory = said_by("x update --memory -1 web").unwrap().memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(-1), Some(-1)));
    }

    #[test]
    fn what_is_no_number_of_bytes_is_named_with_its_option() {
        for value in ["x", "1q", "", "-5", "99999999999t"] {
            let args = format!("x update --memory-swap={value} web");
            let told = said_by(&args).unwrap_err().to_string();
            assert!(told.starts_with("invalid value for memory-swap: "), "{told}");
        }
    }
}
