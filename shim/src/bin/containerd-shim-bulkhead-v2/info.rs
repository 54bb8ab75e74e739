//! `-info`, by which containerd asks what a runtime is, and `-v`, for people.

use std::io::{self, Write};

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::{Message, MessageField};

use crate::{PROGRAM, RUNTIME};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn print_info() -> io::Result<()> {
    let info = RuntimeInfo {
        name: RUNTIME.to_owned(),
        version: MessageField::some(RuntimeVersion { version: VERSION.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let info = info.write_to_bytes().map_err(io::Error::other)?;
    io::stdout().write_all(&info)
}

pub(crate) fn print_version() -> io::Result<()> {
    writeln!(io::stdout(), "{PROGRAM}:\n  Version:  {VERSION}")
}
