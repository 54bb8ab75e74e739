//! All that is known of a container or an image, in the shape Docker's `inspect` has.

mod container;
mod image;

use std::io::{self, Write};

use serde::Serialize;

pub(crate) use self::container::ContainerInspection;
pub(crate) use self::image::ImageInspection;

/// Prints them as one JSON list, indented as Docker's is.
pub(crate) fn print_list<T: Serialize>(list: &[T], out: &mut dyn Write) -> io::Result<()> {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    list.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, formatter))?;
    writeln!(out)
}
