//! `-info`, by which containerd asks what a runtime is, and `-v`, for people.

use std::io::{self, Write};

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::{Message, MessageField};

use crate::{PROGRAM, RUNTIME};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// By which containerd 2.2 knows which mounts it is to leave to us (containerd docs/mounts.md): a guest has an EROFS image as
/// a disk. Those that an overlay is made of it mounts nevertheless.
const LEFT_TO_US: (&str, &str) = ("containerd.io/runtime-allow-mounts", "erofs");

pub(crate) fn print_info() -> io::Result<()> {
    let info = RuntimeInfo {
        name: RUNTIME.to_owned(),
        version: MessageField::some(RuntimeVersion { version: VERSION.to_owned(), ..Default::default() }),
        annotations: [(LEFT_TO_US.0.to_owned(), LEFT_TO_US.1.to_owned())].into(),
        ..Default::default()
    };
    let info = info.write_to_bytes().map_err(io::Error::other)?;
    io::stdout().write_all(&info)
}

pub(crate) fn print_version() -> io::Result<()> {
    writeln!(io::stdout(), "{PROGRAM}:\n  Version:  {VERSION}")
}
