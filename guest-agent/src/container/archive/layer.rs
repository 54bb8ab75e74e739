//! What differs in a container from its image as a layer on top of it (OCI image-spec, layer.md).

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::ArchiveError;
use super::changes::{self, Kind};
use super::writer::Writer;

/// Names a file of the layers below that is not there any more.
const WHITEOUT: &str = ".wh.";

/// Hides everything the layers below have in a directory.
const OPAQUE: &str = ".wh..wh..opq";

/// Writes the layer, uncompressed.
pub(in crate::container) fn write(
    upper: OwnedFd,
    lower: OwnedFd,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut writer = Writer::new(out);
    changes::walk(upper, lower, &mut |path, dir, child, below| match (child.kind, below) {
        (Kind::Deleted, _) if child.whiteout => writer.append_marker(&whiteout(path)),
        // Said by the directory's being opaque.
        (Kind::Deleted, _) => Ok(()),
        (_, Some(below)) => {
            writer.append_dir(path, &below.upper)?;
            // One that is new hides nothing, though the kernel may say so of it.
            if !below.opaque || child.kind == Kind::Added {
                return Ok(());
            }
            writer.append_marker(&path.join(OPAQUE))
        }
        (_, None) => writer.append(path, dir, &child.entry),
    })
    .and_then(|()| writer.finish())
    .map_err(ArchiveError::at(Path::new("/")))
}

fn whiteout(path: &Path) -> std::path::PathBuf {
    let mut name = OsString::from(WHITEOUT);
    name.push(path.file_name().unwrap_or(OsStr::new("")));
    path.with_file_name(name)
}
